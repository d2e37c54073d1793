package catalog

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// What says nothing of what it reads or changes: statements put together as text,
// settings, definitions, and functions of Postgres that run queries, look at its own
// tables or at what a transaction has done.
var (
	untold = regexp.MustCompile(`(?i)\b(execute|create|alter|drop|truncate|grant|revoke|comment\s+on|security\s+label|reassign|import|do\s+(\$|'|language)|set\s+(local|session)|set\s+[\w."]+\s+to|set\s+[\w"]+\.|reset|set_config|setval|currval|lastval|information_schema|ts_stat|ts_rewrite|lo_\w+|lo(read|write)|(query|cursor|table|schema|database)_to_xml|pg_\w+)|(^|;|\b(begin|then|else|loop))\s*set\s|\bU&"`)
	told   = regexp.MustCompile(`(?i)^pg_(catalog|trigger_depth|notify|typeof)$`)
	// What a function that changes something has in it, and a query that locks.
	changes = regexp.MustCompile(`(?i)\b(insert|update|delete|merge|copy|refresh|lock|share)\b`)
	differs = regexp.MustCompile(`(?i)\b(nextval|random\w*|gen_random_\w+|uuid_generate_\w+|uuidv\d|clock_timestamp|timeofday|setseed|gen_salt|array_(shuffle|sample))\b`)
	// Names, as Postgres reads them: see
	// https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
	plainName  = regexp.MustCompile(`(\.\s*)?((?:[A-Za-z_]|[^\x00-\x7f])(?:[A-Za-z0-9_$]|[^\x00-\x7f])*)`)
	quotedName = regexp.MustCompile(`^"((?:[^"]|"")+)"`)
	// What a trigger's function does to its row: harmless is what sets nothing of it.
	returnsRow = regexp.MustCompile(`(?i)\breturn\s+(new|old|null)\s*;`)
	returns    = regexp.MustCompile(`(?i)\breturn\b`)
	wholeNew   = regexp.MustCompile(`(?i)\bnew\b\s*([^\s.]|$)`)
	columnNew  = regexp.MustCompile(`(?i)\bnew\s*\.\s*("(?:[^"]|"")+"|[^\s"=:;,.()<>!|+*/\[\]-]+)\s*(::|[;,)<>!|+]|(?:and|or|then|is|from|where|as)\b)?`)
	fillsIn    = regexp.MustCompile(`(?i)\b(into|call|for|foreach)\b`)
	insertInto = regexp.MustCompile(`(?i)\b(insert|merge)\s+into\b`)
)

