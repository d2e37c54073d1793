package plan

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
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

// counts is how the answer of a statement tells how many rows it has changed.
type counts byte

const (
	byTag       counts = iota // the number in its command tag
	unexplained               // one, unless it says why it touched no row
	nothing                   // it changes none
)

// Touched is how many rows the operation has inserted, updated or deleted. row is the
// first one that its statement returned, nil if there was none; affected is the number in
// its command tag.
func (o *Operation) Touched(row [][]byte, affected int64) int {
	switch {
	case o.counts == byTag:
		return int(affected)
	case o.counts == unexplained && (len(row) == 0 || bytes.HasPrefix(row[0], []byte("{"))):
		return 1
	}
	return 0
}

// resolutions are what the table's strategies may do with the write, as a whole or column by
// column. A strategy that rejects leaves nothing to tell.
func (w *write) resolutions() (list []Resolution) {
	switch c := &w.policy.Conflict; {
	case !w.touchesStored():
		return nil
	case c.Strategy == policies.Newest, c.Strategy == policies.Server:
		return []Resolution{{Strategy: c.Strategy}}
	case !slices.Contains([]policies.Strategy{policies.ByColumn, policies.Fields, policies.Increment}, c.Strategy), w.sent.Op == upload.Delete:
		return nil
	}
	for i, column := range w.columns[w.keys:] {
		s := w.policy.Conflict.Of(column.Name).Strategy
		_, tracked := w.previous[column]
		switch {
		case w.isAssigned(column):
		case s == policies.Newest, s == policies.Fields && tracked, s == policies.Increment && !tracked:
			list = append(list, Resolution{Column: column.Name, Strategy: s})
		case s == policies.Increment && w.values[w.keys+i] != nil:
			list = append(list, Resolution{Column: column.Name, Strategy: s, Merged: true})
		}
	}
	return list
}

// resolvedFrom is the SQL of what was sent for a column, as JSON, if a strategy stored another
// value; otherwise NULL.
func (b *builder) resolvedFrom(column *catalog.Column) string {
	i := slices.IndexFunc(b.resolves, func(r Resolution) bool { return r.Column == column.Name })
	if i < 0 {
		return "null::jsonb"
	}
	return "case when touched.resolved" + strconv.Itoa(i) + " then coalesce(to_jsonb(" + parameter(b.w.indexOf(column)+1) + "), 'null') end"
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
