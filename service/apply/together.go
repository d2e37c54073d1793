package apply

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
)

// group is a lookup of several operations, which is made once for all of them:
// nothing of what it reads changes from the first of them to the last. An early one
// is made before the first, a late one after the last.
type group struct {
	queries []*query
	reads   catalog.Reach

	// Where it reads the rows of the operations themselves:
	members map[string]bool // these rows
	written map[string]bool // those of their table that were written since the first operation
}

func (g *group) lead() *query {
	if first := g.queries[0]; !first.late {
		return first
	}
	return g.queries[len(g.queries)-1]
}

// groups are those of a request.
type groups struct {
	apart   bool // each lookup has its own
	tables  *catalog.Snapshot
	all     []*group
	open    map[groupKey]*group // those that further operations may join
	changed map[*policies.Table]catalog.Reach
	read    map[readKey]read
}

// readKey is the same for queries that read the same.
type readKey struct {
	lookup *policies.Lookup
	ofRow  bool
}

// read is what a lookup reads, and whether operations may share it.
type read struct {
	reach    catalog.Reach
	together bool
}

// groupKey is the same for queries that differ in nothing but values. The types of
// what is asked for go with the lookup.
type groupKey struct {
	lookup *policies.Lookup
	sql    string
	late   bool
}

// together has lookups made as one, where they can be. What they read is what the
// catalogue tells of their words, see catalog.Reach. One that could be shared, and is
// not in this request, is made by the same query: Postgres computes what is made of
// parameters alone ahead, and of a column's value only where it is needed, so that an
// error would come or not. later says that a lookup comes later than it would alone,
// and another error may come before its own.
func (s *sender) together(transactions []*transaction) (later bool) {
	gs := groups{apart: s.apart, tables: s.snapshot, open: map[groupKey]*group{}, changed: map[*policies.Table]catalog.Reach{}, read: map[readKey]read{}}
	for _, t := range transactions {
		if t.Rejection != nil {
			continue
		}
		for _, statement := range t.plan {
			gs.add(statement.of, statement.verify.queries(), s.who.Role)
		}
		if s.snapshot.DeferredTriggers {
			clear(gs.open) // they run here
		}
	}
	for _, g := range gs.all {
		g.join(s.who.Role)
		later = later || g.queries[0].late && len(g.queries) > 1
	}
	return later
}

// add is for an operation, in their order. What may change what a late lookup has
// to read closes its group before the operation, as the lookup would come after it,
// and that of an early one after the operation's own lookups.
func (gs *groups) add(w *write, lookups []*query, role string) {
	gs.close(w, true)
	for _, q := range lookups {
		q.shared = nil
		reads, together := gs.reads(q)
		if reads.Anything() { // it may do more than read
			clear(gs.open)
		}
		if together && q.lookup.Arrays(role) != nil {
			g := gs.of(q, reads)
			g.queries = append(g.queries, q)
			g.members[w.row()] = true
		}
	}
	gs.close(w, false)
}

// of is the group that a lookup joins, or begins.
func (gs *groups) of(q *query, reads catalog.Reach) *group {
	key := groupKey{q.lookup, q.sql, q.late}
	if g := gs.open[key]; g != nil && (q.late || !g.written[q.of.row()]) {
		return g
	}
	g := &group{reads: reads, members: map[string]bool{}, written: map[string]bool{}}
	if gs.all = append(gs.all, g); !gs.apart {
		gs.open[key] = g
	}
	return g
}

// reads is what a lookup reads, its own row left out where it does. together is false
// where no other operation ever shares it: nothing can be told of what it reads, or
// the operation itself may change it.
func (gs *groups) reads(q *query) (reach catalog.Reach, together bool) {
	key := readKey{q.lookup, q.ofRow}
	r, known := gs.read[key]
	if !known {
		r = read{gs.tables.ReadBy(q.lookup.Text()), true}
		if q.ofRow {
			besides, apart := gs.tables.Apart(q.of.table, q.of.keyColumns())
			r = read{r.reach.With(besides), apart && exact(q.of.keyColumns())}
		}
		r.together = r.together && !r.reach.Meets(gs.changes(q.of))
		gs.read[key] = r
	}
	return r.reach, r.together
}

// close closes the groups whose lookups may read what an operation changes.
func (gs *groups) close(w *write, late bool) {
	if len(gs.open) == 0 {
		return
	}
	changes := gs.changes(w)
	for key, g := range gs.open {
		if key.late == late && (g.reads.Meets(changes) || g.queries[0].ofRow && g.touched(w, changes)) {
			delete(gs.open, key)
		}
	}
}

