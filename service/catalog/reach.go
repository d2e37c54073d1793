package catalog

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Reach is the relations that a query may read, or a write may change: those that
// it names and those it comes to through views, policies, triggers, functions,
// rules, partitions and cascades. It holds too many rather than too few.
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

// object is a relation or a function, and what it leads to.
type object struct {
	relation      uint32 // 0 of a function
	reads, writes []*object
	// Reading it, or writing or calling it, may come to anything.
	readsAny, writesAny bool
}

// objects are those of the database that are not Postgres' own.
type objects struct {
	relations, functions map[uint32]*object
	named                map[string][]*object // by name alone, whatever the schema; after a dot where it is a word of SQL
}

// ReadBy is what a query may read. It is told by the words in it: each that is the
// name of a relation or function anywhere counts. Of a query that does more than
// read, or whose answer differs from one time to the next, nothing can be told.
func (s *Snapshot) ReadBy(sql string) Reach {
	named, any := s.objects.in(sql)
	reach := Reach{all: any || changes.MatchString(sql) || differs.MatchString(sql), relations: map[uint32]bool{}}
	for _, o := range named {
		reach.add(o)
		reach.follow(o, reading)
	}
	return reach
}

// ChangedBy is what writing a row of a table may change.
func (s *Snapshot) ChangedBy(t *Table) Reach {
	o := s.objects.relations[t.OID]
	if o == nil { // the snapshot is of a file
		return Reach{all: true}
	}
	reach := Reach{relations: map[uint32]bool{t.OID: true}}
	reach.follow(o, writing)
	return reach
}

// Apart reports whether neither seeing a row of a table nor writing one involves
// another row of it; and if so, what seeing one may read besides.
func (s *Snapshot) Apart(t *Table) (besides Reach, apart bool) {
	o := s.objects.relations[t.OID]
	if o == nil {
		return Reach{all: true}, false
	}
	read, written := Reach{relations: map[uint32]bool{}}, Reach{relations: map[uint32]bool{}}
	read.follow(o, reading)
	written.follow(o, writing)
	return read, !read.all && !written.all && !read.relations[t.OID] && !written.relations[t.OID]
}

// direction is which way of getting from one object to others is followed.
type direction func(*object) (to []*object, any bool)

func reading(o *object) ([]*object, bool) { return o.reads, o.readsAny }
func writing(o *object) ([]*object, bool) { return o.writes, o.writesAny }

// follow adds all that an object leads to, itself only where something leads back.
func (r *Reach) follow(from *object, edges direction) {
	seen := map[*object]bool{}
	for queue := []*object{from}; len(queue) > 0; queue = queue[1:] {
		to, any := edges(queue[0])
		r.all = r.all || any
		for _, o := range to {
			if r.add(o); !seen[o] {
				seen[o] = true
				queue = append(queue, o)
			}
		}
	}
}

func (r *Reach) add(o *object) {
	if o.relation != 0 {
		r.relations[o.relation] = true
	}
}

// What says nothing of what it reads or changes: statements put together as text,
// settings, and functions of Postgres that run queries, look at its own tables or
// at what a transaction has done.
var (
	untold = regexp.MustCompile(`(?i)\b(execute|do\s+(\$|'|language)|set\s+(local|session)|set\s+[\w."]+\s+to|set\s+[\w"]+\.|reset|set_config|setval|currval|lastval|information_schema|ts_stat|ts_rewrite|lo_\w+|lo(read|write)|(query|cursor|table|schema|database)_to_xml|pg_\w+)|\bU&"`)
	told   = regexp.MustCompile(`(?i)^pg_(catalog|trigger_depth|notify|typeof)$`)
	// What a function that changes something has in it, and a query that locks.
	changes = regexp.MustCompile(`(?i)\b(insert|update|delete|merge|truncate|copy|refresh|lock|share)\b`)
	differs = regexp.MustCompile(`(?i)\b(nextval|random\w*|gen_random_\w+|uuid_generate_\w+|clock_timestamp|timeofday)\b`)
	names   = regexp.MustCompile(`(\.\s*)?([\pL_][\pL\pN_$]*|"(?:[^"]|"")+")`)
)

// in finds the objects that a text names, in code, in quotes or in a comment.
func (all objects) in(text string) (named []*object, any bool) {
	for _, found := range untold.FindAllString(text, -1) {
		any = any || !told.MatchString(found)
	}
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			named = append(named, all.named[name]...)
		}
	}
	for _, found := range names.FindAllStringSubmatch(text, -1) {
		name := found[2]
		if quoted := strings.Trim(name, `"`); quoted != name {
			add(strings.ReplaceAll(quoted, `""`, `"`))
			add("." + quoted)
			inner, _ := all.in(quoted) // should the quotes be those of a text
			named = append(named, inner...)
			continue
		}
		for _, name := range []string{name, strings.ToLower(name)} {
			if add(name); found[1] != "" {
				add("." + name)
			}
		}
	}
	return named, any
}

const relationsSQL = `
select c.oid, c.relname, c.relkind in ('f', 'S'), c.relkind = 'f'
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'`

