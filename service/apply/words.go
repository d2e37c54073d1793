package apply

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// words say what is wrong with a write that Postgres has rejected: in a sentence for the
// device's user, and in details for the app. Tables and columns have the client's names.
// A table that no policy opens to clients is named in the details alone.
type words struct {
	pg      *pgconn.PgError
	planned *plan.Operation   // the one that failed; nil if that is not known
	table   *catalog.Table    // that the error is about; nil if that is not known
	policy  *policies.Table   // of the table; nil if clients do not know it
	name    string            // the client's of the table
	value   *upload.Rejection // of a value that does not fit its column; nil if it is not known which
	set     *policies.Set
	tables  *catalog.Snapshot
}

// maxReason bounds what is quoted of Postgres' own message, in characters.
const maxReason = 300

// complete adds to a rejection what Postgres did not say: the operation that caused it,
// and words if it has none.
func complete(rejection *upload.Rejection, set *policies.Set, tables *catalog.Snapshot, t *transaction, f *failure) {
	var pg *pgconn.PgError
	if !errors.As(f.err, &pg) {
		return
	}
	if rejection.Operation < 0 && f.kind != operation {
		rejection.Operation = operationOf(tables, t.toSend(), pg)
	}
	w := words{pg: pg, set: set, tables: tables}
	if f.index == rejection.Operation {
		w.planned = f.operation
	}
	var sent *upload.Operation
	if rejection.Operation >= 0 {
		sent = &t.Transaction.Operations[rejection.Operation]
	}
	w.findTable(sent)
	rejection.Words = w.ofPolicy(rejection.Code)
	if rejection.Code == upload.Conflict {
		rejection.Details = map[string]any{"row": w.row()}
	}
	if rejection.Message != "" {
		return
	}
	if rejection.Code == upload.InvalidData {
		w.value = w.findValue()
	}
	rejection.Message, rejection.Details = w.message(rejection.Code), w.details()
}

// findTable finds the table that the error is about: the one that it names, or else that
// of the operation, unless a function of the application has failed. A partition has its
// table's name.
func (w *words) findTable(sent *upload.Operation) {
	w.table = w.tables.Table(w.pg.SchemaName, w.pg.TableName)
	if w.table == nil && w.planned != nil && (inFunction(w.pg) == "" || w.pg.Code == ledger.StateDeclined) {
		w.table = w.planned.Table
	}
	if w.table == nil {
		return
	}
	if sent != nil {
		if policy, _ := w.set.Decide(*sent); policy != nil && policy.Schema == w.table.Schema && policy.Name == w.table.Name {
			w.policy, w.name = policy, upload.Short(sent.Table)
			return
		}
	}
	w.name, w.policy = w.set.ClientTable(w.table)
}

// ofPolicy are the words that the table's policy has for what rejected the write; nil if it
// has none.
func (w *words) ofPolicy(code upload.Code) *upload.Words {
	switch {
	case w.policy == nil, isRaised(w.pg) && w.pg.Code != ledger.StateDeclined:
		return nil
	case w.pg.Code != ledger.StateDeclined:
		return w.policy.Words(w.pg.ConstraintName)
	case code == upload.ImmutableColumn:
		return w.policy.Words(policies.ImmutableMessage)
	case code == upload.Unauthorized:
		return w.policy.Words(policies.OwnerMessage)
	}
	return nil
}

// of is " of " and the client's name of the table; empty if clients do not know it.
func (w *words) of() string {
	if w.policy == nil {
		return ""
	}
	return " of " + w.name
}

// column is the client's name of a column, with that of its table.
func (w *words) column(name string) string {
	if w.policy == nil {
		return name
	}
	return w.name + "." + w.policy.ClientName(name)
}

// columns are the client's names of the columns of the constraint that was violated.
func (w *words) columns() (names []string) {
	if w.policy == nil {
		return nil
	}
	for _, name := range w.table.Constrained[w.pg.ConstraintName] {
		names = append(names, w.policy.ClientName(name))
	}
	return names
}

// row is the stored row of a conflict, with the client's names of its columns.
func (w *words) row() jsontext.Value {
	stored := jsontext.Value(w.pg.Hint)
	var columns map[string]jsontext.Value
	if w.policy == nil || len(w.policy.Columns) == 0 || json.Unmarshal(stored, &columns) != nil {
		return stored
	}
	renamed := make(map[string]jsontext.Value, len(columns))
	for name, value := range columns {
		renamed[w.policy.ClientName(name)] = value
	}
	row, err := json.Marshal(renamed, json.Deterministic(true))
	if err != nil {
		return stored
	}
	return row
}

// message is the sentence.
func (w *words) message(code upload.Code) string {
	switch {
	case w.pg.Code == ledger.StateDeclined:
		return "the row exists and is not yours to change"
	case code == upload.RejectedByDatabase: // Postgres' words may quote rows of other users
		return "the database cannot work with a value of this write"
	case code == upload.NotNullViolation && w.pg.ColumnName == "": // of a domain
		return fmt.Sprintf("%s must have a value", w.ofType())
	case code == upload.NotNullViolation:
		return fmt.Sprintf("%s must have a value", w.column(w.pg.ColumnName))
	case w.pg.Code == "23001", stillReferenced(w.pg):
		return fmt.Sprintf("other rows%s still refer to this one: change or delete them first", w.of())
	case code == upload.ForeignKeyViolation:
		return w.missingReference()
	case code == upload.UniqueViolation:
		return w.duplicate()
	case code == upload.CheckViolation:
		return w.failedCheck()
	case w.pg.Code == "23P01" && len(w.columns()) > 0:
		return fmt.Sprintf("this row%s conflicts with another one in its %s", w.of(), strings.Join(w.columns(), " and "))
	case code == upload.ConstraintViolation:
		return fmt.Sprintf("this row%s conflicts with a constraint of the database", w.of())
	case code == upload.SchemaMismatch:
		return "the write does not fit the tables of the database"
	case code == upload.Unauthorized && permissionDenied(w.pg) && w.policy != nil:
		return "you are not allowed to write this to " + w.name
	case code == upload.Unauthorized:
		return fmt.Sprintf("you are not allowed to write this row%s", w.of())
	case w.value != nil:
		return w.value.Message
	}
	return "a value cannot be stored: " + w.problem()
}

