package plan

import (
	"slices"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// lookupQuery makes the query of a rule's lookup. A value that is known is a
// parameter; for others the query reads the stored row. If the operation decides
// what a column will be, the lookup runs after it, unless it needs the old row, too.
//
// Operations do not share a query, although one for all would cost less: a lookup sees what
// the operations before it have changed. Which ones change what it finds cannot be told from
// its text, because it may use views and functions, and writes have triggers and cascades.
func lookupQuery(w *write, rule *policies.Rule, l *policies.Lookup, texts texts) *Query {
	f := &lookupFiller{w: w, q: &Query{lookup: l, rule: rule}, usesOld: l.HasParameter(func(p policies.Parameter) bool { return p.From == "old" })}
	f.q.SQL = texts.once(l.SQL(f.fill))
	return f.q
}

// setLookupQuery makes the query of a lookup that decides what the policy sets. It runs
// before the operation, whose row is the one that the client wants.
func setLookupQuery(w *write, a *policies.Assignment, l *policies.Lookup, texts texts) *Query {
	f := &lookupFiller{w: w, q: &Query{lookup: l, sets: a}, wanted: true}
	f.q.SQL = texts.once(l.SQL(f.fill))
	return f.q
}

type lookupFiller struct {
	w       *write
	q       *Query
	usesOld bool
	wanted  bool // new is the row as the client wants it
}

func (f *lookupFiller) param(of func(*write) []byte) string { return f.q.param(f.w, of) }

// fill is the SQL that stands for a parameter of the lookup.
func (f *lookupFiller) fill(p policies.Parameter) string {
	switch {
	case p.From == "id":
		return f.param(func(w *write) []byte { return []byte(w.sent.ID) })
	case p.From == "auth" && p.Column == "role":
		return f.param(func(w *write) []byte { return []byte(w.who.Role) })
	case p.From == "auth":
		return f.param(func(w *write) []byte { return []byte(w.who.Subject) })
	}
	column := f.w.table.Column(p.Column)
	at := f.w.indexOf(column)
	if p.From == "new" && at >= 0 && (f.wanted || !f.w.dependsOnStored(column.Name)) {
		return p.Typed(f.param(ownValue(at)))
	}
	if p.From == "new" && f.wanted && f.w.sent.Op == upload.Put && f.w.policy.Put != policies.Merge {
		return p.Typed("null")
	}
	f.q.ofRow = true
	if f.w.setsInStored(column) && p.From == "new" && f.usesOld {
		exists, created := f.exists(), f.created(at)
		return "(case when " + exists + " then " + p.Typed(f.param(func(w *write) []byte { return w.inStored[column] })) + " else " + p.Typed(created) + " end)"
	}
	if p.From == "new" && slices.Contains(f.w.initial, column) && !f.w.setsInStored(column) {
		return "(case when " + f.exists() + " then (select " + p.ColumnOf("t") + f.fromRow() + ") else " + p.Typed(f.created(at)) + " end)"
	}
	if p.From == "new" && !f.usesOld && !f.wanted && f.changesWithOperation(column, at) {
		f.q.late = true
	}
	return "(select " + p.ColumnOf("t") + f.fromRow() + ")"
}

// created is what a new row gets in the column at an index of those that are written.
func (f *lookupFiller) created(at int) string {
	if at < 0 {
		return "null"
	}
	return f.param(ownValue(at))
}

// changesWithOperation reports whether the operation may give a column another
// value than the stored one.
func (f *lookupFiller) changesWithOperation(column *catalog.Column, at int) bool {
	return at >= 0 || f.w.setsInStored(column) || f.w.sent.Op == upload.Put && (column == nil || column.HasDefault || f.w.policy.Put == policies.Replace)
}

// exists is the condition that the row is stored.
func (f *lookupFiller) exists() string { return "exists (select" + f.fromRow() + ")" }

func (f *lookupFiller) fromRow() string {
	conditions := make([]string, f.w.keys)
	for i, c := range f.w.key() {
		conditions[i] = "t." + c.SQL() + " " + c.Equals() + " " + f.param(ownValue(i))
	}
	return " from " + f.w.table.SQL() + " as t where " + strings.Join(conditions, " and ")
}
