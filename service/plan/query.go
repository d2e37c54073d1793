package plan

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Query reads the first row of what it selects.
type Query struct {
	Statement

	own     []own             // the arguments that differ between writes of one shape
	columns []*catalog.Column // of the result; nil for a lookup, which selects one JSON object
	lookup  *policies.Lookup  // nil if it reads the write's own row
	rule    *policies.Rule    // the lookup's, or of a query for the values of its each; nil if it is for a column that the policy sets
	sets    *policies.Assignment
	ofRow   bool // a lookup that reads the write's own row, too
	late    bool // it runs after the operation
}

// IsLookup reports whether the query is one of a rule or a column that the policy sets, and
// not one of an operation's row.
func (q *Query) IsLookup() bool { return q.rule != nil || q.lookup != nil }

// Observing is the rule that a query is for alone, if that rule only observes.
func (q *Query) Observing() []*policies.Rule {
	if q.rule != nil && q.rule.Observes {
		return []*policies.Rule{q.rule}
	}
	return nil
}

// Rule is the position and name of the rule, or of the column that the policy sets, that
// needs a lookup.
func (q *Query) Rule() string {
	if q.rule == nil {
		return q.sets.Position()
	}
	return q.rule.Position() + " " + q.rule.Name
}

// Answers are the rows that queries found. A query that found none is not in it.
type Answers map[*Query][][]byte

// row is the answer as expressions see it; nil if there is none. An expression that
// uses a value that CEL cannot hold fails, and others do not: one stored value must
// not keep everybody from writing.
func (q *Query) row(answers Answers) (policies.Row, error) {
	values, found := answers[q]
	if !found {
		return nil, nil
	}
	if q.lookup != nil {
		row, err := policies.RowFromJSON(values[0])
		if err != nil {
			return nil, q.unreadable()
		}
		return row, nil
	}
	row := make(policies.Row, len(q.columns))
	for i, c := range q.columns {
		value, err := policies.FromJSON(c.Type, jsontext.Value(values[i]))
		if err != nil {
			value = types.WrapErr(fmt.Errorf("%s: %w", c.Name, err))
		}
		row[c.Name] = value
	}
	return row, nil
}

// unreadable is the error of a lookup's row.
func (q *Query) unreadable() error {
	return &policies.RuleError{Rule: q.Rule(), Err: fmt.Errorf("lookup %s: the row is not a JSON object that expressions can read", q.lookup.Name)}
}

// param adds an argument that differs between writes of one shape.
func (q *Query) param(w *write, of func(*write) []byte) string {
	q.own = append(q.own, own{len(q.Args), of})
	q.Args = append(q.Args, of(w))
	return parameter(len(q.Args))
}

// with has the arguments of another write of the same shape, or of none. q may be nil.
func (q *Query) with(w *write) *Query {
	if q == nil {
		return nil
	}
	other := *q
	other.Args = slices.Clone(q.Args)
	for _, own := range q.own {
		other.Args[own.at] = nil
		if w != nil {
			other.Args[own.at] = own.of(w)
		}
	}
	return &other
}

// readRow selects columns of the write's row as JSON, a form that no setting
// changes. If the row is to be seen, the setting postern.seen says so afterwards.
func readRow(w *write, names []string, seen, lock bool, texts texts) *Query {
	q := &Query{}
	for i := range w.keys {
		q.param(w, ownValue(i))
	}
	for i := range w.table.Columns {
		if c := &w.table.Columns[i]; slices.Contains(names, c.Name) {
			q.columns = append(q.columns, c)
		}
	}
	selected := columnList(q.columns, func(c *catalog.Column) string { return "to_jsonb(t." + c.SQL() + ")" })
	if seen {
		if len(q.columns) > 0 {
			selected += ", "
		}
		selected += "set_config('postern.seen', " + q.param(w, (*write).seen) + ", true)"
	}
	from := w.table.SQL() + " as t where " + w.isRow()
	if lock { // in a query of its own: otherwise Postgres selects before it locks
		from = "(select " + columnList(q.columns, func(c *catalog.Column) string { return "t." + c.SQL() }) + " from " + from + " for update of t) as t"
	}
	q.SQL = texts.once("select " + selected + " from " + from)
	return q
}

// StoredRow is a query for the row that an operation means, whatever the policies
// allow: the whole row as a JSON object, and for each column in Names whether the
// stored value equals the one that the operation sends ("t" or "f").
type StoredRow struct {
	Statement
	Table *catalog.Table
	Names []string // the database's names of the columns that are compared
}

// StoredRow finds the row of an operation. A rejection says why the operation names
// no row, or sends a value that cannot be compared.
func (p *Planner) StoredRow(op upload.Operation) (*StoredRow, *upload.Rejection) {
	d := &drafter{Planner: p, write: &write{sent: &op, who: &p.Who}}
	rejection, err := d.locate()
	if err != nil {
		rejection = mismatch("%v", err)
	}
	if rejection != nil {
		return nil, rejection
	}
	b := &builder{w: d.write, args: slices.Clone(d.keyValues())}
	row := &StoredRow{Table: d.table, Statement: Statement{SQL: "select to_jsonb(t.*)"}}
	for _, m := range op.Data {
		column := d.policy.Find(d.table, m.Name)
		if column == nil && d.policy.IgnoreUnknown {
			continue
		}
		if column == nil {
			return nil, mismatch("table %s has no column %q", d.name(), upload.Short(m.Name))
		}
		sent, rejection := d.countEpoch(column, m.Value)
		if rejection != nil {
			return nil, rejection
		}
		text, err := value.Convert(d.table, column, sent)
		if err != nil {
			return nil, d.unfit(err)
		}
		row.Names = append(row.Names, column.Name)
		row.SQL += ", (" + equals(b, column, text) + ")"
	}
	row.SQL += " from " + d.table.SQL() + " as t where " + d.isRow()
	row.Args = b.args
	return row, nil
}

// SentRow is a query for the values that an operation sends, each as the JSON of what its
// column would hold.
type SentRow struct {
	Statement
	Names []string // the client's names of the columns
}

// SentRow leaves out values that do not fit their column. A rejection says why the
// operation names no row.
func (p *Planner) SentRow(op upload.Operation) (*SentRow, *upload.Rejection) {
	d := &drafter{Planner: p, write: &write{sent: &op, who: &p.Who}}
	rejection, err := d.locate()
	if err != nil {
		rejection = mismatch("%v", err)
	}
	if rejection != nil {
		return nil, rejection
	}
	row, selected := &SentRow{}, []string{}
	for _, m := range op.Data {
		column := d.policy.Find(d.table, m.Name)
		if column == nil {
			continue
		}
		sent, rejection := d.countEpoch(column, m.Value)
		if rejection != nil {
			continue
		}
		text, err := value.Convert(d.table, column, sent)
		if err != nil {
			continue
		}
		row.Names, row.Args = append(row.Names, m.Name), append(row.Args, text)
		selected = append(selected, "to_jsonb("+parameter(len(row.Args))+"::"+column.TypeName+")")
	}
	row.SQL = "select " + strings.Join(selected, ", ")
	return row, nil
}
