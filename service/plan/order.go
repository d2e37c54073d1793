package plan

import (
	"cmp"
	"hash/maphash"
	"slices"

	"postern/service/catalog"
	"postern/service/upload"
)

// outline is what the order of a transaction's writes depends on. It has hashes in place
// of values, because writes take much memory. If two values had the same hash, a write
// would move that need not.
type outline struct {
	bounds map[*catalog.Table]bound
	writes []outlined // in the client's order
	cells  []cell     // of all writes
}

// bound is how foreign keys bind the writes of a table. Deferrable constraints need no
// order, as they are checked at the end.
type bound struct {
	keys    []*catalog.ForeignKey
	targets []string // the table's columns that other tables of the transaction refer to
}

// outlined is one write. Its cells are what its table's keys refer to, and then its own
// targets.
type outlined struct {
	table *catalog.Table
	op    upload.Op
	row   uint64 // the same for two writes of one row
	cells int    // where they begin
}

// cell is the hash of a value in a column of a table, to which a foreign key refers.
type cell uint64

const (
	unsent cell = iota // the write does not have the column
	null
)

// newOutline is nil if no foreign key asks for an order.
func (p *Planner) newOutline(operations []upload.Operation) *outline {
	if len(operations) < 2 {
		return nil
	}
	o := &outline{bounds: map[*catalog.Table]bound{}}
	for i, op := range operations {
		if i > 0 && op.Table == operations[i-1].Table {
			continue
		}
		if policy, _ := p.Set.Decide(op); policy != nil {
			if table := p.Tables.Table(policy.Schema, policy.Name); table != nil {
				o.bounds[table] = bound{}
			}
		}
	}
	if !o.bind(p.Tables) {
		return nil
	}
	return o
}

// bind finds the foreign keys of the tables. It reports whether there are any.
func (o *outline) bind(tables *catalog.Snapshot) (binds bool) {
	for table := range o.bounds {
		for i := range table.ForeignKeys {
			key := &table.ForeignKeys[i]
			if key.Deferrable {
				continue
			}
			binds = true
			b := o.bounds[table]
			b.keys = append(b.keys, key)
			o.bounds[table] = b
			parent := tables.TableByOID(key.References)
			if b, ok := o.bounds[parent]; ok && !slices.Contains(b.targets, key.Targets[0]) {
				b.targets = append(b.targets, key.Targets[0])
				o.bounds[parent] = b
			}
		}
	}
	return binds
}

// add adds the next write.
func (o *outline) add(w *write) {
	o.writes = append(o.writes, outlined{w.table, w.sent.Op, hashOf(w.table.OID, w.keyValues()...), len(o.cells)})
	b := o.bounds[w.table]
	for _, key := range b.keys {
		// One column's value is enough to find the row, whatever the key's width.
		o.cells = append(o.cells, cellOf(w, key.Columns[0], key.References, key.Targets[0]))
	}
	for _, column := range b.targets {
		o.cells = append(o.cells, cellOf(w, column, w.table.OID, column))
	}
}

// cellOf is the value of a write's column as the value of a table's column.
func cellOf(w *write, column string, table uint32, target string) cell {
	switch value, sent := w.value(column); {
	case !sent:
		return unsent
	case value == nil:
		return null
	default:
		return cell(hashOf(table, []byte(target), value))
	}
}

var seed = maphash.MakeSeed()