// touched reports whether an operation may change a row that the group's lookup has
// read, or will read for an operation that is not a member yet and cannot be told
// from its own.
func (g *group) touched(w *write, changes catalog.Reach) bool {
	own := g.queries[0].of
	switch {
	case w.table != own.table:
		return changes.Includes(own.table)
	case !slices.Equal(w.keyColumns(), own.keyColumns()):
		return true // one row may have two names
	}
	g.written[w.row()] = true
	return g.queries[0].late && g.members[w.row()]
}

func (gs *groups) changes(w *write) catalog.Reach {
	reach, ok := gs.changed[w.policy]
	if !ok {
		reach = gs.tables.ChangedBy(w.table)
		if h := w.policy.History; h != nil {
			if table := gs.tables.Table(h.Schema, h.Name); table != nil {
				reach = reach.With(gs.tables.ChangedBy(table))
			}
		}
		gs.changed[w.policy] = reach
	}
	return reach
}

// exact reports whether two keys whose texts differ are different keys, of rows that
// keep them.
func exact(key []*catalog.Column) bool {
	return !slices.ContainsFunc(key, func(c *catalog.Column) bool {
		return c.Generated || c.Type.Kind != catalog.Base || c.Modifier >= 0 || c.Loose || !slices.Contains([]string{"uuid", "int2", "int4", "int8", "text", "varchar"}, c.Type.Name)
	})
}

// shared is one query for the lookups of several operations.
type shared struct {
	sql    string
	args   [][]byte
	types  []uint32   // of args; 0 where Postgres is to find out
	lead   *query     // at whose place it is sent
	places [][]*query // those that each of its rows is for
}

// join makes one query of the group's. Operations that ask for the same share a row.
func (g *group) join(role string) {
	all := &shared{lead: g.lead()}
	w, l := all.lead.of, all.lead.lookup
	var varying []int
	all.sql, all.types, varying = forMany(l.Arrays(role), func(written func(argument) string) string {
		sql, _, _ := w.fill(l, written)
		return sql
	})
	places := map[string]int{}
	asked := make([][][]byte, len(varying)) // of each, in all places
	for _, q := range g.queries {
		values := make([][]byte, len(varying))
		for i, arg := range varying {
			values[i] = q.args[arg]
		}
		key := string(catalog.ValueArray(values))
		place, ok := places[key]
		if !ok {
			place = len(places)
			places[key], all.places = place, append(all.places, nil)
			for i, value := range values {
				asked[i] = append(asked[i], value)
			}
		}
		q.shared, all.places[place] = all, append(all.places[place], q)
	}
	all.args = slices.Clone(all.lead.args)
	for i, arg := range varying {
		all.args[arg] = catalog.ValueArray(asked[i])
	}
}

// each is what the query of a group calls what an operation asks for. A lookup that
// has this name in it is made as it is written.
const each = "postern_asked"

// forMany writes a lookup's query for several operations: fill writes the one for a
// single operation, with what stands for each argument. Those that vary from
// operation to operation, by their indexes, are arrays; arrays are their types, by
// the index of the lookup's parameter.
func forMany(arrays []uint32, fill func(written func(argument) string) string) (sql string, types []uint32, varying []int) {
	var lists, names []string
	sql = fill(func(a argument) string {
		i := len(types)
		list, name := parameter(i+1), "postern_"+strconv.Itoa(i+1)
		types = append(types, 0)
		switch {
		case a.ofUser:
			return list
		case a.key != "":
			list = "coalesce(" + list + ", array[" + a.key + "])"
		default:
			types[i] = arrays[a.parameter]
		}
		lists, names, varying = append(lists, list), append(names, name), append(varying, i)
		return each + "." + name
	})
	if len(varying) == 0 {
		return "select 1, found.* from (" + sql + ") as found", types, nil
	}
	return "select " + each + ".postern_place, found.* from unnest(" + strings.Join(lists, ", ") + ") with ordinality as " + each + " (" + strings.Join(names, ", ") + ", postern_place)" +
		" cross join lateral (" + sql + ") as found", types, varying
}

// several reports whether it is for more than one operation, or rule.
func (s *shared) several() bool { return len(s.places) > 1 || len(s.places[0]) > 1 }

// take gives a row to the queries that it is for.
func (s *shared) take(row [][]byte) {
	place, err := strconv.Atoi(string(row[0]))
	if err != nil {
		return
	}
	for _, q := range s.places[place-1] {
		q.take(row[1:])
	}
}

func (s *shared) clear() {
	for _, queries := range s.places {
		for _, q := range queries {
			q.row, q.found = nil, false
		}
	}
}
