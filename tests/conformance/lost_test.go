package conformance_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestLostCommit has the service lose answers of the database, and try again, with
// transactions that no id tells apart. Each may count once at most.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `create table counters (id text primary key, n int);
		create table effects (id text);
		grant select, insert, update on counters to authenticated;
		create function count_effect() returns trigger language plpgsql security definer as 'begin insert into public.effects values (new.id); return new; end';
		create trigger count_effect after insert or update on counters for each row execute function count_effect()`)
	var ready atomic.Bool
	fates := rig.RandomFates(1, 1000, 10_000, rig.DropAnswer)
	proxy := rig.NewProxy(t, rig.HostPort(t, db.LoginURL), rig.ProxyOptions{Fate: func() (fate rig.Fate) {
		if ready.Load() {
			fate = fates()
		}
		return fate
	}})
	through := *db
	var err error
	through.LoginURL, err = proxy.URL(db.LoginURL)
	require.NoError(t, err)
	s := rig.NewServiceOn(t, &through, rig.Policies(t, `tables: {counters: {allow: all}}`))
	ready.Store(true)
	proxy.Cut()
	const transactions = 300
	succeeded := 0
	for i := range transactions {
		id := fmt.Sprint("c", i)
		body := fmt.Sprintf(`{"transactions":[{"crud":[{"op":"PUT","table":"counters","id":%q,"op_data":{"n":1}}]}]}`, id)
		result := s.Upload(t, "alice", body).Results(t)[0]
		count := db.Text(t, `select count(*) from effects where id = $1`, id)
		if result.Status == "success" {
			succeeded++
			require.Equal(t, "1", count)
		} else {
			require.Equal(t, "retryable_error", result.Status)
			require.Contains(t, []string{"0", "1"}, count)
		}
	}
	require.Greater(t, succeeded, transactions/2)
	require.Positive(t, proxy.Drops())
	t.Logf("%d of %d succeeded, %d answers were lost", succeeded, transactions, proxy.Drops())
}
