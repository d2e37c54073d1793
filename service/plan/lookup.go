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
func lookupQuery(w *write, rule *policies.Rule, l *policies.Lookup, texts texts) *Query {
	f := &lookupFiller{w: w, q: &Query{lookup: l, rule: rule}, usesOld: l.HasParameter(func(p policies.Parameter) bool { return p.From == "old" })}
	f.q.SQL = texts.once(l.SQL(f.fill))
	return f.q
}

type lookupFiller struct {
	w       *write
	q       *Query
	usesOld bool
}

func (f *lookupFiller) param(value []byte) string {
	f.q.Args = append(f.q.Args, value)
	return parameter(len(f.q.Args))
}

// fill is the SQL that stands for a parameter of the lookup.
func (f *lookupFiller) fill(p policies.Parameter) string {
	switch {
	case p.From == "id":
		return f.param([]byte(f.w.sent.ID))
	case p.From == "auth" && p.Column == "role":
		return f.param([]byte(f.w.who.Role))
	case p.From == "auth":
		return f.param([]byte(f.w.who.Subject))
	}
	column := f.w.table.Column(p.Column)
	at := f.w.indexOf(column)
	if p.From == "new" && at >= 0 && !f.w.dependsOnStored(column.Name) {
		return p.Typed(f.param(f.w.values[at]))
	}
	f.q.ofRow = true
	if stored, ok := f.w.inStored[column]; ok && p.From == "new" && f.usesOld {
		exists, created := f.exists(), "null"
		if at >= 0 {
			created = f.param(f.w.values[at])
		}
		return "(case when " + exists + " then " + p.Typed(f.param(stored)) + " else " + p.Typed(created) + " end)"
	}
	if p.From == "new" && slices.Contains(f.w.initial, column) && !f.w.setsInStored(column) {
		return "(case when " + f.exists() + " then (select " + p.ColumnOf("t") + f.fromRow() + ") else " + p.Typed(f.param(f.w.values[at])) + " end)"
	}
	if p.From == "new" && !f.usesOld && f.changesWithOperation(column, at) {
		f.q.late = true
	}
	return "(select " + p.ColumnOf("t") + f.fromRow() + ")"
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
		conditions[i] = "t." + c.SQL() + " " + c.Equals() + " " + f.param(f.w.values[i])
	}
	return " from " + f.w.table.SQL() + " as t where " + strings.Join(conditions, " and ")
}
