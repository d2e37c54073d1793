package plan

import (
	"slices"
	"strings"
	"time"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// A conflict strategy has up to four parts: what the client must send (checkConflict),
// a guard on the stored row (addConflictGuards), the value that a column gets (newValue),
// and what it did with the write (resolution.go).

// checkConflict rejects a write that lacks what the table's strategy needs.
func (d *drafter) checkConflict() *upload.Rejection {
	c := d.policy.Conflict
	switch {
	case c.Strategy == policies.NoStrategy, d.sent.Op == upload.Delete, d.sent.Op == upload.Patch && len(d.columns) == d.keys:
		return nil
	case c.Strategy == policies.Newest:
		return d.checkNewest(d.table.Column(c.Columns[0]))
	case c.Strategy == policies.ByColumn:
		return d.checkByColumn()
	case d.sent.Op == upload.Put:
		return nil
	case c.Strategy == policies.Version:
		return d.takeVersion(d.table.Column(c.Columns[0]))
	case c.Strategy == policies.Increment:
		for _, name := range c.Columns {
			column := d.table.Column(name)
			if _, ok := d.previous[column]; !ok && d.indexOf(column) >= 0 {
				return d.needsPrevious(column)
			}
		}
		return nil
	}
	for _, column := range d.columns[d.keys:] {
		if _, ok := d.previous[column]; !ok && d.sentByClient(column) {
			return d.needsPrevious(column)
		}
	}
	return nil
}

// checkByColumn checks what the strategy of each column that was sent needs. A PUT needs
// no previous values.
func (d *drafter) checkByColumn() *upload.Rejection {
	for _, column := range d.columns[d.keys:] {
		s := d.policy.Conflict.Of(column.Name)
		_, tracked := d.previous[column]
		switch s.Strategy {
		case policies.Newest:
			if slices.Contains(d.initial, column) {
				continue
			}
			if rejection := d.checkNewest(d.table.Column(s.Columns[0])); rejection != nil {
				return rejection
			}
		case policies.Fields, policies.Increment, policies.Reject:
			if !tracked && d.sent.Op == upload.Patch {
				return d.needsPrevious(column)
			}
		}
	}
	return nil
}

// boundTimes makes now of a time that is further ahead than the policy lets a device's
// clock be.
func (d *drafter) boundTimes() *upload.Rejection {
	if s := d.policy.Conflict.Strategy; s != policies.Newest && s != policies.ByColumn {
		return nil
	}
	for i, column := range d.columns {
		ahead := d.policy.Conflict.Ahead(column.Name)
		if ahead == 0 || d.values[i] == nil {
			continue
		}
		if at, err := policies.ParseMoment(string(d.values[i])); err == nil && !at.After(d.Now.Add(ahead)) {
			continue
		}
		now, err := value.Convert(d.table, column, quoted(d.Now.UTC().Format(time.RFC3339Nano)))
		if err != nil {
			return d.unfit(err)
		}
		d.values[i] = now
	}
	return nil
}

func (d *drafter) checkNewest(column *catalog.Column) *upload.Rejection {
	switch at := d.indexOf(column); {
	case at < 0:
		return invalid("%s decides which write of a row is the newest: send it with each change", d.column(column))
	case d.values[at] == nil:
		return invalid("%s decides which write of a row is the newest: send a value, not null", d.column(column))
	}
	return nil
}

// takeVersion takes the count out of the columns that are set: it is counted up in
// SQL.
func (d *drafter) takeVersion(column *catalog.Column) *upload.Rejection {
	at := d.indexOf(column)
	switch _, ok := d.previous[column]; {
	case at < 0 && !ok:
		return invalid("%s counts the changes of a row: count it up with each change, or track its previous value", d.column(column))
	case at >= 0 && d.values[at] == nil:
		return invalid("%s counts the changes of a row: send a number, not null", d.column(column))
	case at >= 0:
		d.counted = d.values[at]
		d.remove(at)
	}
	return nil
}

func (d *drafter) needsPrevious(column *catalog.Column) *upload.Rejection {
	r := invalid("this change of %s cannot be compared with the stored row", d.column(column))
	r.Details = map[string]any{
		"table": d.name(), "column": d.policy.ClientName(column.Name),
		"reason": "the previous value is missing: let the client's table track it (trackPrevious)",
	}
	return r
}

// sentByClient reports whether the client sends a column, and the policy does not
// set it.
func (d *drafter) sentByClient(column *catalog.Column) bool {
	return column.Name != d.policy.Owner && !slices.ContainsFunc(d.policy.Assignments, func(a policies.Assignment) bool { return a.Column == column.Name })
}

func addConflictGuards(b *builder) {
	switch c := b.w.policy.Conflict; c.Strategy {
	case policies.Newest:
		if at := b.w.indexOf(b.w.table.Column(c.Columns[0])); at >= 0 {
			b.addGuard(Dropped, "("+isNewer(b, at)+")")
		}
	case policies.ByColumn:
		guardColumns(b)
	case policies.Version:
		guardVersion(b, b.w.table.Column(c.Columns[0]))
	case policies.Server:
		guardUnchanged(b, Dropped)
	case policies.Reject:
		guardUnchanged(b, upload.Conflict)
	}
}

// isNewer is the condition that the stored time is not later than the one that is
// written, the value at an index.
func isNewer(b *builder, at int) string {
	column := "t." + b.w.columns[at].SQL()
	return column + " is null or " + column + " <= " + b.param(b.w.values[at]) + rounded(b.w.columns[at])
}

// guardColumns expects the previous values of the columns that reject a conflict, if they
// are written, and of a DELETE all that it has. A PUT without one may repeat what is
// stored.
func guardColumns(b *builder) {
	for i := range b.w.table.Columns {
		column := &b.w.table.Columns[i]
		at := b.w.indexOf(column)
		expected, tracked := b.w.previous[column]
		switch {
		case b.w.policy.Conflict.Of(column.Name).Strategy != policies.Reject, slices.Contains(b.w.initial, column):
			continue
		case at < 0 && (b.w.sent.Op != upload.Delete || !tracked):
			continue
		case !tracked:
			expected = b.w.values[at]
		}
		b.addGuard(upload.Conflict, equals(b, column, expected))
	}
}

// guardVersion expects the count that the client has seen: its previous value, or
// one less than it was counted up to.
func guardVersion(b *builder, column *catalog.Column) {
	cast := "::" + column.Type.Name
	counted := b.w.counted
	if at := b.w.indexOf(column); at >= 0 {
		counted = b.w.values[at]
	}
	if previous, ok := b.w.previous[column]; ok {
		b.addGuard(upload.Conflict, "t."+column.SQL()+" = "+b.param(previous)+cast)
	} else if counted != nil {
		b.addGuard(upload.Conflict, "t."+column.SQL()+" = "+b.param(counted)+cast+" - 1")
	}
}

// guardUnchanged expects every value that the client saw before its change. A PUT
// has no previous values: if its row exists, it has changed.
func guardUnchanged(b *builder, code upload.Code) {
	if b.w.sent.Op == upload.Put && b.w.previous == nil {
		b.addGuard(code, "false")
		return
	}
	for i := range b.w.table.Columns {
		column := &b.w.table.Columns[i]
		if previous, ok := b.w.previous[column]; ok {
			b.addGuard(code, equals(b, column, previous))
		}
	}
}

// equals compares the stored value with another one, NULL being equal to NULL.
func equals(b *builder, column *catalog.Column, value []byte) string {
	switch column.Type.Name {
	case "json", "xml", "point", "polygon", "jsonpath", // these have no equality
		"box", "circle", "path": // that of these compares their sizes
		return "t." + column.SQL() + "::text is not distinct from " + b.param(value) + "::" + column.Type.Name + "::text"
	}
	if strings.HasPrefix(column.TypeName, "json[") {
		return "t." + column.SQL() + "::text is not distinct from " + b.param(value) + "::json[]::text"
	}
	if !column.Type.Known && column.Type.Kind == catalog.Base && column.Type.EqualityIn == "" { // an extension's, such as lquery
		return "t." + column.SQL() + "::text is not distinct from coalesce(" + b.param(value) + ", " + b.w.table.Null(column) + ")::text"
	}
	stored, sent := "t."+column.SQL(), b.param(value)+rounded(column)
	if column.Type.EqualityIn != "" {
		return "coalesce(" + stored + " " + column.Equals() + " " + sent + ", " + stored + " is null and " + sent + " is null)"
	}
	return stored + " is not distinct from " + sent
}

// rounded is the cast to a declared scale or precision, to which the stored value
// was rounded. A type of an extension only checks its modifier, and the user's role may not
// know its name.
func rounded(column *catalog.Column) string {
	if column.Modifier >= 0 && column.Type.Known && strings.Contains(column.TypeName, "(") {
		return "::" + column.TypeName
	}
	return ""
}

// newValue is the SQL of what an existing row's column is set to, given the SQL of
// the value that was sent.
func newValue(b *builder, column *catalog.Column, sent string) string {
	s := b.w.policy.Conflict.Of(column.Name)
	previous, tracked := b.w.previous[column]
	stored := "t." + column.SQL()
	switch s.Strategy {
	case policies.Version:
		return stored + " + 1"
	case policies.Increment:
		return incremented(b, column, sent)
	case policies.Latest:
		return "greatest(" + stored + ", " + sent + ")"
	case policies.Fields:
		if tracked && !b.w.isSetInStored(column) {
			return "case when " + equals(b, column, previous) + " then " + sent + " else " + stored + " end"
		}
	case policies.Newest:
		if at := b.w.indexOf(b.w.table.Column(s.Columns[0])); at >= 0 {
			return "case when " + isNewer(b, at) + " then " + sent + " else " + stored + " end"
		}
	}
	return sent
}

// incremented adds what the client has added. NULL counts as zero. A PUT of a row
// that exists adds nothing, as it says nothing of the value before.
func incremented(b *builder, column *catalog.Column, sent string) string {
	previous, tracked := b.w.previous[column]
	if !tracked {
		return "t." + column.SQL()
	}
	if at := b.w.indexOf(column); at >= 0 && b.w.values[at] == nil {
		return sent
	}
	cast := "::" + column.Type.Name
	difference := sent + cast
	if previous != nil {
		difference = "(" + sent + cast + " - " + b.param(previous) + cast + ")"
	}
	return "coalesce(t." + column.SQL() + ", 0) + " + difference
}
