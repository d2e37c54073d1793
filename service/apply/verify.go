package apply

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// verification is what the rules of an operation need of the database: they are
// asked after the operation was made, and before it is committed. So they see the
// row as it really was and really will be, with what the earlier operations of
// the transaction, defaults and triggers have made of it.
type verification struct {
	in     policies.Input
	rules  []*policies.Rule
	table  *catalog.Table
	policy *policies.Table

	lock          *query   // of a row to be deleted, which its user may have no right to lock
	before, after *query   // nil where no rule looks at them
	lookups       []*query // of all rules
	counts        []string // names of what lookups count of the table that is written
	name          string   // of the row, see write.seen
	key           []*catalog.Column
	values        [][]byte     // of the key
	locks         bool         // its user may lock the row
	sent          policies.Row // the new row as far as it was sent or set
}

// query is a step that reads.
type query struct {
	sql     string
	args    [][]byte
	columns []*catalog.Column // of the result; nil where it is one JSON object

	lookup *policies.Lookup // nil where it is none
	rule   *policies.Rule   // whose lookup it is
	of     *write           // the operation that needs it
	late   bool             // it comes after the operation
	ofRow  bool             // it reads the row that is written

	row   [][]byte // the first one, once read
	found bool
}

func newVerification(w *write) *verification {
	if len(w.rules) == 0 {
		return nil
	}
	v := &verification{in: w.in, rules: w.rules, table: w.table, policy: w.policy, name: string(w.seen()), key: w.columns[:w.keys], values: w.values[:w.keys], sent: w.in.New()}
	var before, after []string
	stored := w.judgesOld()            // whether the rules depend on the row as it was
	ahead := w.sent.Op == upload.Patch // and on the row as it will be: a PATCH may find none
	for _, rule := range w.rules {
		old, new := rule.Columns(w.table)
		before, after = append(before, old...), append(after, new...)
		ahead = ahead || rule.LooksAtNew()
		for _, l := range rule.Lookups {
			q := w.lookup(l)
			q.rule = rule
			v.lookups = append(v.lookups, q)
			stored = stored || q.ofRow && !q.late
			if name, ok := w.counts(l); ok {
				v.counts = append(v.counts, name)
			}
		}
	}
	if w.sent.Op == upload.Patch {
		before = append(before, after...) // should the user not see the row any more
	}
	if stored {
		v.readBefore(w, before)
	}
	if ahead && w.sent.Op != upload.Delete {
		v.after = w.read(after, nil, false)
	}
	return v
}

// readBefore has the row locked and read.
func (v *verification) readBefore(w *write, columns []string) {
	v.locks = slices.Contains(w.table.Grants[w.who.Role], "update")
	deletes := w.sent.Op == upload.Delete && w.policy.SoftDelete == ""
	if deletes {
		b := &builder{write: w}
		row, _ := b.row()
		v.lock = &query{sql: "select postern.lock(" + row + ")", args: b.args}
	}
	v.before = w.read(columns, w.seen(), v.locks && !deletes)
}

// read selects columns of the row, in the one form that no setting changes. seen,
// unless nil, is kept in the setting postern.seen where there is a row.
func (w *write) read(names []string, seen []byte, lock bool) *query {
	q := &query{of: w, args: w.values[:w.keys:w.keys]}
	var sql strings.Builder
	sql.WriteString("select ")
	for i := range w.table.Columns {
		if c := &w.table.Columns[i]; slices.Contains(names, c.Name) {
			q.columns = append(q.columns, c)
		}
	}
	list(&sql, q.columns, func(_ int, c *catalog.Column) string { return "to_jsonb(t." + c.SQL() + ")" })
	if seen != nil {
		if len(q.columns) > 0 {
			sql.WriteString(", ")
		}
		q.args = append(q.args, seen)
		sql.WriteString("set_config('postern.seen', " + parameter(len(q.args)) + ", true)")
	}
	from := w.table.SQL() + " as t where " + w.key()
	if lock { // in a query of its own: else what is selected comes before the lock
		var names strings.Builder
		list(&names, q.columns, func(_ int, c *catalog.Column) string { return "t." + c.SQL() })
		from = "(select " + names.String() + " from " + from + " for update of t) as t"
	}
	sql.WriteString(" from " + from)
	q.sql = sql.String()
	return q
}

// counts names what a lookup may count: rows of the table that is written, of one
// user where it asks for them. A row that another request is about to write is
// seen by nobody yet, so such requests have to wait for each other.
func (w *write) counts(l *policies.Lookup) (name string, ok bool) {
	whose := ""
	sql := l.SQL(func(p policies.Parameter) string {
		if p.From == "auth" && p.Column == "sub" {
			return "$auth.sub"
		}
		return "$"
	})
	if ofUser.MatchString(sql) && !alternative.MatchString(sql) {
		whose = w.who.Subject
	}
	return fmt.Sprintf("postern %d %s %s", w.table.OID, whose, sql), slices.Contains(words.FindAllString(strings.ToLower(sql), -1), strings.ToLower(w.table.Name))
}

var (
	ofUser      = regexp.MustCompile(`(?i)\b(where|and)\s+[\w.":]+\s*=\s*\$auth\.sub(\s|$)`)
	alternative = regexp.MustCompile(`(?i)\b(or|union)\b`)
)

