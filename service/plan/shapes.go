package plan

import (
	"hash/maphash"
	"slices"
	"sync"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// Shapes remember statements between requests: writes of the same policy, kind and columns
// have the same one. They are for one policy set and one catalogue, and safe for concurrent
// use. They hold no values that clients sent. But clients choose the columns, so all are
// forgotten if the statements exceed maxShapes.
type Shapes struct {
	set    *policies.Set
	tables *catalog.Snapshot

	mu    sync.RWMutex
	known map[uint64]*shape // by their hash
	bytes int               // of the statements
}

// maxShapes bounds the statements that are remembered, in bytes.
const maxShapes = 1 << 20

// NewShapes are for a policy set and a catalogue.
func NewShapes(set *policies.Set, tables *catalog.Snapshot) *Shapes {
	return &Shapes{set: set, tables: tables, known: map[uint64]*shape{}}
}

// AreFor reports whether the shapes are for a policy set and a catalogue. s may be nil.
func (s *Shapes) AreFor(set *policies.Set, tables *catalog.Snapshot) bool {
	return s != nil && s.set == set && s.tables == tables
}

// shape is what equal writes have in common. Policy and columns belong to one set and one
// catalogue, so a write by others has another shape.
type shape struct {
	policy           *policies.Table
	op               upload.Op
	columns, initial []*catalog.Column
	rules            []*policies.Rule
	role             string // the user's, if there are rules

	sql    string
	counts counts
	args   [][]byte // after the values
	own    []own    // those of them that each write has its own of
	checks *Checks  // of a write without values; nil if each write has to make its own
}

// own is an argument that differs between writes of one shape.
type own struct {
	at int // among all arguments
	of func(*write) []byte
}

// ownValue is the value of a column at an index of those that are written.
func ownValue(at int) func(*write) []byte {
	return func(w *write) []byte { return w.values[at] }
}

// hasShape reports whether the write's statement is that of all writes of its policy, kind
// and columns under the same rules.
func (w *write) hasShape() bool {
	p := w.policy
	return !w.waits && len(w.inStored) == 0 && !w.changesNothing() &&
		p.Conflict.Strategy == policies.NoStrategy && p.History == nil && (len(p.Immutable) == 0 || w.sent.Op != upload.Put)
}

// fits reports whether a write has the shape. s may be nil.
func (s *shape) fits(w *write) bool {
	return s != nil && s.policy == w.policy && s.op == w.sent.Op && slices.Equal(s.columns, w.columns) && slices.Equal(s.initial, w.initial) &&
		slices.Equal(s.rules, w.rules) && (len(s.rules) == 0 || s.role == w.who.Role) && w.hasShape()
}

// shape returns that of a write, and nil if it has none.
func (p *Planner) shape(w *write, texts texts) *shape {
	if !w.hasShape() {
		return nil
	}
	hash := w.hash()
	if known := p.Shapes.find(hash); known.fits(w) {
		return known
	}
	checks := newChecks(w, texts)
	b := p.rendered(w, checks)
	s := &shape{
		policy: w.policy, op: w.sent.Op, columns: slices.Clone(w.columns), initial: slices.Clone(w.initial), rules: w.rules, role: w.who.Role,
		sql: texts.once(b.sql), counts: b.counts, args: exact(b.args[len(w.values):]), own: b.own, checks: checks.withoutValues(),
	}
	for _, own := range s.own {
		s.args[own.at-len(w.values)] = nil
	}
	p.Shapes.add(hash, s)
	return s
}

// operation is that of a write that has the shape.
func (s *shape) operation(w *write, texts texts) *Operation {
	w.columns = s.columns // they are equal
	o := w.operation()
	if o.Checks = s.checks.of(w); o.Checks == nil {
		o.Checks = newChecks(w, texts)
	}
	o.SQL, o.Args, o.counts = s.sql, w.values, s.counts
	if len(s.args) > 0 {
		o.Args = append(append(make([][]byte, 0, len(w.values)+len(s.args)), w.values...), s.args...)
	}
	for _, own := range s.own {
		o.Args[own.at] = own.of(w)
	}
	return o
}

// size is the length of its statements, in bytes.
func (s *shape) size() int {
	size := len(s.sql)
	if s.checks != nil {
		for _, q := range slices.Concat(s.checks.Before(), s.checks.After()) {
			size += len(q.SQL)
		}
	}
	return size
}

// hash is that of what the write's shape depends on.
func (w *write) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, w.policy)
	_, _ = h.WriteString(string(w.sent.Op))
	if len(w.rules) > 0 {
		_, _ = h.WriteString(w.who.Role)
	}
	for _, rule := range w.rules {
		maphash.WriteComparable(&h, rule)
	}
	for _, columns := range [][]*catalog.Column{w.columns, w.initial} {
		for _, c := range columns {
			maphash.WriteComparable(&h, c)
		}
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (s *Shapes) find(hash uint64) *shape {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known[hash]
}

func (s *Shapes) add(hash uint64, added *shape) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := added.size()
	if s.bytes += size; s.bytes > maxShapes {
		clear(s.known)
		s.bytes = size
	}
	s.known[hash] = added
}
