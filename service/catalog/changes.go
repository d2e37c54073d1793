package catalog

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// fingerprinted are the system catalogues that readAll reads, with the rows that are not
// Postgres' own, whose OIDs are below 16384.
var fingerprinted = []string{
	"pg_namespace", "pg_class where oid >= 16384", "pg_attribute where attrelid >= 16384", "pg_type where oid >= 16384",
	"pg_enum", "pg_range where rngtypid >= 16384", "pg_opclass where oid >= 16384", "pg_constraint where oid >= 16384",
	"pg_index where indrelid >= 16384", "pg_rewrite where oid >= 16384", "pg_trigger where oid >= 16384", "pg_proc where oid >= 16384", "pg_db_role_setting", "pg_auth_members",
}

// readFingerprint reads a text that changes with the system catalogues: each change makes
// a new version of a row, with another place (ctid) and another transaction (xmin).
func readFingerprint(ctx context.Context, q Querier, roles []string) (string, error) {
	var sql strings.Builder
	sql.WriteString("select concat_ws(' '")
	for _, rows := range fingerprinted {
		sql.WriteString(", (select sum(hashtextextended(ctid::text || xmin::text, 0)) from pg_catalog." + rows + ")")
	}
	sql.WriteString(", (select sum(hashtextextended(oid::text || rolname || rolsuper::text, 0)) from pg_catalog.pg_roles where rolname = any($1)))")
	rows, err := q.Query(ctx, sql.String(), roles)
	if err != nil {
		return "", err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
}

// versionsSQL has a sum for each table over the xmin of its rows in the system catalogues.
// postern.expect_tables must compute the same.
const versionsSQL = `
select relid, sum(hashint8(xid::text::int8))
  from (select oid as relid, xmin as xid from pg_catalog.pg_class where relkind in ('r', 'p') and oid >= 16384
         union all select attrelid, xmin from pg_catalog.pg_attribute where attrelid >= 16384
         union all select tgrelid, xmin from pg_catalog.pg_trigger
         union all select conrelid, xmin from pg_catalog.pg_constraint where conrelid >= 16384) as part
 group by relid`

func (s *Snapshot) readVersions(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, versionsSQL)
	if err != nil {
		return err
	}
	var (
		table   uint32
		version int64
	)
	_, err = pgx.ForEachRow(rows, []any{&table, &version}, func() error {
		if t := s.byOID[table]; t != nil {
			t.version = version
		}
		return nil
	})
	return err
}
