package catalog

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sourcesSQL reads what views and functions name: a view, and a function whose body is SQL
// itself, by what they depend on, and another function by its text. A function's name ends
// with a parenthesis. Functions of extensions know no table of the app.
const sourcesSQL = `
with named as (
  select d.classid, d.objid, string_agg(distinct coalesce('"' || c.relname || '"', '"' || p.proname || '"('), ' ') as names
    from pg_catalog.pg_depend d
    left join pg_catalog.pg_class c on d.refclassid = 'pg_catalog.pg_class'::regclass and c.oid = d.refobjid and c.relkind in ('r', 'p', 'v', 'm', 'f')
    left join pg_catalog.pg_proc p on d.refclassid = 'pg_catalog.pg_proc'::regclass and p.oid = d.refobjid
   where d.objid >= 16384 and d.classid in ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass)
   group by 1, 2)
select lower(v.relname) as name, coalesce(named.names, '') as source
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_class v on v.oid = r.ev_class
  join pg_catalog.pg_namespace n on n.oid = v.relnamespace
  left join named on named.classid = 'pg_catalog.pg_rewrite'::regclass and named.objid = r.oid
 where n.nspname not in ('pg_catalog', 'information_schema')
 union all
select lower(p.proname) || '(', p.prosrc || ' ' || coalesce(named.names, '')
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join named on named.classid = 'pg_catalog.pg_proc'::regclass and named.objid = p.oid
 where n.nspname not in ('pg_catalog', 'information_schema', 'postern') and n.nspname !~ '^pg_temp'
   and l.lanname not in ('c', 'internal') and p.prorettype <> 'pg_catalog.trigger'::regtype
   and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
 order by 1, 2`

func (s *Snapshot) readSources(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, sourcesSQL)
	if err != nil {
		return err
	}
	var name, source string
	_, err = pgx.ForEachRow(rows, []any{&name, &source}, func() error {
		fmt.Fprintln(s.sum, name, source)
		s.sources[name] += source + "\n" // functions of one name
		return nil
	})
	return err
}

// Named has the words of a query, and those of the views and functions that it uses, in
// lower case. A table that the query reads is among them, unless a function computes its
// name.
func (s *Snapshot) Named(sql string) (itself, within map[string]bool) {
	itself, within = map[string]bool{}, map[string]bool{}
	used := map[string]bool{}
	texts, named := []string{sql}, itself
	for ; len(texts) > 0; texts, named = texts[1:], within {
		for _, name := range namesIn(texts[0]) {
			named[name] = true
			if source, ok := s.sources[name]; ok && !used[name] {
				used[name] = true
				texts = append(texts, source)
			}
		}
	}
	return itself, within
}

// namesIn are the words and quoted names of a text, and the functions that it calls, with a
// parenthesis.
func namesIn(text string) (names []string) {
	text = strings.ToLower(text)
	for _, pattern := range []*regexp.Regexp{words, quoted} {
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			names = append(names, match[1])
			if match[2] != "" {
				names = append(names, match[1]+match[2])
			}
		}
	}
	return names
}

// A word or a quoted name, and the parenthesis of a call.
var (
	words  = regexp.MustCompile(`([\pL_][\pL\pN_$]*)"?(?:\s*(\())?`)
	quoted = regexp.MustCompile(`"([^"]+)"(?:\s*(\())?`)
)
