package plan

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
	"postern/service/value"
)

// write is one operation whose table, columns and values are known.
type write struct {
	index   int // within the transaction
	sent    *upload.Operation
	who     *identity.Identity
	policy  *policies.Table
	table   *catalog.Table
	columns []*catalog.Column // the key's first
	values  [][]byte          // in the order of columns; nil is NULL
	keys    int               // how many of the columns are the key

	previous map[*catalog.Column][]byte // what the client saw before its change
	assigned []*catalog.Column          // those that the policy set
	initial  []*catalog.Column          // those of them that only a new row gets
	inStored map[*catalog.Column][]byte // what a PUT sets in a row that exists, if a new row gets another value
	counted  []byte                     // the version that a PATCH counts up to; nil if it names none
	waits    bool                       // what the policy sets depends on the stored row or a lookup; see Sets
	omits    bool                       // the client sent a column that the database makes, and it is left out

	shared *policies.TransactionInput
	data   policies.Row     // what was sent, if expressions look at it
	new    policies.Row     // what is known of the row as it will be, if rules need it later; see known
	rules  []*policies.Rule // those that need the stored row; those that only observe are last
	seenAs []byte           // see seen; nil until it is needed
}

// input is what expressions see of the operation, but for its rows.
func (w *write) input() policies.Input {
	return policies.Input{Operation: w.index, Policy: w.policy, Op: w.sent.Op, ID: w.sent.ID, Metadata: w.sent.Metadata, TransactionInput: w.shared}
}

// key are the columns of the row's key.
func (w *write) key() []*catalog.Column { return w.columns[:w.keys] }

// keyValues are the values of the row's key.
func (w *write) keyValues() [][]byte { return w.values[:w.keys] }

// indexOf is the place of a column among those that are written, or -1.
func (w *write) indexOf(column *catalog.Column) int { return slices.Index(w.columns, column) }

// value is what the write sets a column to.
func (w *write) value(column string) (value []byte, sets bool) {
	for i, c := range w.columns {
		if c.Name == column {
			return w.values[i], true
		}
	}
	return nil, false
}

func (w *write) setInStored(column *catalog.Column, value []byte) {
	if w.inStored == nil {
		w.inStored = map[*catalog.Column][]byte{}
	}
	w.inStored[column] = value
}

func (w *write) remove(at int) {
	w.columns, w.values = slices.Delete(w.columns, at, at+1), slices.Delete(w.values, at, at+1)
}

// isAssigned reports whether the policy set a column.
func (w *write) isAssigned(column *catalog.Column) bool { return slices.Contains(w.assigned, column) }

// isSetInStored reports whether the policy, and not the client, decides what a column of a
// stored row becomes.
func (w *write) isSetInStored(column *catalog.Column) bool {
	return slices.ContainsFunc(w.policy.Assignments, func(a policies.Assignment) bool {
		return a.Column == column.Name && !a.IsDefault() && a.AppliesToRow(w.sent.Op, true)
	})
}

// hardDeletes reports whether the write removes its row.
func (w *write) hardDeletes() bool { return w.sent.Op == upload.Delete && w.policy.SoftDelete == "" }

// changesNothing reports whether the write is a PATCH without columns.
func (w *write) changesNothing() bool {
	return w.sent.Op == upload.Patch && len(w.columns) == w.keys && w.counted == nil
}

// isLeftOut reports whether nothing is sent for the write.
func (w *write) isLeftOut() bool {
	return !w.waits && w.changesNothing() && len(enforced(w.rules)) == 0 && !w.policy.RejectMissing && !w.omits
}

// restsOnCatalogue is for TableUse.
func (w *write) restsOnCatalogue() bool {
	carriesNoType := func(c *catalog.Column) bool { return value.Respells(c.Type) && !c.Type.Known }
	return w.omits || (w.sent.Op != upload.Put || w.updates()) && !w.table.RowSecurity || slices.ContainsFunc(w.columns, carriesNoType) ||
		w.waits && slices.ContainsFunc(w.policy.Assignments, func(a policies.Assignment) bool { return carriesNoType(w.table.Column(a.Column)) })
}

// touchesStored reports whether the write may change a row that is stored.
func (w *write) touchesStored() bool {
	return !w.changesNothing() && !(w.sent.Op == upload.Put && w.policy.Put == policies.Insert)
}

// updates reports whether the write is a PUT that may only change a row that exists.
func (w *write) updates() bool { return w.sent.Op == upload.Put && w.policy.Updates() }

// rejectsMissing reports whether the write is rejected if its row does not exist.
func (w *write) rejectsMissing() bool {
	return w.policy.RejectMissing && w.sent.Op == upload.Patch || w.updates()
}

// privilege is what the operation needs on its table.
func (w *write) privilege() string {
	switch {
	case w.sent.Op == upload.Put && !w.updates():
		return "insert"
	case w.hardDeletes():
		return "delete"
	}
	return "update"
}

// Privilege is what the operation needs on its table: insert, update or delete.
func (o *Operation) Privilege() string { return o.privilege }

// Granted reports whether the user's role has the privilege that the operation
// needs.
func (o *Operation) Granted() bool {
	return slices.Contains(o.Table.Grants[o.who.Role], o.privilege)
}

// Named reports whether a policy names the operation's table, and does not open it with
// all others.
func (o *Operation) Named() bool { return o.named }

