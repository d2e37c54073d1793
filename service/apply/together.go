package apply

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
)

// group is a lookup of several operations, which is made once for all of them:
// nothing of what it reads changes from the first of them to the last.
type group struct {
	queries []*query
	reads   catalog.Reach
	rows    map[string]bool // where it reads the rows of the operations: of late ones those, of early ones what was written since
}

// ofRow reports whether the group's lookup reads the row that is written.
func (g *group) ofRow() bool { return g.queries[0].ofRow }
func (g *group) late() bool  { return g.queries[0].late }

// groups are those of a request.
type groups struct {
	tables *catalog.Snapshot
	all    []*group
	open   map[string]*group // those that further operations may join, by their query
	reach  map[any]catalog.Reach
}

// together has lookups made as one, where they can be: early ones before the first
// operation that needs them, late ones after the last. What they read is what the
// catalogue tells of their words, see catalog.Reach.
func (s *sender) together(transactions []*transaction) {
	var statements []statement
	lookups := 0
	for _, t := range transactions {
		if t.Rejection == nil {
			statements = append(statements, t.plan...)
		}
	}
	for _, statement := range statements {
		for _, q := range statement.verify.queries() {
			q.shared = nil
			lookups++
		}
	}
	if lookups < 2 || s.apart {
		return
	}
	gs := groups{tables: s.snapshot, open: map[string]*group{}, reach: map[any]catalog.Reach{}}
	for _, statement := range statements {
		gs.add(statement.of, statement.verify.queries())
	}
	for _, g := range gs.all {
		if len(g.queries) > 1 {
			g.join()
		}
	}
}

// add is for an operation, in their order. What may change what a late lookup has
// to read closes its group before the operation, as the lookup would come after it,
// and that of an early one after the operation's own lookups.
func (gs *groups) add(w *write, lookups []*query) {
	gs.close(w, true)
	for _, q := range lookups {
		if g := gs.of(q); g != nil {
			g.queries = append(g.queries, q)
			g.rows[w.row()] = g.rows[w.row()] || q.late
		}
	}
	gs.close(w, false)
}

// of is the group that a lookup joins, or begins; nil where it has none.
func (gs *groups) of(q *query) *group {
	if _, known := q.lookup.Arrays(); !known {
		return nil
	}
	key := strconv.FormatBool(q.late) + q.sql
	if g := gs.open[key]; g != nil && (q.late || !g.rows[q.of.row()]) {
		return g
	}
	g := &group{rows: map[string]bool{}, reads: gs.reads(q.lookup)}
	if q.ofRow {
		besides, apart := gs.tables.Apart(q.of.table)
		if !apart || !exact(q.of.columns[:q.of.keys]) {
			return nil
		}
		g.reads = g.reads.With(besides)
	}
	gs.open[key], gs.all = g, append(gs.all, g)
	return g
}

// close closes the groups whose lookups may read what an operation changes.
func (gs *groups) close(w *write, late bool) {
	if len(gs.open) == 0 {
		return
	}
	changes := gs.changes(w)
	for key, g := range gs.open {
		if g.late() != late {
			continue
		}
		hit := g.reads.Meets(changes)
		if g.ofRow() {
			own := g.queries[0].of.table
			switch {
			case w.table != own:
				hit = hit || changes.Includes(own)
			case late:
				hit = hit || g.rows[w.row()]
			default:
				g.rows[w.row()] = true
			}
		}
		if hit {
			delete(gs.open, key)
		}
	}
}

func (gs *groups) reads(l *policies.Lookup) catalog.Reach {
	reach, ok := gs.reach[l]
	if !ok {
		reach = gs.tables.ReadBy(l.Text())
		gs.reach[l] = reach
	}
	return reach
}

func (gs *groups) changes(w *write) catalog.Reach {
	type key struct {
		table   *catalog.Table
		history *policies.History
	}
	k := key{w.table, w.policy.History}
	reach, ok := gs.reach[k]
	if !ok {
		reach = gs.tables.ChangedBy(w.table)
		if h := w.policy.History; h != nil && gs.tables.Table(h.Schema, h.Name) != nil {
			reach = reach.With(gs.tables.ChangedBy(gs.tables.Table(h.Schema, h.Name)))
		}
		gs.reach[k] = reach
	}
	return reach
}

// exact reports whether two keys whose texts differ are different keys.
func exact(key []*catalog.Column) bool {
	return !slices.ContainsFunc(key, func(c *catalog.Column) bool {
		return c.Type.Kind != catalog.Base || c.Modifier >= 0 || c.Loose || !slices.Contains([]string{"uuid", "int2", "int4", "int8", "text", "varchar"}, c.Type.Name)
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

// join makes one query of the group's, which its first one sends for all, or where
// they are late its last one. Operations that ask for the same share a row.
func (g *group) join() {
	all := &shared{lead: g.queries[0]}
	if g.late() {
		all.lead = g.queries[len(g.queries)-1]
	}
	w, l := all.lead.of, all.lead.lookup
	arrays, _ := l.Arrays()
	var varying []int
	all.sql, all.types, varying = forMany(arrays, func(written func(argument) string) string {
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

// forMany writes a lookup's query for several operations: fill writes the one for a
// single operation, with what stands for each argument. Those that vary from
// operation to operation, by their indexes, are arrays; arrays are their types, by
// the index of the lookup's parameter.
func forMany(arrays []uint32, fill func(written func(argument) string) string) (sql string, types []uint32, varying []int) {
	const each = "postern_asked" // a lookup that has this name for something is not taken by Postgres
	var lists, names []string
	sql = fill(func(a argument) string {
		i := len(types)
		list, name := parameter(i+1), "p"+strconv.Itoa(i+1)
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
	return "select " + each + ".place, found.* from unnest(" + strings.Join(lists, ", ") + ") with ordinality as " + each + " (" + strings.Join(names, ", ") + ", place)" +
		" cross join lateral (" + sql + ") as found", types, varying
}

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