func (w *words) missingReference() string {
	subject, target := "this row"+w.of(), ""
	if w.table != nil {
		for _, key := range w.table.ForeignKeys {
			if key.Name != w.pg.ConstraintName {
				continue
			}
			if w.policy != nil && len(key.Columns) == 1 {
				subject = w.column(key.Columns[0])
			}
			if to := w.tables.TableByOID(key.References); to != nil {
				if name, known := w.set.ClientTable(to); known != nil {
					target = " of " + name
				}
			}
		}
	}
	return fmt.Sprintf("%s refers to a row%s that does not exist", subject, target)
}

func (w *words) duplicate() string {
	if columns := w.columns(); len(columns) > 0 {
		return fmt.Sprintf("another row%s already has this %s", w.of(), strings.Join(columns, " and "))
	}
	return fmt.Sprintf("another row%s already has the same value", w.of())
}

func (w *words) failedCheck() string {
	if w.pg.TableName == "" && w.pg.DataTypeName != "" {
		return fmt.Sprintf("%s has a value that is not allowed", w.ofType())
	}
	switch columns := w.columns(); len(columns) {
	case 0:
		return fmt.Sprintf("this row%s has a value that is not allowed", w.of())
	case 1:
		return fmt.Sprintf("%s.%s has a value that is not allowed", w.name, columns[0])
	default:
		return fmt.Sprintf("this row%s has values of %s that are not allowed together", w.of(), strings.Join(columns, " and "))
	}
}

// ofType is the column whose type is the domain that an error names, if the operation
// writes one such column.
func (w *words) ofType() string {
	found := ""
	if w.planned != nil && w.policy != nil {
		for _, column := range w.planned.Columns {
			if column.TypeName != w.pg.DataTypeName && column.TypeName != w.pg.SchemaName+"."+w.pg.DataTypeName {
				continue
			}
			if found != "" {
				return "a column"
			}
			found = w.column(column.Name)
		}
	}
	if found == "" {
		return "a column"
	}
	return found
}

// problem says what is wrong with a value, after a subject such as "it".
func (w *words) problem() string {
	switch w.pg.Code {
	case "22001":
		if most := lengthLimit.FindStringSubmatch(w.pg.Message); most != nil {
			return "it is longer than " + most[1] + " characters"
		}
		return "it is too long"
	case "22003":
		return "it is too large or too small"
	case "22007", "22008":
		return "it is not a valid date or time"
	case "22012":
		return "it leads to a division by zero"
	case "22021", "22P05":
		return "it has a character that the database cannot store"
	case "22P02", "22P03":
		return "it is not of the column's type"
	}
	return cmp.Or(w.reason(), "it is not valid")
}

// lengthLimit is the length in: value too long for type character varying(5).
var lengthLimit = regexp.MustCompile(`\((\d+)\)`)

// findValue finds the value that Postgres could not read. Postgres names no column for
// it: the column is found if the message quotes exactly one of the operation's values.
func (w *words) findValue() *upload.Rejection {
	if w.planned == nil || w.policy == nil {
		return nil
	}
	var found []int
	for i := range w.planned.Columns {
		if value := string(w.planned.Args[i]); w.planned.Args[i] != nil && strings.Contains(w.pg.Message, strconv.Quote(value)) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return nil
	}
	column, sent := w.planned.Columns[found[0]], string(w.planned.Args[found[0]])
	return plan.Unfit(w.name, w.policy, w.table, column, sent, w.problem())
}

// reason is Postgres' own message about values, for details; empty if it may quote
// other rows: those that a policy of row-level security or a trigger looks at.
func (w *words) reason() string {
	if inFunction(w.pg) != "" || w.value == nil && strings.Contains(w.pg.Message, `"`) {
		return ""
	}
	return upload.Cut(w.pg.Message, maxReason)
}

// details are for the app. They have the constraint, the rule of row-level security, and
// the table and column by the client's names.
func (w *words) details() map[string]any {
	d := map[string]any{}
	add := func(name, value string) {
		if value != "" {
			d[name] = value
		}
	}
	if w.pg.Code != ledger.StateDeclined { // Postern's own
		add("sqlstate", w.pg.Code)
	}
	add("table", w.pg.TableName)
	add("column", w.pg.ColumnName)
	add("constraint", w.pg.ConstraintName)
	if w.policy != nil {
		add("table", w.name)
		if w.pg.ColumnName != "" {
			add("column", w.policy.ClientName(w.pg.ColumnName))
		}
	}
	switch {
	case w.pg.Code == "42501":
		if rule := securityRule.FindStringSubmatch(w.pg.Message); rule != nil {
			add("rule", rule[1])
		}
	case strings.HasPrefix(w.pg.Code, "42"):
		add("reason", upload.Cut(w.pg.Message, maxReason)) // it names tables and columns alone
	case strings.HasPrefix(w.pg.Code, "22"):
		add("reason", w.reason())
	}
	if w.value != nil {
		maps.Copy(d, w.value.Details.(map[string]any))
	}
	return d
}

// securityRule is the name in: new row violates row-level security policy "a" for table "b".
// Postgres names restrictive ones.
var securityRule = regexp.MustCompile(`row-level security policy "(.+?)"`)
