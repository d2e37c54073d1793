package plan

import (
	"context"
	"maps"
	"slices"

	"cel.dev/cel-go/common/types"

	"postern/policies"
	"postern/service/upload"
)

// Checks are the rules of an operation that need the database. They are evaluated
// after the operation and before the commit. So they see the row as it really was
// and really will be, with the effects of earlier operations, defaults and triggers.
type Checks struct {
	w      *write
	before *Query // nil if no rule needs the row as it was
	after  *Query // nil if no rule needs the row as it will be

	new         []string // the columns of the row as it will be that rules look at
	early, late []*Query // lookups, by when they run
	quotas      []quota  // what lookups may count

	judges bool   // the operation may change only the row that before has read
	lock   *Query // locks a row that its user may delete and not update
	locks  bool   // before locks the row: its user may update it
}

// Before are the queries that run before the operation, in order.
func (c *Checks) Before() []*Query { return c.list([]*Query{c.lock, c.before}, c.early) }

// After are the queries that run after the operation, in order.
func (c *Checks) After() []*Query { return c.list([]*Query{c.after}, c.late) }

// Queries counts the queries of Before and After. c may be nil.
func (c *Checks) Queries() int {
	if c == nil {
		return 0
	}
	n := len(c.early) + len(c.late)
	for _, q := range []*Query{c.lock, c.before, c.after} {
		if q != nil {
			n++
		}
	}
	return n
}

func (c *Checks) list(optional, lookups []*Query) []*Query {
	return append(slices.DeleteFunc(optional, func(q *Query) bool { return q == nil }), lookups...)
}

// newChecks is nil if no rule needs the database.
func newChecks(w *write, texts texts) *Checks {
	if len(w.rules) == 0 {
		return nil
	}
	c := &Checks{w: w}
	var before []string
	needsBefore, locks := w.judgesOld(w.rules), w.judgesOld(enforced(w.rules))
	for _, rule := range w.rules {
		old, new := rule.Columns(w.table)
		before, c.new = append(before, old...), append(c.new, new...)
		for _, l := range rule.Lookups {
			if l.Shared && slices.ContainsFunc(slices.Concat(c.early, c.late), func(q *Query) bool { return q.lookup == l }) {
				continue
			}
			q := lookupQuery(w, rule, l, texts)
			if q.late {
				c.late = append(c.late, q)
			} else {
				c.early = append(c.early, q)
				needsBefore, locks = needsBefore || q.ofRow, locks || q.ofRow && !rule.Observes
			}
			if !rule.Observes {
				c.count(l)
			}
		}
	}
	if w.sent.Op == upload.Patch {
		before = append(before, c.new...) // for a user who may no longer see the row
	}
	if needsBefore {
		c.readBefore(before, locks, texts)
	}
	if !w.knows(c.new) {
		c.after = readRow(w, c.new, false, false, texts)
	}
	return c
}

// withoutValues are the checks for a shape to remember. It is nil if quotas depend on the
// values. c may be nil.
func (c *Checks) withoutValues() *Checks {
	if c == nil || len(c.quotas) > 0 {
		return nil
	}
	return c.with(nil)
}

// of are the checks of a write that has the shape. It is nil if what is known of the row
// differs, as with a value that Postgres may change. c may be nil.
func (c *Checks) of(w *write) *Checks {
	if c == nil || w.knows(c.new) != (c.after == nil) {
		return nil
	}
	return c.with(w)
}

// with has the values of another write, or of none.
func (c *Checks) with(w *write) *Checks {
	list := func(queries []*Query) []*Query {
		result := make([]*Query, len(queries))
		for i, q := range queries {
			result[i] = q.with(w)
		}
		return result
	}
	return &Checks{
		w: w, before: c.before.with(w), after: c.after.with(w), new: c.new,
		early: list(c.early), late: list(c.late), judges: c.judges, lock: c.lock.with(w), locks: c.locks,
	}
}

// readBefore has the row read, and locked if a rule may reject because of it.
func (c *Checks) readBefore(columns []string, locks bool, texts texts) {
	c.judges = locks
	c.locks = locks && slices.Contains(c.w.table.Grants[c.w.who.Role], "update")
	if locks && c.w.hardDeletes() {
		b := &builder{w: c.w}
		table, key := b.rowParams()
		c.lock = &Query{Statement: Statement{SQL: texts.once("select postern.lock_row(" + table + ", " + key + ")"), Args: b.args}, own: b.own}
	}
	c.before = readRow(c.w, columns, true, c.locks && !c.w.hardDeletes(), texts)
}

// Evaluate evaluates the rules with what the queries found. An error says that a
// rule could not be evaluated.
func (c *Checks) Evaluate(ctx context.Context, answers Answers) (rejection *upload.Rejection, err error) {
	in := c.w.input()
	in.SetData(c.w.data)
	if c.before != nil {
		row, err := c.before.row(answers)
		if err != nil {
			return nil, err
		}
		in.SetOld(row)
	}
	if c.after == nil {
		in.SetNew(c.w.new)
	} else {
		row, err := c.after.row(answers)
		if err != nil {
			return nil, err
		}
		if row == nil && (in.Op == upload.Put || in.Old() != nil) {
			row = c.hiddenRow(in.Old())
		}
		in.SetNew(row)
	}
	if in.Op != upload.Put && in.Old() == nil || in.Op != upload.Delete && in.New() == nil {
		return nil, nil // the operation touched no row that its user may see
	}
	found := map[*policies.Rule]map[string]policies.Row{nil: {}} // nil has those that all rules share
	for _, l := range slices.Concat(c.early, c.late) {
		rule := l.rule
		if l.lookup.Shared {
			rule = nil
		}
		if found[rule] == nil {
			found[rule] = map[string]policies.Row{}
		}
		if found[rule][l.lookup.Name], err = l.row(answers); err != nil {
			return nil, err
		}
	}
	in.Shared = found[nil]
	for _, rule := range c.w.rules {
		if !rule.AppliesToRow(in.Op, in.Old() != nil) {
			continue
		}
		in.Lookups = found[rule]
		rejection, err := rule.Check(ctx, &in)
		if rejection != nil {
			rejection.Operation = c.w.index
			rejection.ClientHandling = rejection.ClientHandling || c.w.policy.ClientHandling(rejection.Code)
		}
		if rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// hiddenRow is the new row if its writer may not see it, as in an insert-only table:
// what was sent, and for other columns the old value or null.
func (c *Checks) hiddenRow(old policies.Row) policies.Row {
	row := maps.Clone(c.w.new)
	for _, column := range c.after.columns {
		if _, ok := row[column.Name]; ok {
			continue
		}
		row[column.Name] = types.NullValue
		if was, ok := old[column.Name]; ok {
			row[column.Name] = was
		}
	}
	return row
}