// hashOf is a hash of values of a table.
func hashOf(table uint32, parts ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, table)
	for _, part := range parts {
		_, _ = h.Write(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// inForeignKeyOrder moves parents before the children that refer to them, and
// the end of a reference before the end of the row it refers to: a client's
// database has no foreign keys, so it makes and removes rows in any order. Only
// what is in the way moves, and operations on the same row keep their order.
// References that form a circle stay as they came, and Postgres judges them.
// The result has the indexes of the writes. It is nil where the client's order will do.
func (o *outline) inForeignKeyOrder() (ordered []int32) {
	if o == nil {
		return nil
	}
	events := o.events()
	if moved := o.precedence(events, func(int, int) {}); !moved { // which is so for most
		return nil
	}
	var edges edges
	o.precedence(events, edges.add)
	return edges.sorted(len(o.writes))
}

// precedence calls before for each pair of nodes of which the second must come first. The
// writes are the first nodes, in the client's order; each further one stands for all that
// lets go of a table's rows, so that there are few pairs. moved is false where the
// client's order will do.
func (o *outline) precedence(events events, before func(node, earlier int)) (moved bool) {
	nodes := len(o.writes)
	latest := make(map[uint64]int32, len(o.writes)) // the latest write of each row
	releases := map[uint32]int{}                    // the node for each table
	lastRelease := map[uint32]int{}                 // and the last of its writes
	for i, w := range o.writes {
		for k, key := range o.bounds[w.table].keys {
			target := o.cells[w.cells+k]
			makers := events.of(target)
			if parent, ok := makers.maker(i); ok {
				before(i, parent)
				moved = moved || parent > i
			}
			// A tree's rows are removed in the client's order: which refers to which is
			// not known here.
			if key.Restricts && key.References != w.table.OID && (w.op == upload.Delete || w.op == upload.Patch && target != unsent && !makers.removed()) {
				if _, ok := releases[key.References]; !ok {
					releases[key.References] = nodes
					nodes++
				}
				before(releases[key.References], i)
				lastRelease[key.References] = i
			}
		}
		if j, ok := latest[w.row]; ok {
			before(i, int(j))
		}
		latest[w.row] = int32(i)
	}
	for i, w := range o.writes {
		if w.op == upload.Delete && lastRelease[w.table.OID] > i {
			before(i, releases[w.table.OID])
			moved = true
		}
	}
	return moved
}

// event is a write that makes the value of a cell, or removes it.
type event struct {
	cell    cell
	at      int32 // the index of the write
	removes bool
	removed bool // in the first event of a cell: one of its events removes the value
}

// events are sorted by cell, and then in the client's order.
type events []event

// events are the PUTs and DELETEs of values that foreign keys may refer to.
func (o *outline) events() (list events) {
	for i, w := range o.writes {
		b := o.bounds[w.table]
		for k := range b.targets {
			if c := o.cells[w.cells+len(b.keys)+k]; c != unsent && c != null && w.op != upload.Patch {
				list = append(list, event{cell: c, at: int32(i), removes: w.op == upload.Delete})
			}
		}
	}
	slices.SortFunc(list, func(a, b event) int { return cmp.Or(cmp.Compare(a.cell, b.cell), cmp.Compare(a.at, b.at)) })
	first := 0
	for i := range list {
		if list[i].cell != list[first].cell {
			first = i
		}
		list[first].removed = list[first].removed || list[i].removes
	}
	return list
}

// of are the events of a cell.
func (e events) of(c cell) events {
	from, _ := slices.BinarySearchFunc(e, c, func(e event, c cell) int { return cmp.Compare(e.cell, c) })
	to, _ := slices.BinarySearchFunc(e[from:], c, func(e event, c cell) int {
		if e.cell <= c {
			return -1
		}
		return 1
	})
	return e[from : from+to]
}

// removed reports whether any of a cell's events removes the value.
func (e events) removed() bool { return len(e) > 0 && e[0].removed }

// maker is the PUT that makes a cell's value exist for write i: the one before it where
// nothing removes the value in between, else the next one after it. Where the
// next thing that happens to the value is its removal, it is there already.
func (e events) maker(i int) (put int, ok bool) {
	next, found := slices.BinarySearchFunc(e, i, func(e event, i int) int { return cmp.Compare(int(e.at), i) })
	if next > 0 && !e[next-1].removes {
		return int(e[next-1].at), true
	}
	if found {
		next++
	}
	if next < len(e) {
		return int(e[next].at), !e[next].removes
	}
	return 0, false
}

// edge says which of two nodes must come first.
type edge struct{ node, earlier int32 }

type edges []edge

func (e *edges) add(node, earlier int) { *e = append(*e, edge{int32(node), int32(earlier)}) }

// from is the index of a node's first edge. The edges are sorted by node.
func (e edges) from(node int32) int32 {
	at, _ := slices.BinarySearchFunc(e, node, func(e edge, node int32) int { return cmp.Compare(e.node, node) })
	return int32(at)
}

// sorted are the first n nodes, each after those that must come before it. It is nil if
// nodes form a circle.
func (e edges) sorted(n int) (sorted []int32) {
	slices.SortStableFunc(e, func(a, b edge) int { return cmp.Compare(a.node, b.node) })
	const (
		underWay = 1
		placed   = 2
	)
	state := make([]byte, max(n, int(e[len(e)-1].node)+1))
	sorted = make([]int32, 0, n)
	type visit struct{ node, edge int32 } // the edge is the next one to follow
	var path []visit                      // the nodes under way
	for root := range int32(n) {
		if state[root] == placed {
			continue
		}
		state[root] = underWay
		path = append(path, visit{root, e.from(root)})
		for len(path) > 0 {
			top := &path[len(path)-1]
			if int(top.edge) == len(e) || e[top.edge].node != top.node {
				if state[top.node] = placed; int(top.node) < n {
					sorted = append(sorted, top.node)
				}
				path = path[:len(path)-1]
				continue
			}
			earlier := e[top.edge].earlier
			top.edge++
			switch state[earlier] {
			case underWay:
				return nil
			case 0:
				state[earlier] = underWay
				path = append(path, visit{earlier, e.from(earlier)})
			}
		}
	}
	return sorted
}
