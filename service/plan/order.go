package plan

import (
	"cmp"
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// inForeignKeyOrder moves parents before the children that refer to them, and
// the end of a reference before the end of the row it refers to: a client's
// database has no foreign keys, so it makes and removes rows in any order. Only
// what is in the way moves, and operations on the same row keep their order.
// References that form a circle stay as they came, and Postgres judges them.
// Deferrable constraints need no order, as they are checked at the end.
func inForeignKeyOrder(writes []*write) (ordered []*write, moved bool) {
	if len(writes) < 2 || !slices.ContainsFunc(writes, bound) {
		return writes, false
	}
	before, moved := precedence(writes)
	if !moved {
		return writes, false
	}
	const (
		underWay = 1
		placed   = 2
	)
	ordered = make([]*write, 0, len(writes))
	state := make([]byte, len(before))
	var place func(node int) (circle bool)
	place = func(node int) bool {
		if state[node] != 0 {
			return state[node] == underWay
		}
		state[node] = underWay
		for _, earlier := range before[node] {
			if place(earlier) {
				return true
			}
		}
		state[node] = placed
		if node < len(writes) {
			ordered = append(ordered, writes[node])
		}
		return false
	}
	for i := range writes {
		if place(i) {
			return writes, false
		}
	}
	return ordered, true
}

// bound reports whether the order of a table's writes may matter to a foreign key.
func bound(w *write) bool {
	return slices.ContainsFunc(w.table.ForeignKeys, func(k catalog.ForeignKey) bool { return !k.Deferrable })
}

// cell is a value in a column of a table: a foreign key refers to one.
type cell struct {
	table  uint32
	column string
	value  string
}

// precedence lists for each node those that must come before it. The writes are
// the first nodes, in the client's order; each further one stands for all that
// lets go of a table's rows, so that the lists stay short. moved is false where
// the client's order will do.
func precedence(writes []*write) (before [][]int, moved bool) {
	makers, removed := references(writes)
	before = make([][]int, len(writes))
	latest := map[string]int{}      // the latest write of each row
	releases := map[uint32]int{}    // the node for each table
	lastRelease := map[uint32]int{} // and the last of its writes
	for i := range writes {
		w := writes[i]
		for _, key := range w.table.ForeignKeys {
			if key.Deferrable {
				continue
			}
			// One column's value is enough to find the row, whatever the key's width.
			value, sent := w.value(key.Columns[0])
			target := cell{key.References, key.Targets[0], string(value)}
			if parent, ok := maker(makers[target], i); ok && sent && value != nil {
				before[i], moved = append(before[i], parent), moved || parent > i
			}
			// A tree's rows are removed in the client's order: which refers to which is
			// not known here.
			if key.Restricts && key.References != w.table.OID && (w.sent.Op == upload.Delete || w.sent.Op == upload.Patch && sent && !removed[target]) {
				node, ok := releases[key.References]
				if !ok {
					node = len(before)
					releases[key.References], before = node, append(before, nil)
				}
				before[node], lastRelease[key.References] = append(before[node], i), i
			}
		}
		if j, ok := latest[w.rowName()]; ok {
			before[i] = append(before[i], j)
		}
		latest[w.rowName()] = i
	}
	for i, w := range writes {
		if w.sent.Op == upload.Delete && lastRelease[w.table.OID] > i {
			before[i], moved = append(before[i], releases[w.table.OID]), true
		}
	}
	return before, moved
}

// references finds what the writes' foreign keys may refer to: the PUTs that make each
// value, and the DELETEs after which it is gone, as -1-i, in order; and which values are
// removed at all.
func references(writes []*write) (makers map[cell][]int, removed map[cell]bool) {
	targets := map[uint32][]string{} // the columns referred to, by table
	for _, w := range writes {
		for _, key := range w.table.ForeignKeys {
			if column := key.Targets[0]; !key.Deferrable && !slices.Contains(targets[key.References], column) {
				targets[key.References] = append(targets[key.References], column)
			}
		}
	}
	makers, removed = map[cell][]int{}, map[cell]bool{}
	for i, w := range writes {
		for _, column := range targets[w.table.OID] {
			value, writes := w.value(column)
			if !writes {
				continue
			}
			at := cell{w.table.OID, column, string(value)}
			switch w.sent.Op {
			case upload.Put:
				makers[at] = append(makers[at], i)
			case upload.Delete:
				makers[at], removed[at] = append(makers[at], -1-i), true
			}
		}
	}
	return makers, removed
}

// maker is the PUT that makes a value exist for write i: the one before it where
// nothing removes the value in between, else the next one after it. Where the
// next thing that happens to the value is its removal, it is there already.
func maker(events []int, i int) (put int, ok bool) {
	next, found := slices.BinarySearchFunc(events, i, func(event, i int) int { return cmp.Compare(max(event, -1-event), i) })
	if next > 0 && events[next-1] >= 0 {
		return events[next-1], true
	}
	if found {
		next++
	}
	if next < len(events) {
		return events[next], events[next] >= 0
	}
	return 0, false
}
