package apply

import (
	"postern/service/upload"
)

// inForeignKeyOrder moves parents before the children that refer to them, and
// the end of a reference before the end of the row it refers to: a client's
// database has no foreign keys, so it makes and removes rows in any order. Only
// what is in the way moves, and operations on the same row keep their order.
// References that form a circle stay as they came, and Postgres judges them.
// Deferrable constraints need no order, as they are checked at the end.
func inForeignKeyOrder(writes []write) []write {
	if len(writes) < 2 {
		return writes
	}
	before, moved := precedence(writes)
	if !moved {
		return writes
	}
	const (
		underWay = 1
		placed   = 2
	)
	ordered := make([]write, 0, len(writes))
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
			return writes
		}
	}
	return ordered
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
func precedence(writes []write) (before [][]int, moved bool) {
	made, removed := map[cell]int{}, map[cell]bool{} // the first PUT of each value; the keys of DELETEs
	for i, w := range writes {
		for c, column := range w.columns {
			at := cell{w.table.OID, column.Name, string(w.values[c])}
			if _, ok := made[at]; !ok && w.op == upload.Put {
				made[at] = i
			}
			removed[at] = removed[at] || w.op == upload.Delete
		}
	}
	before = make([][]int, len(writes))
	latest := map[string]int{} // by row
	releases := map[uint32]int{}
	lastRelease := map[uint32]int{} // the last write that lets go of a row of the table
	for i := range writes {
		w := &writes[i]
		for _, key := range w.table.ForeignKeys {
			if key.Deferrable {
				continue
			}
			// One column's value is enough to find the row, whatever the key's width.
			value, sent := w.value(key.Columns[0])
			target := cell{key.References, key.Targets[0], string(value)}
			if parent, ok := made[target]; ok && sent && value != nil && parent > i {
				before[i], moved = append(before[i], parent), true
			}
			// A tree's rows are removed in the client's order: which refers to which is
			// not known here.
			if key.References != w.table.OID && (w.op == upload.Delete || sent && !removed[target]) {
				node, ok := releases[key.References]
				if !ok {
					node = len(before)
					releases[key.References], before = node, append(before, nil)
				}
				before[node], lastRelease[key.References] = append(before[node], i), i
			}
		}
		if j, ok := latest[w.row()]; ok {
			before[i] = append(before[i], j)
		}
		latest[w.row()] = i
	}
	for i, w := range writes {
		if w.op == upload.Delete && lastRelease[w.table.OID] > i {
			before[i], moved = append(before[i], releases[w.table.OID]), true
		}
	}
	return before, moved
}

// value is what the write sets a column to, and whether it does.
func (w *write) value(column string) (value []byte, ok bool) {
	for i, c := range w.columns {
		if c.Name == column {
			return w.values[i], true
		}
	}
	return nil, false
}

// row names the row that is written.
func (w *write) row() string {
	name := append([]byte(w.table.SQL()), 0)
	for _, value := range w.values[:w.keys] {
		name = append(append(name, value...), 0)
	}
	return string(name)
}
