package conformance_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/ledger"
	"postern/tests/rig"
)

func TestOldReceiptsAreForgotten(t *testing.T) {
	t.Parallel()
	const old = `insert into postern.receipts (digest, outcome, at) select sha256(n::text::bytea), 'applied', now() - interval '31 days' from generate_series(1, 12000) n;`
	left := func(b *testBundle) string { return b.db.Text(t, `select count(*) from postern.receipts`) }
	upload := func(b *testBundle) {
		require.Equal(t, "success", b.Upload(t, "alice", `{"transactions":[{"transaction_id":1,"crud":[`+op("PUT", "lists", "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", `"name":"x"`)+`]}]}`).Results(t)[0].Status)
	}

	t.Run("AfterUse", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.db.Exec(t, old+`
			insert into postern.receipts (digest, outcome, at) values ('young', 'applied', now() - interval '29 days');
			insert into postern.failures (digest, cause, last_at) values ('old', 'ZZ001', now() - interval '49 hours'), ('young', 'ZZ001', now() - interval '47 hours')`)
		require.Equal(t, "12001", left(b), "nothing happens while the database is not used")
		upload(b)
		require.Eventually(t, func() bool { return left(b) == "2" }, 20*time.Second, 20*time.Millisecond)
		b.AwaitTidy(t)
		require.Equal(t, "young", b.db.Text(t, `select string_agg(convert_from(digest, 'UTF8'), ' ') from postern.failures`))
	})

	t.Run("NotByTwoAtATime", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.db.Exec(t, old)
		other, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		_, err = other.Exec(t.Context(), `select pg_advisory_xact_lock(hashtext('postern receipts'))`)
		require.NoError(t, err)
		upload(b)
		b.AwaitTidy(t)
		require.Equal(t, "12001", left(b))
		require.NoError(t, other.Rollback(t.Context()))
	})
}

// TestOlderSchema starts the service on a schema that lacks its last migration,
// and completes it then. Uploads wait until it is complete.
func TestOlderSchema(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	newest := database.Text(t, `select version_id from postern.migrations order by version_id desc limit 1`)
	for _, older := range []struct{ name, become, mend string }{
		{"LacksAMigration", `delete from postern.migrations where version_id = ` + newest, `insert into postern.migrations (version_id, is_applied) values (` + newest + `, true)`},
		{"BeforeTheVersionWasShown", `revoke select on postern.migrations from postern`, `grant select on postern.migrations to postern`},
	} {
		t.Run(older.name, func(t *testing.T) {
			database.Exec(t, older.become)
			s := rig.NewServiceUnready(t, database, rig.DemoPolicies(t))
			require.Eventually(t, func() bool {
				return strings.Contains(s.Send(t, http.MethodGet, "/readyz", "").Body, "of an older version: run `postern migrate`")
			}, 10*time.Second, 10*time.Millisecond)
			put := `{"transactions":[{"crud":[` + op("PUT", "lists", uuid.NewString(), `"name":"x"`) + `]}]}`
			waits := s.Upload(t, "alice", put)
			require.Equal(t, http.StatusServiceUnavailable, waits.Status, waits.Body)
			require.NotEmpty(t, waits.Header.Get("Retry-After"))
			require.Contains(t, s.Logs.String(), "schema postern is missing or of an older version")
			database.Exec(t, older.mend)
			s.AwaitReady(t)
			require.Equal(t, "success", s.Upload(t, "alice", put).Results(t)[0].Status)
		})
	}
}

// TestNewerSchema starts the service on a schema that a newer version has migrated, as a
// rollback does.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	known := database.Text(t, `select max(version_id) from postern.migrations`)
	database.Exec(t, `insert into postern.migrations (version_id, is_applied) values (99, true)`)
	s := rig.NewServiceOn(t, database, rig.DemoPolicies(t))
	require.Eventually(t, func() bool {
		return strings.Contains(s.Logs.String(), "schema postern is of a newer version") && strings.Contains(s.Logs.String(), `"installed":99,"known":`+known)
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, "success", s.One(t, "alice", op("PUT", "lists", uuid.NewString(), `"name":"x"`)).Status)
}

// Whoever has a grant on schema postern by mistake, as default privileges give it, sees
// no row of it.
func TestRowLevelSecurityOfPosternsTables(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, "success", b.One(t, "alice", op("PUT", "lists", "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", `"name":"x"`)).Status)
	b.db.Exec(t, `create role reader nologin; grant usage on schema postern to reader; grant all on all tables in schema postern to reader`)
	t.Cleanup(func() {
		_, err := b.db.Owner.Exec(context.WithoutCancel(t.Context()), `drop owned by reader; drop role reader`)
		require.NoError(t, err)
	})
	tables, err := b.db.Owner.Query(t.Context(), `select oid::regclass::text from pg_class where relnamespace = 'postern'::regnamespace and relkind in ('r', 'p')`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(tables, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, names, "postern.river_job")
	seen := map[string]int{}
	for _, role := range []string{"reader", "postern"} {
		tx, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `grant select on all tables in schema postern to postern; set role `+role)
		require.NoError(t, err)
		for _, table := range names {
			var n int
			require.NoError(t, tx.QueryRow(t.Context(), `select count(*) from `+table).Scan(&n), table)
			seen[role] += n
			if role == "reader" {
				require.Zero(t, n, table)
			}
		}
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.Positive(t, seen["postern"], "the login role sees what is there")
}

// The login role neither reads nor writes the app's tables, as long as it has not become
// a user's role.
func TestLoginRoleHasNoTable(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	pool, err := service.Connect(db.LoginURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		`select from public.lists`,
		`insert into public.lists (id, owner_id, name) values (gen_random_uuid(), gen_random_uuid(), 'x')`,
		`update public.lists set name = 'x'`, `delete from public.lists`, `truncate public.lists`,
	} {
		_, err := pool.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "permission denied for table lists", statement)
	}
}

// A new version migrates while the older one serves, which has tables without row-level
// security: every upload succeeds.
func TestRowLevelSecurityComesWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 {
		b.db.Exec(t, `do $$ declare t text; begin
			for t in select oid::regclass::text from pg_class where relnamespace = 'postern'::regnamespace and relkind = 'r' loop
				execute format('drop policy if exists "postern reads and writes all rows" on %s', t);
				execute format('alter table %s disable row level security', t);
			end loop; end $$`)
		migrated := make(chan error, 1)
		go func() {
			_, err := ledger.Migrate(t.Context(), b.db.OwnerURL, []string{"authenticated"}, nil)
			migrated <- err
		}()
		for done := false; !done; {
			select {
			case err := <-migrated:
				require.NoError(t, err)
				done = true
			default:
			}
			rejected := b.One(t, "alice", op("PUT", "lists", uuid.NewString(), `"name":"`+strings.Repeat("x", 201)+`"`))
			require.Equal(t, "fatal_error", rejected.Status, rejected.Message)
			applied := b.One(t, "alice", op("PUT", "lists", uuid.NewString(), `"name":"x"`))
			require.Equal(t, "success", applied.Status, applied.Message)
		}
		require.Equal(t, "0", b.db.Text(t, `select count(*) from pg_class where relnamespace = 'postern'::regnamespace and relkind = 'r' and not relrowsecurity`))
	}
}
