package conformance_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
			insert into postern.receipts (digest, outcome, at) values ('young', 'applied', now() - interval '29 days')`)
		require.Equal(t, "12001", left(b), "nothing happens while the database is not used")
		upload(b)
		require.Eventually(t, func() bool { return left(b) == "2" }, 20*time.Second, 20*time.Millisecond)
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
// and completes it then. No upload comes meanwhile.
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
			database.Exec(t, older.mend)
			s.AwaitReady(t)
		})
	}
}