// functionsSQL leaves out what is compiled and immutable: it looks at nothing but
// its arguments. So do the extensions named here, and at the session. A word that
// SQL keeps for itself names a function only after a dot.
const functionsSQL = `
select p.oid, case when exists (select from pg_get_keywords() k where k.word = p.proname and k.catcode in ('C', 'R')) then '.' else '' end || p.proname,
       p.prosrc, l.lanname not in ('sql', 'plpgsql') or p.prokind = 'a'
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
 where n.nspname not in ('pg_catalog', 'information_schema', 'postern')
   and not (l.lanname in ('c', 'internal') and p.prokind <> 'a' and p.provolatile = 'i')
   and not exists (select from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
                    where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e' and d.refclassid = 'pg_catalog.pg_extension'::regclass
                      and e.extname in ('btree_gin', 'btree_gist', 'citext', 'fuzzystrmatch', 'hstore', 'ltree', 'moddatetime', 'pg_session_jwt', 'pg_trgm', 'pgcrypto', 'unaccent', 'uuid-ossp', 'vector'))`

// leadsSQL is what leads from one object to another. Of a policy's own table only
// a subquery counts, which the tree of the expression has an entry of; Postgres
// records the columns used outside of one alike. What checks and defaults can come
// to is a function or a sequence. Operators, casts and types are taken for
// functions of their arguments.
const leadsSQL = `
with depends as (
  select d.classid, d.objid, d.refobjid, d.refclassid = 'pg_catalog.pg_proc'::regclass as calls
    from pg_catalog.pg_depend d
   where d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
)
select p.polrelid, false, d.refobjid, d.calls, true, d.calls
  from depends d join pg_catalog.pg_policy p on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
 where d.calls or d.refobjid <> p.polrelid or coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '') ~ (':relid ' || p.polrelid || '\M')
union all
select r.ev_class, false, d.refobjid, d.calls, true, true
  from depends d join pg_catalog.pg_rewrite r on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
 where d.calls or d.refobjid <> r.ev_class or r.ev_type <> '1'
union all
select a.adrelid, false, d.refobjid, d.calls, false, true
  from depends d join pg_catalog.pg_attrdef a on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = a.oid
 where d.calls or d.refobjid <> a.adrelid
union all
select k.conrelid, false, d.refobjid, true, false, true
  from depends d join pg_catalog.pg_constraint k on d.classid = 'pg_catalog.pg_constraint'::regclass and d.objid = k.oid
 where d.calls and k.contype = 'c'
union all
select k.confrelid, false, k.conrelid, false, false, true
  from pg_catalog.pg_constraint k
 where k.contype = 'f' and (k.confdeltype not in ('a', 'r') or k.confupdtype not in ('a', 'r'))
union all
select t.tgrelid, false, t.tgfoid, true, false, true from pg_catalog.pg_trigger t where not t.tgisinternal
union all
select i.inhparent, false, i.inhrelid, false, true, true from pg_catalog.pg_inherits i
union all
select i.inhrelid, false, i.inhparent, false, false, true from pg_catalog.pg_inherits i
union all
select d.objid, true, d.refobjid, d.calls, true, d.calls or p.prosqlbody::text ~ ':commandType [2-9]'
  from depends d join pg_catalog.pg_proc p on d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and p.prosqlbody is not null`

func (s *Snapshot) readObjects(ctx context.Context, q Querier) error {
	all := objects{relations: map[uint32]*object{}, functions: map[uint32]*object{}, named: map[string][]*object{}}
	var (
		oid, target         uint32
		name, source        string
		one, other          bool
		calls, read, change bool
	)
	rows, err := q.Query(ctx, relationsSQL)
	if err != nil {
		return err
	}
	if _, err = pgx.ForEachRow(rows, []any{&oid, &name, &one, &other}, func() error {
		o := &object{relation: oid, readsAny: one, writesAny: other}
		all.relations[oid], all.named[name] = o, append(all.named[name], o)
		return nil
	}); err != nil {
		return err
	}
	if rows, err = q.Query(ctx, functionsSQL); err != nil {
		return err
	}
	sources := map[*object]string{}
	if _, err = pgx.ForEachRow(rows, []any{&oid, &name, &source, &other}, func() error {
		o := &object{readsAny: other, writesAny: other}
		all.functions[oid], all.named[name] = o, append(all.named[name], o)
		if !other {
			sources[o] = source
		}
		return nil
	}); err != nil {
		return err
	}
	for o, source := range sources {
		named, any := all.in(source)
		changes := changes.MatchString(source)
		o.reads, o.readsAny, o.writesAny = named, any || changes || differs.MatchString(source), any
		for _, other := range named {
			if other.relation == 0 || changes {
				o.writes = append(o.writes, other)
			}
		}
	}
	if rows, err = q.Query(ctx, leadsSQL); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&oid, &one, &target, &calls, &read, &change}, func() error {
		from, to := all.relations[oid], all.relations[target]
		if one {
			from = all.functions[oid]
		}
		if calls {
			to = all.functions[target]
		}
		if from == nil || to == nil {
			return nil
		}
		if read && !slices.Contains(from.reads, to) {
			from.reads = append(from.reads, to)
		}
		if change && !slices.Contains(from.writes, to) {
			from.writes = append(from.writes, to)
		}
		from.readsAny = from.readsAny || one && change && !calls // a function that does more than read
		return nil
	})
	s.objects = all
	return err
}
