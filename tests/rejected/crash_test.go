package rejected_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// gates are where a database transaction can be made to wait: each is the SQL
// of somebody who is in the way for as long as their transaction is open.
var gates = []struct{ name, setup, block string }{
	{"Receipt", ``, `lock table postern.receipts in access exclusive mode`},
	{"Record", ``, `lock table postern.rejected_writes in share mode`},
	{"Author", ``, `lock table postern.rejected_identities in access exclusive mode`},
	{"Action", ``, `lock table postern.rejected_actions in access exclusive mode`},
	{"Operation", ``, `lock table lists in share mode`},
	{"Commit", `
create function await() returns trigger language plpgsql security definer as $$
begin perform pg_advisory_xact_lock(77); return null; end $$;
create constraint trigger await after insert on lists deferrable initially deferred for each row execute function await();
create constraint trigger await after insert or update on postern.rejected_writes deferrable initially deferred for each row execute function await()`,
		`select pg_advisory_xact_lock(77)`},
}

// block gets in the way, and returns what ends that.
func (b *testBundle) block(t *testing.T, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.db.OwnerURL)
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql)
	require.NoError(t, err)
	return func() {
		require.NoError(t, tx.Rollback(t.Context()))
		require.NoError(t, conn.Close(t.Context()))
	}
}

const waiting = ` from pg_stat_activity where datname = current_database() and usename = 'postern' and wait_event_type = 'Lock'`

// awaitBlocked returns when the login role waits for a lock.
func (b *testBundle) awaitBlocked(t *testing.T, p interface{ Output() string }) {
	t.Helper()
	require.Eventually(t, func() bool { return b.db.Text(t, `select count(*) > 0`+waiting) == "true" }, 20*time.Second, 5*time.Millisecond, "%s", p.Output())
}

// awaitIdle returns when nothing of the login role's is under way.
func (b *testBundle) awaitIdle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and usename = 'postern' and state <> 'idle'`) == "0"
	}, 20*time.Second, 5*time.Millisecond)
}

// A replay is killed at each point, with and without its database connection.
// Then either nothing has happened or everything has, and another run ends it.
func TestReplayKilledAtEachPoint(t *testing.T) {
	t.Parallel()
	for _, gate := range gates {
		if gate.name == "Author" {
			continue // which a replay reads before it begins
		}
		for _, connection := range []string{"Kept", "Lost"} {
			t.Run(gate.name+"/Connection"+connection, func(t *testing.T) {
				b := setup(t)
				list, record := b.rejectedList(t, "alice", 1)
				b.fix(t)
				if gate.setup != "" {
					b.db.Exec(t, gate.setup)
				}
				release := b.block(t, gate.block)
				p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"DATABASE_URL=" + b.db.LoginURL, "POSTERN_POLICIES=../../policies/demo"},
					rig.Command(t), "rejected", "replay", record, "--by", "ann")
				require.NoError(t, err)
				b.awaitBlocked(t, p)
				p.Kill()
				if connection == "Lost" {
					b.db.Exec(t, `select pg_terminate_backend(pid)`+waiting)
				}
				release()
				b.awaitIdle(t)

				state := func() string {
					return b.db.Text(t, `select concat_ws(' ', (select status from postern.rejected_writes), (select count(*) from lists where id = $1::uuid),
  (select count(*) from postern.rejected_actions), (select string_agg(outcome, ',') from postern.receipts))`, list)
				}
				const nothing, everything = "open 0 0 rejected", "replayed 1 1 applied"
				if connection == "Lost" {
					require.Equal(t, nothing, state())
				} else {
					// Postgres had been told all of it. It gives up if the wait took longer than the
					// lock_timeout of the first try, which is 200 ms, and there is nobody to try again.
					require.Contains(t, []string{everything, nothing}, state())
				}
				_, _ = postern(t, b.db.LoginURL, "rejected", "replay", record, "--by", "ann")
				require.Equal(t, everything, state())
			})
		}
	}
}

// The service is killed at each point of storing a rejected write. Its client,
// which has no answer, comes again; there is one record, and it is whole.
func TestServiceKilledAtEachPoint(t *testing.T) {
	t.Parallel()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys := rig.ServeIssuer(t, issuer)
	for _, gate := range gates {
		if gate.name == "Operation" || gate.name == "Action" {
			continue // which storing a rejected write does not touch
		}
		t.Run(gate.name, func(t *testing.T) {
			t.Parallel()
			b := &testBundle{db: rig.NewDatabase(t), alice: local.UserID("alice")}
			if gate.setup != "" {
				b.db.Exec(t, gate.setup)
			}
			serve := func() (*rig.Process, string) {
				p, url, err := rig.Serve(t.Context(), filepath.Join(t.TempDir(), "output"), rig.Command(t), b.db.LoginURL, keys, "../../policies/demo")
				require.NoError(t, err)
				t.Cleanup(p.Kill)
				return p, url
			}
			token, err := issuer.Token("alice", time.Now())
			require.NoError(t, err)
			body := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`, uuid.NewString(), tooLong)
			send := func(url string) (*http.Response, error) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/data", strings.NewReader(body))
				require.NoError(t, err)
				request.Header.Set("Authorization", "Bearer "+token)
				return http.DefaultClient.Do(request)
			}

			p, url := serve()
			release := b.block(t, gate.block)
			answered := make(chan error, 1)
			go func() {
				response, err := send(url)
				if err == nil {
					response.Body.Close()
				}
				answered <- err
			}()
			b.awaitBlocked(t, p)
			p.Kill()
			require.Error(t, <-answered, "there is no answer before the record is durable")
			release()
			b.awaitIdle(t)

			_, url = serve()
			response, err := send(url)
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes w join postern.rejected_identities i using (id) join postern.receipts r using (digest)`))
			require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes`))
			require.Equal(t, "open", b.db.Text(t, `select status from postern.rejected_writes`))
		})
	}
}

// A record that cannot be stored is not acknowledged.
func TestNotStoredIsRetryable(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `revoke insert on postern.rejected_writes from postern`)
	result := b.One(t, "alice", fmt.Sprintf(`{"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}`, uuid.NewString(), tooLong))
	require.Equal(t, "retryable_error", result.Status)
	b.db.Exec(t, `grant insert on postern.rejected_writes to postern`)
}
