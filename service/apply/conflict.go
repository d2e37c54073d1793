package apply

import (
	"slices"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// checkConflict rejects what the table's strategy cannot judge for want of
// something the client has to send.
func (w *write) checkConflict() *upload.Rejection {
	c := w.policy.Conflict
	switch {
	case c.Strategy == policies.NoStrategy, w.sent.Op == upload.Delete, w.sent.Op == upload.Patch && len(w.columns) == w.keys:
		return nil
	case c.Strategy == policies.Newest:
		if w.indexOf(w.table.Column(c.Columns[0])) < 0 {
			return invalid("%s.%s decides which write of a row is the newest: send it with each change", w.table, c.Columns[0])
		}
		if at := w.indexOf(w.table.Column(c.Columns[0])); w.values[at] == nil {
			return invalid("%s.%s decides which write of a row is the newest, and cannot be null", w.table, c.Columns[0])
		}
	case w.sent.Op == upload.Put:
		return nil
	case c.Strategy == policies.Version:
		column := w.table.Column(c.Columns[0])
		at := w.indexOf(column)
		switch _, ok := w.previous[column]; {
		case at < 0 && !ok:
			return invalid("%s.%s counts the changes of a row: count it up with each change, or track its previous value", w.table, column.Name)
		case at >= 0 && w.values[at] == nil:
			return invalid("%s.%s counts the changes of a row, and cannot be null", w.table, column.Name)
		case at >= 0: // it is counted here
			w.counted = w.values[at]
			w.remove(at)
		}
	case c.Strategy == policies.Increment:
		for _, name := range c.Columns {
			column := w.table.Column(name)
			if _, ok := w.previous[column]; !ok && w.indexOf(column) >= 0 {
				return w.untracked(column)
			}
		}
	default:
		for _, column := range w.columns[w.keys:] {
			if _, ok := w.previous[column]; !ok && w.tracked(column) {
				return w.untracked(column)
			}
		}
	}
	return nil
}

func (w *write) untracked(column *catalog.Column) *upload.Rejection {
	return invalid("the previous value of %s.%s is needed to tell whether the row has changed meanwhile: let the client's table track it (trackPrevious)", w.table, column.Name)
}

// tracked reports whether a column is the client's, and not set by the policy.
func (w *write) tracked(column *catalog.Column) bool {
	return column.Name != w.policy.Owner && !slices.ContainsFunc(w.policy.Assignments, func(a policies.Assignment) bool { return a.Column == column.Name })
}

// guard adds the conditions of ownership, of columns that keep their value, and
// of the table's conflict strategy.
func (b *builder) guard() {
	if b.sent.Op == upload.Put && b.policy.Put == policies.Insert {
		return // it never touches a stored row
	}
	if b.policy.Owner != "" {
		column := b.table.Column(b.policy.Owner)
		b.guards = append(b.guards, guard{"t." + column.SQL() + " = " + b.param([]byte(b.who.Subject)), upload.Unauthorized})
	}
	if b.sent.Op == upload.Put && b.policy.Put != policies.Insert {
		for _, name := range b.policy.Immutable {
			if at := b.indexOf(b.table.Column(name)); at >= b.keys && !b.isAssigned(b.columns[at]) {
				b.guards = append(b.guards, guard{b.is(b.columns[at], b.values[at]), upload.ImmutableColumn})
			}
		}
	}
	switch c := b.policy.Conflict; c.Strategy {
	case policies.Newest:
		if at := b.indexOf(b.table.Column(c.Columns[0])); at >= 0 {
			column := "t." + b.columns[at].SQL()
			b.guards = append(b.guards, guard{"(" + column + " is null or " + column + " <= " + b.param(b.values[at]) + rounded(b.columns[at]) + ")", dropped})
		}
	case policies.Version:
		b.guardVersion(b.table.Column(c.Columns[0]))
	case policies.Server:
		b.guardUnchanged(dropped)
	case policies.Reject:
		b.guardUnchanged(upload.Conflict)
	}
	if b.judgesOld() {
		b.guards = append(b.guards, guard{"current_setting('postern.seen', true) = " + b.param(b.seen()), again})
	}
}

// guardVersion expects the count that the client has seen: what it was before
// its change, or one less than it was counted up to.
func (b *builder) guardVersion(column *catalog.Column) {
	cast := "::" + column.Type.Name
	counted := b.counted
	if at := b.indexOf(column); at >= 0 {
		counted = b.values[at]
	}
	if previous, ok := b.previous[column]; ok {
		b.guards = append(b.guards, guard{"t." + column.SQL() + " = " + b.param(previous) + cast, upload.Conflict})
	} else if counted != nil {
		b.guards = append(b.guards, guard{"t." + column.SQL() + " = " + b.param(counted) + cast + " - 1", upload.Conflict})
	}
}

// counter is the column that each change of an existing row counts up; nil where
// there is none.
func (w *write) counter() *catalog.Column {
	if w.policy.Conflict.Strategy != policies.Version {
		return nil
	}
	return w.table.Column(w.policy.Conflict.Columns[0])
}

// guardUnchanged expects every value that the client had before its change. A
// PUT has none: for it, a row that exists is a changed one.
func (b *builder) guardUnchanged(code upload.Code) {
	if b.sent.Op == upload.Put && b.previous == nil {
		b.guards = append(b.guards, guard{"false", code})
		return
	}
	for i := range b.table.Columns {
		column := &b.table.Columns[i]
		if previous, ok := b.previous[column]; ok {
			b.guards = append(b.guards, guard{b.is(column, previous), code})
		}
	}
}

// is compares the stored value with another one, NULL being equal to NULL.
func (b *builder) is(column *catalog.Column, value []byte) string {
	switch column.Type.Name {
	case "json", "xml", "point", "polygon": // which have no equality
		return "t." + column.SQL() + "::text is not distinct from " + b.param(value) + "::" + column.Type.Name + "::text"
	}
	if strings.HasPrefix(column.TypeName, "json[") {
		return "t." + column.SQL() + "::text is not distinct from " + b.param(value) + "::json[]::text"
	}
	return "t." + column.SQL() + " is not distinct from " + b.param(value) + rounded(column)
}

// rounded is the cast to a declared scale or precision, to which the stored value
// was rounded.
func rounded(column *catalog.Column) string {
	if column.Modifier >= 0 && strings.Contains(column.TypeName, "(") {
		return "::" + column.TypeName
	}
	return ""
}

// stored is what an existing row's column is set to, given the SQL of the value
// that was sent.
func (b *builder) stored(column *catalog.Column, sent string) string {
	c := b.policy.Conflict
	previous, tracked := b.previous[column]
	switch {
	case c.Strategy == policies.Version && column.Name == c.Columns[0]:
		return "t." + column.SQL() + " + 1"
	case c.Strategy == policies.Increment && slices.Contains(c.Columns, column.Name):
		if !tracked {
			return "t." + column.SQL() // a PUT of a row that exists adds nothing
		}
		if b.sentNull(column) {
			return sent
		}
		cast := "::" + column.Type.Name
		difference := sent + cast
		if previous != nil {
			difference = "(" + sent + cast + " - " + b.param(previous) + cast + ")"
		}
		return "coalesce(t." + column.SQL() + ", 0) + " + difference // what is NULL counts from zero
	case c.Strategy == policies.Fields && tracked:
		return "case when " + b.is(column, previous) + " then " + sent + " else t." + column.SQL() + " end"
	}
	return sent
}

// sentNull reports whether the write sets a column to NULL.
func (w *write) sentNull(column *catalog.Column) bool {
	at := w.indexOf(column)
	return at >= 0 && w.values[at] == nil
}
