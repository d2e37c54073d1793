package ledger

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Missing describes what the connected role and the users' roles lack in schema postern,
// which must exist: rights, row-level security, and the policy by which authors read their
// rejected writes. `postern migrate` restores all of it.
func Missing(ctx context.Context, db *pgxpool.Pool, roles []string) ([]string, error) {
	var names, privileges []string
	for _, table := range loginTables {
		names, privileges = append(names, table.name), append(privileges, strings.ReplaceAll(table.privileges, " ", ""))
	}
	rows, err := db.Query(ctx, missingSQL, names, privileges, roles)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const missingSQL = `
with wanted as (
  select w.name, p.privilege, to_regclass('postern.' || w.name) as oid
    from unnest($1::text[], $2::text[]) as w(name, privileges), unnest(string_to_array(w.privileges, ',')) as p(privilege)
), users as (
  select oid, rolname from pg_catalog.pg_roles where rolname = current_user or rolname = any($3)
)
select format('role %I lacks usage on schema postern', rolname) from users u
 where not has_schema_privilege(u.oid, 'postern', 'usage')
 union all
select format('there is no table postern.%I', name) from wanted where oid is null group by name
 union all
select format('role %I lacks %s on postern.%I', current_user, string_agg(privilege, ', '), name) from wanted
 where oid is not null and not has_table_privilege(oid, privilege) group by name
 union all
select format('role %I lacks execute on %s', u.rolname, string_agg('postern.' || p.proname, ', ' order by p.proname)) from users u, pg_catalog.pg_proc p
 where p.pronamespace = 'postern'::regnamespace and p.prokind = 'f' and not p.proname like 'river\_%' and not has_function_privilege(u.oid, p.oid, 'execute')
 group by u.rolname
 union all
select format('row-level security is off on postern.%I', c.relname) from pg_catalog.pg_class c
 where c.relnamespace = 'postern'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity
 union all
select 'postern.rejected_writes has no policy "authors read their own rows"'
 where to_regclass('postern.rejected_writes') is not null
   and not exists (select from pg_catalog.pg_policies where schemaname = 'postern' and tablename = 'rejected_writes' and policyname = 'authors read their own rows')
 order by 1`
