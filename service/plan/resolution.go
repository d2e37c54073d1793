package plan

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/upload"
)

// Resolution is what a conflict strategy did with a write, or with one of its columns.
type Resolution struct {
	Column   string // in the database; empty if the whole write was dropped
	Strategy policies.Strategy
	Merged   bool // the stored value has the write's change, too; otherwise the change was dropped
}

// Resolves reports whether the answer of the operation's statement may tell of a
// resolution.
func (o *Operation) Resolves() bool { return len(o.resolves) > 0 }

// Resolved reads the answer of the operation's statement.
func (o *Operation) Resolved(answer string) (resolved []Resolution) {
	for i, r := range o.resolves {
		if r.Column == "" && answer == string(Dropped) || r.Column != "" && strings.HasPrefix(answer, "{") && answer[1+2*i] == 't' {
			resolved = append(resolved, r)
		}
	}
	return resolved
}

// resolutions are what the table's strategy may do with the write. Only a strategy by
// column, or one that drops the whole write, tells of it.
func (w *write) resolutions() (list []Resolution) {
	switch c := &w.policy.Conflict; {
	case !w.touchesStored():
		return nil
	case c.Strategy == policies.Newest, c.Strategy == policies.Server:
		return []Resolution{{Strategy: c.Strategy}}
	case c.Strategy != policies.ByColumn, w.sent.Op == upload.Delete:
		return nil
	}
	for i, column := range w.columns[w.keys:] {
		s := w.policy.Conflict.Of(column.Name).Strategy
		_, tracked := w.previous[column]
		switch {
		case slices.Contains(w.initial, column):
		case s == policies.Newest, s == policies.Fields && tracked, s == policies.Increment && !tracked:
			list = append(list, Resolution{Column: column.Name, Strategy: s})
		case s == policies.Increment && w.values[w.keys+i] != nil:
			list = append(list, Resolution{Column: column.Name, Strategy: s, Merged: true})
		}
	}
	return list
}

// resolved are the parts by which a write's own statement tells whether each of its
// columns became another value than the one that was sent: what the change returns, and
// what the statement selects of it. A value that became the same has lost nothing.
func (b *builder) resolved() (returning, selected string) {
	names := make([]string, 0, len(b.resolves))
	for i, r := range b.resolves {
		if r.Column == "" {
			return "", ""
		}
		column := b.w.table.Column(r.Column)
		names = append(names, "resolved"+strconv.Itoa(i))
		returning += ", not (" + equals(b, column, b.w.values[b.w.indexOf(column)]) + ") as " + names[i]
	}
	if len(names) == 0 {
		return "", ""
	}
	return returning, " array[" + strings.Join(names, ", ") + "]::text from touched"
}
