package plan

import (
	"bytes"
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/upload"
	"postern/service/value"
)

// Sets are the queries without which it is not known what the policy sets in the row of
// an operation. They run before the operation, which has no statement until Complete has
// their answers. The stored row is locked, and the statement changes only the row that
// was seen.
type Sets struct {
	p     *Planner
	w     *write // as the client sent it
	texts texts
	reads *Checks // the stored row, lookups, and what rules may count

	used [][][]byte // the answers that the operation was completed with; nil for no row

	dropped []*policies.Rule // see Operation.Drop
}

func newSets(p *Planner, w *write, texts texts) *Sets {
	d := &drafter{Planner: p, write: w}
	c := &Checks{w: w}
	var columns []string
	for _, a := range d.assignments() {
		old, new := a.Columns(w.table)
		columns = append(append(append(columns, old...), new...), a.Column)
		for _, l := range a.Lookups {
			if !slices.ContainsFunc(c.early, func(q *Query) bool { return q.lookup == l }) {
				c.early = append(c.early, setLookupQuery(w, a.Assignment, l, texts))
				c.count(l)
			}
		}
	}
	for _, rule := range w.policy.Rules { // whose locks come before the operations, too
		if rule.AppliesTo(w.sent.Op) {
			for _, l := range rule.Lookups {
				c.count(l)
			}
		}
	}
	if d.sent.Op == upload.Patch || d.mayUpdate() {
		c.readBefore(columns, true, texts)
	}
	return &Sets{p: p, w: w, texts: texts, reads: c}
}

// count notes what a lookup may count.
func (c *Checks) count(l *policies.Lookup) {
	if q, ok := newQuota(c.w, l); ok {
		c.quotas = append(c.quotas, q)
	}
}

// Queries are what Complete needs. They run before the operation, the row's last.
func (s *Sets) Queries() []*Query {
	if s.reads.before == nil { // of an insert
		return s.reads.early
	}
	return append(slices.Clone(s.reads.early), s.reads.before)
}

// Row is the same for two operations on one row.
func (s *Sets) Row() string { return string(s.w.seen()) }

// Complete gives the operation its statement, and removes the answers. It may be repeated
// with other answers. A rejection says that a rule forbids what the row would be. An error
// says that an expression could not be evaluated, or that its value does not fit its
// column.
func (o *Operation) Complete(ctx context.Context, answers Answers) (*upload.Rejection, error) {
	s := o.Sets
	found := Answers{}
	s.used = s.used[:0]
	for _, q := range s.Queries() {
		if row, ok := answers[q]; ok {
			found[q] = row
			delete(answers, q)
		}
		s.used = append(s.used, found[q])
	}
	w := *s.w
	w.columns, w.values = slices.Clone(w.columns), slices.Clone(w.values)
	d := &drafter{Planner: s.p, write: &w, in: w.input()}
	rejection, err := s.finish(ctx, d, found)
	if rejection != nil || err != nil {
		return d.ofOperation(rejection), err
	}
	completed := w.operation()
	completed.Checks = newChecks(&w, s.texts)
	completed = s.p.render(completed, &w, s.texts)
	completed.Drop(func(r *policies.Rule) bool { return slices.Contains(s.dropped, r) })
	completed.Sets = s
	*o = *completed
	return nil, nil
}

// drop lists the rules that are to be dropped when the operation is completed. s may be nil.
func (s *Sets) drop(isDropped func(*policies.Rule) bool) (dropped []*policies.Rule) {
	if s == nil {
		return nil
	}
	for _, r := range s.w.policy.Rules {
		if r.AppliesTo(s.w.sent.Op) && isDropped(r) && !slices.Contains(s.dropped, r) {
			dropped = append(dropped, r)
		}
	}
	return dropped
}

// Holds reports whether new answers are those that the operation was completed with, and
// removes them.
func (s *Sets) Holds(answers Answers) bool {
	holds := true
	for i, q := range s.Queries() {
		row, used := answers[q], s.used[i]
		holds = holds && (row == nil) == (used == nil) && slices.EqualFunc(row, used, bytes.Equal)
		delete(answers, q)
	}
	return holds
}

// finish sets what the policy sets and evaluates the rules that need only what was sent.
func (s *Sets) finish(ctx context.Context, d *drafter, found Answers) (*upload.Rejection, error) {
	old, err := s.oldRow(found)
	if err != nil {
		return nil, err
	}
	list := d.assignments()
	if old == nil && d.sent.Op == upload.Patch { // it touches no row, so that nothing is set
		for _, a := range list {
			d.put(a.column, nil)
		}
		return nil, nil
	}
	d.in.Shared = map[string]policies.Row{}
	for _, q := range s.reads.early {
		if d.in.Shared[q.lookup.Name], err = q.row(found); err != nil {
			return nil, err
		}
	}
	d.in.SetData(d.data)
	d.in.SetOld(old)
	d.in.SetNew(d.wanted(old))
	var apply []assigned
	for _, a := range list {
		switch {
		case old != nil && !a.forStored:
			s.keepStored(d, a, found)
		case old != nil || a.forNew:
			apply = append(apply, a)
		}
	}
	results, err := d.evaluate(ctx, apply)
	if err != nil {
		return nil, err
	}
	d.setAll(apply, results)
	return d.judge(ctx)
}

// oldRow is the stored row; nil if there is none.
func (s *Sets) oldRow(found Answers) (policies.Row, error) {
	if s.reads.before == nil {
		return nil, nil
	}
	return s.reads.before.row(found)
}

// keepStored gives a column that is set in new rows alone its stored value in the row that
// a PUT would insert, if it were new: Postgres checks that row, too.
func (s *Sets) keepStored(d *drafter, a assigned, found Answers) {
	at := slices.Index(s.reads.before.columns, a.column)
	if d.indexOf(a.column) >= 0 && !slices.Contains(d.policy.Immutable, a.Column) {
		return // it is what the client sent
	}
	stored, err := value.Convert(d.table, a.column, jsontext.Value(found[s.reads.before][at]))
	if err != nil {
		stored = nil
	}
	d.put(a.column, stored)
	d.assigned, d.initial = append(d.assigned, a.column), append(d.initial, a.column)
}