// fold is a name as Postgres keeps it that is not quoted.
func fold(name string) string {
	folded := []byte(name)
	for i, c := range folded {
		if 'A' <= c && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return cut(string(folded))
}

// cut cuts a name to the 63 bytes that Postgres keeps of it.
func cut(name string) string {
	const most = 63
	end := min(most, len(name))
	for end < len(name) && end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// in finds what a text names, in code, in quotes or in a comment.
func (o *objects) in(text string) (named []*namesakes, anything bool) {
	for _, found := range untold.FindAllString(text, -1) {
		anything = anything || !told.MatchString(found)
	}
	seen := map[*namesakes]bool{}
	add := func(name string) {
		if n := o.names[name]; n != nil && !seen[n] {
			seen[n] = true
			named = append(named, n)
		}
	}
	for _, found := range plainName.FindAllStringSubmatch(text, -1) {
		if add(fold(found[2])); found[1] != "" {
			add("." + fold(found[2]))
		}
	}
	for i := range len(text) { // any quote may be the first one: others stand in texts and comments
		if text[i] != '"' {
			continue
		}
		if found := quotedName.FindStringSubmatch(text[i:]); found != nil {
			quoted := cut(strings.ReplaceAll(found[1], `""`, `"`))
			add(quoted)
			add("." + quoted)
		}
	}
	return named, anything
}

// triggerOf tells what a function in PL/pgSQL does to its row.
func triggerOf(source string) *trigger {
	source = returnsRow.ReplaceAllString(source, ";")
	t := &trigger{replaces: returns.MatchString(source) || wholeNew.MatchString(source)}
	fillsIn := fillsIn.MatchString(insertInto.ReplaceAllString(source, ""))
	for _, found := range columnNew.FindAllStringSubmatch(source, -1) {
		if fillsIn || found[2] == "" {
			t.columns = append(t.columns, fold(strings.ReplaceAll(strings.Trim(found[1], `"`), `""`, `"`)))
		}
	}
	return t
}

const relationsSQL = `
select c.oid, c.relname, c.relkind in ('f', 'S') as reads_any, c.relkind = 'f' as writes_any,
       case when c.relkind in ('v', 'm', 'f') then array(select a.attname || ' ' || a.atttypid from pg_catalog.pg_attribute a
                                                          where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)::text else '' end as columns
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
 order by c.oid`

// functionsSQL leaves out what is compiled and immutable, as it looks at nothing but
// its arguments; and the functions of the extensions named here, which look at the
// session at most. A word that SQL keeps for itself names a function only after a dot.
const functionsSQL = `
select p.oid, case when k.word is not null then '.' else '' end || p.proname as name, p.prosrc,
       l.lanname not in ('sql', 'plpgsql') or p.prokind = 'a' as does_any, p.prorettype = 'pg_catalog.trigger'::regtype as is_trigger,
       p.proargtypes::text || ' ' || p.prorettype as signature
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join pg_get_keywords() k on k.word = p.proname and k.catcode in ('C', 'R')
 where n.nspname not in ('pg_catalog', 'information_schema', 'postern') and n.nspname !~ '^pg_temp'
   and not (l.lanname in ('c', 'internal') and p.prokind <> 'a' and p.provolatile = 'i')
   and not exists (select from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
                    where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e' and d.refclassid = 'pg_catalog.pg_extension'::regclass
                      and e.extname in ('btree_gin', 'btree_gist', 'citext', 'fuzzystrmatch', 'hstore', 'ltree', 'moddatetime', 'pg_session_jwt', 'pg_trgm', 'pgcrypto', 'unaccent', 'uuid-ossp', 'vector'))
 order by p.oid`

// leadsSQL is what leads from one object to another. Of a policy's own table only
// a subquery counts, which the tree of the expression has an entry of; Postgres
// records the columns used outside of one alike. What checks and defaults can come
// to is a function or a sequence. Functions have defaults, too, for their arguments,
// and those whose body Postgres keeps parsed have in it what they call.
const leadsSQL = `
with depends as materialized (
  select d.classid, d.objid, d.refobjid, d.refclassid = 'pg_catalog.pg_proc'::regclass as calls
    from pg_catalog.pg_depend d
   where d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
)
select p.polrelid as from_oid, false as from_function, d.refobjid as to_oid, d.calls as to_function, true as reads, d.calls as writes
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
 where d.calls and k.contype = 'c' and k.conrelid <> 0
union all
select k.confrelid, false, k.conrelid, false, false, true
  from pg_catalog.pg_constraint k
 where k.contype = 'f' and (k.confdeltype not in ('a', 'r') or k.confupdtype not in ('a', 'r'))
union all
select t.tgrelid, false, d.refobjid, true, false, true
  from depends d join pg_catalog.pg_trigger t on d.classid = 'pg_catalog.pg_trigger'::regclass and d.objid = t.oid and not t.tgisinternal
 where d.calls
union all
select i.inhparent, false, i.inhrelid, false, true, true from pg_catalog.pg_inherits i
union all
select i.inhrelid, false, i.inhparent, false, false, true from pg_catalog.pg_inherits i
union all
select d.objid, true, d.refobjid, d.calls, true, d.calls or coalesce(p.prosqlbody::text ~ ':commandType [2-9]', false)
  from depends d join pg_catalog.pg_proc p on d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid`

// treesSQL looks for functions of Postgres' own in what it keeps parsed, which it
// records no dependence on: those that the words above stand for. owner is a relation,
// or a function; what is read and what is written by it cannot be told.
const treesSQL = `
with owned (owner, function, read, tree) as (
  select polrelid, false, true, coalesce(polqual::text, '') || coalesce(polwithcheck::text, '') from pg_catalog.pg_policy
  union all
  select r.ev_class, false, true, r.ev_action::text from pg_catalog.pg_rewrite r
    join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema')
  union all
  select adrelid, false, false, adbin::text from pg_catalog.pg_attrdef
  union all
  select conrelid, false, false, conbin::text from pg_catalog.pg_constraint where contype = 'c' and conrelid <> 0
  union all
  select tgrelid, false, false, tgqual::text from pg_catalog.pg_trigger where tgqual is not null
  union all
  select p.oid, true, true, p.prosqlbody::text from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname not in ('pg_catalog', 'information_schema') where p.prosqlbody is not null
), own as (
  select oid, proname ~ '^(nextval|random|gen_random|uuid|clock_timestamp|timeofday|array_s|setseed)' as differs
    from pg_catalog.pg_proc
   where pronamespace = 'pg_catalog'::regnamespace
     and proname ~ '^(nextval|random|gen_random_|uuidv|clock_timestamp$|timeofday|array_(shuffle|sample)|setseed|set_config|setval|currval|lastval|ts_stat|ts_rewrite|lo_|loread|lowrite|(query|cursor|table|schema|database)_to_xml|txid_|pg_(?!notify|typeof|trigger_depth))'
)
select owner, function, bool_or(read), bool_or(not differs)
  from owned cross join lateral regexp_matches(tree, ':(?:funcid|opfuncid) ([0-9]+)', 'g') as found (of) join own on own.oid = found.of[1]::oid
 group by owner, function`

// oddSQL looks for functions, other than compiled ones, behind operators, casts,
// and what types check, compare and default to; and for triggers that may wait for a
// transaction's end.
const oddSQL = `
select exists (
  select from pg_catalog.pg_depend d
    join pg_catalog.pg_proc p on d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = p.oid
    join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
    left join pg_catalog.pg_constraint k on d.classid = 'pg_catalog.pg_constraint'::regclass and k.oid = d.objid
   where d.classid in ('pg_catalog.pg_operator'::regclass, 'pg_catalog.pg_cast'::regclass, 'pg_catalog.pg_type'::regclass) or k.contypid <> 0
), exists (select from pg_catalog.pg_trigger where not tgisinternal and tgdeferrable)`

func (s *Snapshot) readObjects(ctx context.Context, q Querier) error {
	s.objects = objects{relations: map[uint32]*object{}, names: map[string]*namesakes{}, known: &sync.Map{}}
	functions, err := s.readFunctions(ctx, q)
	if err != nil {
		return err
	}
	rows, err := q.Query(ctx, leadsSQL)
	if err != nil {
		return err
	}
	var (
		from, to                                uint32
		fromFunction, toFunction, reads, writes bool
	)
	find := func(oid uint32, function bool) *object {
		if function {
			return functions[oid]
		}
		return s.objects.relations[oid]
	}
	_, err = pgx.ForEachRow(rows, []any{&from, &fromFunction, &to, &toFunction, &reads, &writes}, func() error {
		one, other := find(from, fromFunction), find(to, toFunction)
		if one == nil || other == nil {
			return nil
		}
		if reads {
			one.reads = append(one.reads, other)
		}
		if writes {
			one.writes = append(one.writes, other)
		}
		if fromFunction && writes && !toFunction {
			one.readsAny, one.alters = true, true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rows, err = q.Query(ctx, treesSQL); err != nil {
		return err
	}
	if _, err = pgx.ForEachRow(rows, []any{&from, &fromFunction, &reads, &writes}, func() error {
		if o := find(from, fromFunction); o != nil {
			o.readsAny, o.writesAny = o.readsAny || reads, o.writesAny || writes
			o.alters = o.alters || fromFunction && writes
		}
		return nil
	}); err != nil {
		return err
	}
	rows, err = q.Query(ctx, oddSQL)
	if err != nil {
		return err
	}
	rows.Next()
	err = rows.Scan(&s.objects.odd, &s.DeferredTriggers)
	rows.Close()
	return err
}

// readFunctions reads the relations and the functions, and what these name.
func (s *Snapshot) readFunctions(ctx context.Context, q Querier) (map[uint32]*object, error) {
	var (
		oid                          uint32
		text, source, signature      string
		readsAny, writesAny, trigger bool
	)
	rows, err := q.Query(ctx, relationsSQL)
	if err != nil {
		return nil, err
	}
	if _, err = pgx.ForEachRow(rows, []any{&oid, &text, &readsAny, &writesAny, &signature}, func() error {
		fmt.Fprintln(s.sum, oid, signature)
		o := &object{relation: oid, readsAny: readsAny, writesAny: writesAny}
		s.objects.relations[oid] = o
		n := s.objects.called(text)
		n.all.reads = append(n.all.reads, o)
		return nil
	}); err != nil {
		return nil, err
	}
	if rows, err = q.Query(ctx, functionsSQL); err != nil {
		return nil, err
	}
	functions, sources := map[uint32]*object{}, map[string][]*object{}
	if _, err = pgx.ForEachRow(rows, []any{&oid, &text, &source, &readsAny, &trigger, &signature}, func() error {
		fmt.Fprintln(s.sum, oid, signature)
		o := &object{readsAny: readsAny, writesAny: readsAny, alters: readsAny}
		functions[oid] = o
		n := s.objects.called(text)
		n.all.reads, n.functions.writes = append(n.all.reads, o), append(n.functions.writes, o)
		if !readsAny {
			sources[source] = append(sources[source], o)
		}
		if trigger {
			o.trigger = triggerOf(source)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, n := range s.objects.names {
		n.all.writes = n.all.reads
	}
	for source, same := range sources { // schemas of tenants have the same functions
		named, anything := s.objects.in(source)
		alters, varies := changes.MatchString(source), differs.MatchString(source)
		for _, o := range same {
			o.readsAny, o.writesAny, o.alters = anything || alters || varies, anything, anything || alters
			for _, n := range named {
				o.reads = append(o.reads, &n.all)
				if alters {
					o.writes = append(o.writes, &n.all)
				} else {
					o.writes = append(o.writes, &n.functions)
				}
			}
		}
	}
	return functions, nil
}