var words = regexp.MustCompile(`[\pL_][\pL\pN_$]*`)

// lookup makes a lookup's query: with values where they are known, else it reads
// the stored row. Where what a column will be shows only after the operation, the
// lookup comes late, unless it asks for what it was, too.
func (w *write) lookup(l *policies.Lookup) *query {
	q := &query{lookup: l, of: w}
	param := func(value []byte) string {
		q.args = append(q.args, value)
		return parameter(len(q.args))
	}
	old := l.HasParameter(func(p policies.Parameter) bool { return p.From == "old" })
	q.sql = l.SQL(func(p policies.Parameter) string {
		switch {
		case p.From == "id":
			return param([]byte(w.sent.ID))
		case p.From == "auth" && p.Column == "role":
			return param([]byte(w.who.Role))
		case p.From == "auth":
			return param([]byte(w.who.Subject))
		}
		column := w.table.Column(p.Column)
		at := w.indexOf(column)
		if p.From == "new" && at >= 0 && !w.depends(column.Name) {
			return p.Typed(param(w.values[at]))
		}
		q.ofRow = true
		row := func() string {
			conditions := make([]string, w.keys)
			for i, c := range w.columns[:w.keys] {
				conditions[i] = "t." + c.SQL() + " = " + param(w.values[i])
			}
			return " from " + w.table.SQL() + " as t where " + strings.Join(conditions, " and ")
		}
		if p.From == "new" && slices.Contains(w.initial, column) {
			return "(case when exists (select" + row() + ") then (select " + p.ColumnOf("t") + row() + ") else " + p.Typed(param(w.values[at])) + " end)"
		}
		q.late = q.late || p.From == "new" && !old && (at >= 0 || w.sent.Op == upload.Put && (column == nil || column.HasDefault || w.policy.Put == policies.Replace))
		return "(select " + p.ColumnOf("t") + row() + ")"
	})
	return q
}

// check asks the rules, once everything was read.
func (v *verification) check(ctx context.Context) (*upload.Rejection, error) {
	var err error
	if v.before != nil {
		old, err := v.before.result()
		if v.in.SetOld(old); err != nil {
			return nil, err
		}
	}
	if v.after != nil {
		after, err := v.after.result()
		if v.in.SetNew(after); err != nil {
			return nil, err
		}
		if v.in.New() == nil && (v.in.Op == upload.Put || v.in.Old() != nil) {
			v.in.SetNew(v.unseen())
		}
	}
	found := map[*policies.Rule]map[string]policies.Row{}
	for _, l := range v.lookups {
		if found[l.rule] == nil {
			found[l.rule] = map[string]policies.Row{}
		}
		if found[l.rule][l.lookup.Name], err = l.result(); err != nil {
			return nil, err
		}
	}
	return v.ask(ctx, found)
}

// unseen is a row that its own writer may not see, as tables are that are only
// inserted into, or may not see any more: what was sent of it, and for the rest
// what it was, or null.
func (v *verification) unseen() policies.Row {
	row := maps.Clone(v.sent)
	for _, c := range v.after.columns {
		if _, ok := row[c.Name]; ok {
			continue
		}
		row[c.Name] = types.NullValue
		if was, ok := v.in.Old()[c.Name]; ok {
			row[c.Name] = was
		}
	}
	return row
}

func texts(values [][]byte) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = string(value)
	}
	return out
}

// ask asks the rules about the rows in the input, each with its own lookups. There
// is nothing to ask where the operation touched no row, or one that its user may
// not see.
func (v *verification) ask(ctx context.Context, lookups map[*policies.Rule]map[string]policies.Row) (*upload.Rejection, error) {
	if v.in.Op == upload.Delete && v.in.Old() == nil || v.in.Op != upload.Delete && v.in.New() == nil {
		return nil, nil
	}
	for _, rule := range v.rules {
		v.in.Lookups = lookups[rule]
		rejection, err := rule.Check(ctx, &v.in)
		if rejection != nil {
			rejection.ClientHandling = rejection.ClientHandling || v.policy.ClientHandling(rejection.Code)
		}
		if rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// take keeps a row that was read.
func (q *query) take(row [][]byte) {
	q.row, q.found = make([][]byte, len(row)), true
	for i, value := range row {
		q.row[i] = bytes.Clone(value)
	}
}

// result is the row as expressions see it; nil where there is none. Looking at a
// value that CEL cannot hold fails, and looking at the others does not: whoever
// stored it must not keep all others from writing.
func (q *query) result() (policies.Row, error) {
	if !q.found {
		return nil, nil
	}
	if q.lookup != nil {
		row, err := policies.RowFromJSON(q.row[0])
		if err != nil {
			return nil, &policies.RuleError{Rule: q.rule.Position() + " " + q.rule.Name, Err: fmt.Errorf("lookup %s: %w", q.lookup.Name, err)}
		}
		return row, nil
	}
	row := make(policies.Row, len(q.columns))
	for i, c := range q.columns {
		value, err := policies.FromJSON(c.Type, jsontext.Value(q.row[i]))
		if err != nil {
			value = types.WrapErr(fmt.Errorf("%s: %w", c.Name, err))
		}
		row[c.Name] = value
	}
	return row, nil
}