// QuotesClaim reports whether a message quotes the user's sub or another text of the
// claims: then the claims do not fit the database, as a sub that is no UUID. Another text
// may also be one that the operation sends, which counts as that.
func (o *Operation) QuotesClaim(message string) bool {
	match := quotedText.FindStringSubmatch(message)
	if match == nil {
		return false
	}
	quoted, err := jsontext.AppendQuote(nil, match[1])
	switch {
	case match[1] == o.who.Subject:
		return true
	case err != nil || !bytes.Contains(o.who.Claims, quoted):
		return false
	}
	return !slices.ContainsFunc(o.Args[:len(o.Columns)], func(v []byte) bool { return bytes.Contains(v, []byte(match[1])) })
}

var quotedText = regexp.MustCompile(`"(.+)"`)

// dependsOnStored reports whether the stored row decides what a column will be: by
// the conflict strategy, or because only a new row gets the value.
func (w *write) dependsOnStored(column string) bool {
	if slices.Contains(w.initial, w.table.Column(column)) || w.setsInStored(w.table.Column(column)) {
		return true
	}
	switch w.policy.Conflict.Of(column).Strategy {
	case policies.Version, policies.Increment, policies.Newest, policies.Latest:
		return true
	case policies.Fields:
		_, tracked := w.previous[w.table.Column(column)]
		return tracked
	}
	return false
}

// setsInStored reports whether a row that exists gets another value of a column than a
// new one.
func (w *write) setsInStored(column *catalog.Column) bool {
	_, sets := w.inStored[column]
	return sets
}

// judgesOld reports whether rules need the row as it was, or whether there was one, or
// what the policy sets does.
func (w *write) judgesOld(rules []*policies.Rule) bool {
	return w.waits || len(rules) > 0 && (w.sent.Op != upload.Put || slices.ContainsFunc(rules, func(r *policies.Rule) bool { return r.LooksAtOld() || r.DependsOnRow(upload.Put) }))
}

// known are the values of the row as it will be, as far as expressions look at them,
// they were sent or set, and Postgres keeps them unchanged.
func (w *write) known() policies.Row {
	if w.sent.Op == upload.Delete || !w.policy.HasExpressions() {
		return nil
	}
	row := make(policies.Row, len(w.columns))
	if w.mayBeTriggered() {
		return row
	}
	for i, column := range w.columns {
		if !w.policy.LooksAtNew(column.Name) || !value.Kept(column, w.values[i]) {
			continue
		}
		if value, err := policies.FromText(column.Type, w.values[i]); err == nil {
			row[column.Name] = value
		}
	}
	if c := w.versionColumn(); w.counted != nil { // it is not among the columns
		if value, err := policies.FromText(c.Type, w.counted); err == nil {
			row[c.Name] = value
		}
	}
	return row
}

// knows reports whether the write alone tells columns of the row as it will be. Any trigger
// may change the row, an AFTER trigger with a statement of its own.
func (w *write) knows(columns []string) bool {
	if w.sent.Op == upload.Delete || len(columns) == 0 {
		return true
	}
	if w.table.OtherTriggers || w.policy.Conflict.Strategy != policies.NoStrategy {
		return false
	}
	return !slices.ContainsFunc(columns, func(name string) bool {
		return w.new[name] == nil || w.new[name] == types.NullValue && w.table.Column(name).NotNull || w.dependsOnStored(name)
	})
}

// mayBeTriggered reports whether a BEFORE trigger may change any column of the row.
func (w *write) mayBeTriggered() bool {
	return w.sent.Op == upload.Patch && w.table.HasBeforeTrigger("UPDATE") ||
		w.sent.Op == upload.Put && (w.table.HasBeforeTrigger("INSERT") || w.table.HasBeforeTrigger("UPDATE"))
}

// seen is what the setting postern.seen holds once rules have read the row.
func (w *write) seen() []byte {
	if w.seenAs == nil {
		w.seenAs = w.rowKey().seen()
	}
	return w.seenAs
}

// versionColumn is the column that each change of an existing row counts up; nil if
// there is none.
func (w *write) versionColumn() *catalog.Column {
	if w.policy.Conflict.Strategy != policies.Version {
		return nil
	}
	return w.table.Column(w.policy.Conflict.Columns[0])
}

// protectsDeleted reports whether rows that a soft delete has deleted stay so.
func (w *write) protectsDeleted() bool { return w.policy.SoftDelete != "" && !w.policy.Bare }

// notDeleted is the condition that no soft delete has deleted the row t.
func (w *write) notDeleted() string {
	column := w.table.Column(w.policy.SoftDelete)
	if column.Type.Name == "bool" {
		return "t." + column.SQL() + " is not true"
	}
	return "t." + column.SQL() + " is null"
}

// isRow is the condition that t is the write's row. The key's values are the first
// parameters. For a PATCH or DELETE, a row that is softly deleted does not exist.
func (w *write) isRow() string {
	conditions := make([]string, w.keys)
	for i, c := range w.key() {
		conditions[i] = "t." + c.SQL() + " " + c.Equals() + " " + parameter(i+1)
	}
	if w.sent.Op != upload.Put && w.protectsDeleted() {
		conditions = append(conditions, w.notDeleted())
	}
	return strings.Join(conditions, " and ")
}
