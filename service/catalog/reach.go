package catalog

import (
	"maps"
	"slices"
	"sync"
)

// Reach is the relations that a query may read, or a write may change: those that
// it names and those it comes to through views, policies, triggers, functions,
// rules, partitions and cascades, as far as the catalogue had them when it was last
// read. It holds too many rather than too few, and says so where it cannot tell.
type Reach struct {
	all       bool // it cannot be told
	relations map[uint32]bool
}

// Meets reports whether two have a relation in common, or may have one.
func (r Reach) Meets(other Reach) bool {
	if r.all || other.all {
		return true
	}
	for oid := range r.relations {
		if other.relations[oid] {
			return true
		}
	}
	return false
}

// Anything reports whether it cannot be told, so that it may be any relation.
func (r Reach) Anything() bool { return r.all }

// Includes reports whether a table is among them.
func (r Reach) Includes(t *Table) bool { return r.all || r.relations[t.OID] }

// With is what either of two comes to.
func (r Reach) With(other Reach) Reach {
	both := Reach{all: r.all || other.all, relations: map[uint32]bool{}}
	for _, from := range []Reach{r, other} {
		for oid := range from.relations {
			both.relations[oid] = true
		}
	}
	return both
}

// object is a relation or a function, or a name that some have; and what it leads to.
type object struct {
	relation      uint32 // 0 where it is none
	reads, writes []*object
	// Reading it, or writing or calling it, may come to anything.
	readsAny, writesAny bool

	alters  bool     // a function that does more than read
	trigger *trigger // of a trigger's function
}

// trigger is what a function does to the row that it is called for.
type trigger struct {
	replaces bool     // it may make another row of it
	columns  []string // that it may set
}

// namesakes stand for all objects of one name, whatever their schemas.
type namesakes struct{ all, functions object }

// objects are those of the database that are not Postgres' own.
type objects struct {
	relations map[uint32]*object
	names     map[string]*namesakes // after a dot where it is a word of SQL
	known     *sync.Map             // of Reach, by query or table
	odd       bool                  // some operator, cast or type of the application's runs queries, perhaps
}

// once remembers what was found out.
func (o *objects) once(of any, find func() Reach) Reach {
	if o.known == nil { // the snapshot of a file has none
		return find()
	}
	known, ok := o.known.Load(of)
	if !ok {
		known, _ = o.known.LoadOrStore(of, find())
	}
	return known.(Reach)
}

func (o *objects) called(name string) *namesakes {
	if o.names[name] == nil {
		o.names[name] = &namesakes{}
	}
	return o.names[name]
}

// ReadBy is what a query may read. It is told by the words in it: each that is the
// name of a relation or function anywhere counts. Of a query that does more than
// read, or whose answer differs from one time to the next, nothing can be told.
func (s *Snapshot) ReadBy(sql string) Reach {
	return s.objects.once(sql, func() Reach { return s.readBy(sql) })
}

func (s *Snapshot) readBy(sql string) Reach {
	names, anything := s.objects.in(sql)
	reach := Reach{all: anything || s.objects.odd || changes.MatchString(sql) || differs.MatchString(sql), relations: map[uint32]bool{}}
	for _, n := range names {
		reach.follow(reading, &n.all)
	}
	return reach
}

// ChangedBy is what writing a row of a table may change, deferred triggers
// included.
func (s *Snapshot) ChangedBy(t *Table) Reach {
	return s.objects.once(t, func() Reach { return s.changedBy(t) })
}

func (s *Snapshot) changedBy(t *Table) Reach {
	o := s.objects.relations[t.OID]
	if o == nil || s.objects.odd {
		return Reach{all: true}
	}
	reach := Reach{relations: map[uint32]bool{t.OID: true}}
	called := reach.follow(writing, o)
	called[o] = true
	var read Reach // what is read on the way may call what changes something
	for to := range read.follow(reading, slices.Collect(maps.Keys(called))...) {
		reach.all = reach.all || to.alters && !called[to]
	}
	return reach
}

// Apart reports whether neither seeing a row of a table nor writing one involves
// another row of it, and the row that is written is the one with the key that was
// sent; and if so, what seeing a row may read besides.
func (s *Snapshot) Apart(t *Table, key []*Column) (besides Reach, apart bool) {
	o := s.objects.relations[t.OID]
	if o == nil || s.objects.odd {
		return Reach{all: true}, false
	}
	read, written := Reach{relations: map[uint32]bool{}}, Reach{relations: map[uint32]bool{}}
	read.follow(reading, o)
	written.follow(writing, o)
	for _, f := range o.writes {
		if f.trigger != nil && (f.trigger.replaces || slices.ContainsFunc(key, func(c *Column) bool { return slices.Contains(f.trigger.columns, fold(c.Name)) })) {
			return read, false
		}
	}
	return read, !read.all && !written.all && !read.relations[t.OID] && !written.relations[t.OID]
}

// direction is which way of getting from one object to others is followed.
type direction func(*object) (to []*object, anything bool)

func reading(o *object) ([]*object, bool) { return o.reads, o.readsAny }
func writing(o *object) ([]*object, bool) { return o.writes, o.writesAny }

// follow adds all that objects lead to, themselves only where something leads back.
func (r *Reach) follow(edges direction, from ...*object) (seen map[*object]bool) {
	seen = map[*object]bool{}
	for queue := from; len(queue) > 0; queue = queue[1:] {
		to, anything := edges(queue[0])
		r.all = r.all || anything
		for _, o := range to {
			if o.relation != 0 && r.relations != nil {
				r.relations[o.relation] = true
			}
			if !seen[o] {
				seen[o] = true
				queue = append(queue, o)
			}
		}
	}
	return seen
}
