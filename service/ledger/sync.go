package ledger

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// AuthorColumns are the columns of postern.rejected_writes that authors may read in
// their own rows.
var AuthorColumns = []string{
	"id", "status", "code", "message", "details", "operation_index", "transaction_id", "transaction", "tables", "client_id",
	"attempts", "first_at", "last_at", "closed_at", "issuer", "subject",
}

// Installed describes for people what is installed of Guide's steps.
func Installed(ctx context.Context, ownerURL string) (string, error) {
	conn, err := pgx.Connect(ctx, ownerURL)
	if err != nil {
		return "", fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var security, published, everything bool
	var policies, readers string
	err = conn.QueryRow(ctx, `
select coalesce((select relrowsecurity from pg_class where oid = to_regclass('postern.rejected_writes')), false),
       coalesce((select string_agg(policyname, ', ' order by policyname) from pg_policies where schemaname = 'postern' and tablename = 'rejected_writes'), 'none'),
       coalesce((select string_agg(distinct grantee::text, ', ') from information_schema.column_privileges
                  where table_schema = 'postern' and table_name = 'rejected_writes' and privilege_type = 'SELECT'), 'nobody'),
       exists (select from pg_publication_tables where pubname = 'powersync' and schemaname = 'postern' and tablename = 'rejected_writes'),
       exists (select from pg_publication where pubname = 'powersync' and puballtables)`).Scan(&security, &policies, &readers, &published, &everything)
	if err != nil {
		return "", fmt.Errorf("reading the state of postern.rejected_writes: %w", err)
	}
	publication := "not in publication powersync: run the statement below"
	switch {
	case everything:
		publication = "in publication powersync, which is for all tables"
	case published:
		publication = "in publication powersync"
	}
	return fmt.Sprintf("postern.rejected_writes in this database:\n  row-level security  %s\n  policies            %s\n  may be read by      %s\n  publication         %s\n",
		map[bool]string{true: "on", false: "off: run postern migrate"}[security], policies, readers, publication), nil
}

// Guide describes how an app syncs its users' rejected writes into their local
// databases. Its facts about PowerSync are from
// https://docs.powersync.com/configuration/source-db/setup and
// https://docs.powersync.com/sync/rules/schemas-and-connections.
func Guide() string {
	var synced []string
	for _, name := range AuthorColumns {
		switch name {
		case "issuer", "subject", "client_id":
		case "transaction":
			synced = append(synced, `"transaction" AS sent`) // a keyword of SQLite
		default:
			synced = append(synced, name)
		}
	}
	return fmt.Sprintf(guide, strings.Join(synced, ", "))
}

const guide = `
1. Let the PowerSync Service replicate the table. Run this as the owner of your tables. If the
   publication is FOR ALL TABLES, leave out the first statement. powersync_role is the role that you made for the
   PowerSync Service.

alter publication powersync add table postern.rejected_writes;
grant usage on schema postern to powersync_role;
grant select on postern.rejected_writes to powersync_role;

2. Sync to each user their own rejected writes that wait for a decision. In your sync streams (config: edition: 3):

streams:
  rejected_writes:
    auto_subscribe: true
    query: |
      SELECT %[1]s
      FROM "postern"."rejected_writes"
      WHERE issuer = auth.parameter('iss') AND subject = auth.user_id() AND (status = 'open' OR status = 'held')

   If you still use sync rules:

bucket_definitions:
  rejected_writes:
    parameters: SELECT request.jwt() ->> 'iss' AS issuer, request.user_id() AS subject
    data:
      - |
        SELECT %[1]s
        FROM "postern"."rejected_writes"
        WHERE issuer = bucket.issuer AND subject = bucket.subject AND (status = 'open' OR status = 'held')

3. Declare the table in the app, and query the local database. This works offline, too:

rejected_writes: new Table({
  status: column.text, code: column.text, message: column.text, details: column.text, operation_index: column.integer,
  transaction_id: column.integer, sent: column.text, tables: column.text, attempts: column.integer,
  first_at: column.text, last_at: column.text, closed_at: column.text
})

SELECT count(*) FROM rejected_writes   -- "3 changes were not accepted"
`
