package ledger

import (
	"context"
	_ "embed"
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
	var policies, readers, replicas string
	err = conn.QueryRow(ctx, `
select coalesce((select relrowsecurity from pg_class where oid = to_regclass('postern.rejected_writes')), false),
       coalesce((select string_agg(policyname, ', ' order by policyname) from pg_policies where schemaname = 'postern' and tablename = 'rejected_writes'), 'none'),
       coalesce((select string_agg(distinct grantee::text, ', ') from information_schema.column_privileges
                  where table_schema = 'postern' and table_name = 'rejected_writes' and privilege_type = 'SELECT'), 'nobody'),
       exists (select from pg_publication_tables where pubname = 'powersync' and schemaname = 'postern' and tablename = 'rejected_writes'),
       exists (select from pg_publication where pubname = 'powersync' and puballtables),
       coalesce((select string_agg(quote_ident(rolname) || case when rolbypassrls then ''
                                   else format(' (row-level security hides every row from it: run alter role %I bypassrls)', rolname) end, ', ' order by rolname)
                   from pg_roles where rolreplication and rolcanlogin and not rolsuper and rolname <> current_user
                    and has_table_privilege(oid, to_regclass('postern.rejected_writes'), 'select')), 'none may read it')`).
		Scan(&security, &policies, &readers, &published, &everything, &replicas)
	if err != nil {
		return "", fmt.Errorf("reading the state of postern.rejected_writes: %w", err)
	}
	publication := "not in publication powersync: run the statements below"
	switch {
	case everything:
		publication = "in publication powersync, which is for all tables"
	case published:
		publication = "in publication powersync"
	}
	return fmt.Sprintf("postern.rejected_writes in this database:\n  row-level security  %s\n  policies            %s\n  may be read by      %s\n  replication roles   %s\n  publication         %s\n",
		map[bool]string{true: "on", false: "off: run postern migrate"}[security], policies, readers, replicas, publication), nil
}

//go:embed sync.md
var guide string

// Guide describes, in Markdown, how an app syncs its users' rejected writes into their
// local databases. Its facts about PowerSync are from
// https://docs.powersync.com/configuration/source-db/setup and
// https://docs.powersync.com/sync/rules/schemas-and-connections.
func Guide() string { return fmt.Sprintf(guide, Stream(), syncedColumns()) }

// Stream is a sync stream that gives users their own rejected writes which wait for a
// decision: one entry of streams in a sync configuration of edition 3.
func Stream() string { return fmt.Sprintf(stream, syncedColumns()) }

const stream = `  rejected_writes:
    auto_subscribe: true
    query: |
      SELECT %s
      FROM "postern"."rejected_writes"
      WHERE issuer = auth.parameter('iss') AND subject = auth.user_id() AND (status = 'open' OR status = 'held')
`

func syncedColumns() string {
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
	return strings.Join(synced, ", ")
}
