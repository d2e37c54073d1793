// Package faults breaks what Postern stands on while devices upload: the
// connections on both of its sides, its process, its database. Devices send
// again what was not answered, as the SDK's connector does, and in the end each
// transaction must have taken effect exactly once, or have been rejected once
// and without effect. Each test logs an account of that as a table.
//
// The chaos of each test comes from a seed that it logs. The same seed gives the
// same transactions and the same fates of connections; how threads meet is the
// machine's own.
package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// schema has a trace of every change. Each write carries a marker that no other
// write carries, and a trigger notes it in effects: a write that happens twice is
// there twice. A counter goes up by one with each update of it, so that an update
// that happens twice shows in the row as well.
const schema = `
create table counters (id uuid primary key, owner_id uuid not null default auth.uid(), n bigint not null default 0, marker text not null);
create table entries (id uuid primary key, owner_id uuid not null default auth.uid(), amount integer not null check (amount >= 0), marker text not null);
create table effects (marker text not null, op text not null);

create function note_effect() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.effects values (case tg_op when 'DELETE' then old.marker else new.marker end, tg_op);
  return null;
end $$;
create trigger note_effect after insert or update or delete on counters for each row execute function note_effect();
create trigger note_effect after insert or update or delete on entries for each row execute function note_effect();

create function count_up() returns trigger language plpgsql set search_path = '' as $$
begin
  new.n := old.n + 1;
  return new;
end $$;
create trigger count_up before update on counters for each row execute function count_up();

alter table counters enable row level security;
alter table entries enable row level security;
create policy own on counters to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy own on entries to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
grant select, insert, update, delete on counters, entries to authenticated;`

const policies = `
tables:
  counters: {allow: [put, patch, delete]}
  entries: {allow: [put, patch, delete]}
`

const (
	countersPerUser = 3
	patience        = 3 * time.Minute // for all uploads of a test
)

// setUp makes the schema and each user's counters. Devices of one user meet on
// its counters, in any order, so that they also run into deadlocks; those are
// noticed early here.
func setUp(t *testing.T, db *rig.Database, users ...string) {
	t.Helper()
	db.Exec(t, schema)
	db.Exec(t, fmt.Sprintf(`alter database %s set deadlock_timeout = '20ms'`, db.Text(t, `select current_database()`)))
	addCounters(t, db, users...)
}

func addCounters(t *testing.T, db *rig.Database, users ...string) {
	t.Helper()
	for _, user := range users {
		for i := range countersPerUser {
			db.Exec(t, `insert into counters (id, owner_id, marker) values ($1, $2, 'start')`, counterID(user, i), local.UserID(user))
		}
	}
	db.Exec(t, `truncate effects`)
}

// counterID is the id of a user's counter.
func counterID(user string, i int) string { return local.UserID(user + " counter " + strconv.Itoa(i)) }

// seed is new for each run, unless POSTERN_TEST_SEED says which.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if given := os.Getenv("POSTERN_TEST_SEED"); given != "" {
		var err error
		s, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("POSTERN_TEST_SEED=%d", s)
	return s
}

// world is the devices of a test, and how far they are.
type world struct {
	devices []*device
	done    atomic.Int64
	more    chan struct{} // has a token when done has risen since it was last taken
	ended   chan struct{} // closed when all devices have
	failed  error
}

// newWorld fills the queues of devices, which belong to the users in turn.
func newWorld(seed uint64, token func(user string) string, users []string, devices, transactions int) *world {
	w := &world{more: make(chan struct{}, 1), ended: make(chan struct{})}
	for i := range devices {
		random := rand.New(rand.NewPCG(seed, uint64(i)+1))
		user := users[i%len(users)]
		d := newDevice(random, user, token(user))
		d.completed = w.completed
		for range transactions {
			d.write()
		}
		w.devices = append(w.devices, d)
	}
	return w
}

func (w *world) completed(n int) {
	w.done.Add(int64(n))
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// upload runs all devices in the background until their queues are empty; await
// says how it went. url is asked before each request.
func (w *world) upload(ctx context.Context, url func() string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	var (
		all  sync.WaitGroup
		once sync.Once
	)
	for _, d := range w.devices {
		d.progressed = time.Now()
		all.Go(func() {
			if err := d.upload(ctx, url); err != nil {
				once.Do(func() { w.failed = fmt.Errorf("device %s of %s: %w", d.clientID, d.user, err) })
				cancel()
			}
		})
	}
	go func() {
		defer cancel()
		defer close(w.ended)
		all.Wait()
	}()
}

// await waits until all devices are done.
func (w *world) await(t *testing.T) {
	t.Helper()
	<-w.ended
	require.NoError(t, w.failed)
}

// reached waits until n transactions are done in all; false when the devices end
// before.
func (w *world) reached(n int64) bool {
	for w.done.Load() < n {
		select {
		case <-w.more:
		case <-w.ended:
			return false
		}
	}
	return true
}

func (w *world) transactions() (n int) {
	for _, d := range w.devices {
		n += len(d.written)
	}
	return n
}
