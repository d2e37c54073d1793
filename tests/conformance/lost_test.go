package conformance_test

import (
	"fmt"
	"net/http"
	"sync"
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

// TestEveryConnectionEnded has the database end all connections of the pool, as a restart
// does, while they are idle. No request may fail because of it.
func TestEveryConnectionEnded(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `create table counters (id text primary key, n int); grant select, insert, update on counters to authenticated;
		create function wait() returns trigger language plpgsql as 'begin if new.n = 0 then perform pg_sleep(0.5); end if; return new; end';
		create trigger wait before insert on counters for each row execute function wait()`)
	s := rig.NewServiceOn(t, db, rig.Policies(t, `tables: {counters: {allow: all}}`))
	upload := func(i, n int) string {
		return s.One(t, "alice", op("PUT", "counters", fmt.Sprint(i), fmt.Sprintf(`"n":%d`, n))).Status
	}
	for round, test := range []struct {
		name string
		send func(t *testing.T, i int)
	}{
		{"Upload", func(t *testing.T, i int) { require.Equal(t, "success", upload(100+i, 1)) }},
		{"UploadThatNeedsTheCatalogue", func(t *testing.T, i int) {
			db.Exec(t, fmt.Sprintf(`alter table counters add column m%d int`, i))
			require.Equal(t, "success", s.One(t, "alice", op("PUT", "counters", fmt.Sprint(200+i), fmt.Sprintf(`"n":1,"m%d":1`, i))).Status)
		}},
		{"Rejected", func(t *testing.T, _ int) {
			require.Equal(t, http.StatusOK, s.Send(t, http.MethodGet, "/api/rejected", "", "Authorization", "Bearer "+s.Token(t, "alice")).Status)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var filling sync.WaitGroup
			for i := range 20 {
				filling.Go(func() { upload(1000*(round+1)+i, 0) })
			}
			filling.Wait()
			ended := db.Text(t, `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'postern' and datname = current_database()`)
			require.GreaterOrEqual(t, len(ended), 2, "at least 10 connections: %s", ended)
			for i := range 8 {
				test.send(t, i)
			}
		})
	}
}
