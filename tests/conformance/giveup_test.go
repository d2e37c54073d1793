package conformance_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	decode "postern/service/upload"
	"postern/tests/rig"
)

// setupFailing has tables whose writes fail in ways that no rejection fits.
func setupFailing(t *testing.T) *testBundle {
	t.Helper()
	return setupSchema(t, `
		create table notes (id text primary key, title text, meta jsonb);
		create index on notes (title);
		create table guarded (id text primary key, kind text);
		create table owned (id text primary key, owner uuid);
		create table ungranted (id text primary key);
		alter table owned enable row level security;
		create function same_owner(owner uuid) returns boolean language plpgsql as 'begin return owner = (owner::text || ''x'')::uuid; end';
		create policy own on owned to authenticated using (true) with check (same_owner(owner));
		create function guard() returns trigger language plpgsql as $$ begin
		  case new.kind
		    when 'odd' then raise exception 'odd' using errcode = 'ZZ001';
		    when 'slow' then perform pg_sleep(10);
		    when 'broken' then perform 1 from nothing_there;
		    when 'busy' then raise exception 'busy' using errcode = 'PT503';
		    else null;
		  end case;
		  return new;
		end $$;
		create trigger guard before insert or update on guarded for each row execute function guard();
		grant select, insert, update, delete on notes, guarded, owned to authenticated;
		do $$begin execute format('alter role authenticated in database %I set statement_timeout = %L', current_database(), '300ms'); end$$`, `
tables:
  notes:
    allow: all
    rules:
      - {name: unlocked, on: [patch], check: old.meta.locked != true, code: LOCKED, message: No}
      - {name: odd-lookup, on: [put], when: "has(data.title) && data.title == 'lookup'", lookup: {l: select 1 / 0 as n}, check: lookup.l.n == 1, code: N, message: No}
  guarded: {allow: all}
  owned: {allow: all}
  ungranted: {allow: all}`)
}

// send uploads a numbered transaction of one operation.
func send(t *testing.T, s *rig.Service, number int, crud string) rig.Result {
	t.Helper()
	return s.Upload(t, "alice", fmt.Sprintf(`{"client_id":"c","transactions":[{"transaction_id":%d,"crud":[%s]}]}`, number, crud)).Results(t)[0]
}

// later moves the clock of all failures.
func (b *testBundle) later(t *testing.T, by string) {
	t.Helper()
	b.db.Exec(t, `update postern.failures set first_at = first_at - $1::interval, last_at = last_at - $1::interval`, by)
}

// TestNotForEver has transactions that fail by themselves for 30 minutes and in 5 tries.
func TestNotForEver(t *testing.T) {
	t.Parallel()
	long := op("PUT", "notes", "n", `"title":"`+incompressible(3000)+`"`)
	for _, test := range []struct {
		name, crud string
		code, rule string
		others     bool // others write to the table, which shows that the server is well
	}{
		{"IndexedValueTooLong", long, "UNCLASSIFIED_ERROR", "", false},
		{"Rule", op("PATCH", "notes", "stored", `"title":"a"`), "RULE_FAILED", "unlocked", false},
		{"Lookup", op("PUT", "notes", "n", `"title":"lookup"`), "RULE_FAILED", "odd-lookup", false},
		{"Trigger", op("PUT", "guarded", "g", `"kind":"odd"`), "UNCLASSIFIED_ERROR", "", true},
		{"Time", op("PUT", "guarded", "g", `"kind":"slow"`), "TIME_LIMIT_EXCEEDED", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupFailing(t)
			b.db.Exec(t, `insert into notes (id, meta) values ('stored', '{}')`)
			for range 4 {
				require.Equal(t, "retryable_error", send(t, b.Service, 7, test.crud).Status)
			}
			b.later(t, "31 minutes")
			if test.others {
				require.Equal(t, "retryable_error", send(t, b.Service, 7, test.crud).Status, "it may be the server's trouble")
				b.succeed(t, "bob", op("PUT", "guarded", "other", `"kind":"fine"`))
			}
			result := send(t, b.Service, 7, test.crud)
			require.NotNil(t, result.FailedOperation, "%+v", result)
			require.Equal(t, test.code, result.FailedOperation.ErrorCode)
			require.NotEmpty(t, result.FailedOperation.Details["reason"])
			require.Contains(t, b.db.Text(t, `select rule from postern.rejected_writes where code = $1`, test.code), test.rule)
			require.Equal(t, test.code, send(t, b.Service, 7, test.crud).FailedOperation.ErrorCode, "from its receipt")
		})
	}
}

// TestMissingPartition has rows that no partition takes. If that may be everybody's trouble,
// devices keep their writes until the partition is there. If others can write to the table,
// the row itself may be at fault.
func TestMissingPartition(t *testing.T) {
	t.Parallel()
	const (
		october  = `"day":"2026-10-15"`
		november = `"day":"2026-11-15"`
	)
	for _, test := range []struct {
		name, sql, crud string
	}{
		{"Put", "", op("PUT", "readings", "n", november)},
		{"Patch", "", op("PATCH", "readings", "stored", november)},
		{"InATrigger", `create function copy() returns trigger language plpgsql as 'begin insert into readings values (new.id, new.day); return new; end';
			create trigger copy before insert on notes for each row execute function copy()`, op("PUT", "notes", "n", november)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const policies = `tables: {notes: {allow: all}, readings: {allow: all, put: insert, id: [id]}}`
			b := setupSchema(t, `create table notes (id text primary key, day date);
				create table readings (id text, day date, primary key (id, day)) partition by range (day);
				create table october partition of readings for values from ('2026-10-01') to ('2026-11-01');
				insert into readings values ('stored', '2026-10-15');
				grant select, insert, update, delete on notes, readings to authenticated;`+test.sql, policies)
			fail := func(s *rig.Service, number int) {
				for range 5 {
					require.Equal(t, "retryable_error", send(t, s, number, test.crud).Status)
				}
				b.later(t, "31 minutes")
				require.Equal(t, "retryable_error", send(t, s, number, test.crud).Status)
			}
			fail(b.Service, 7)
			require.Contains(t, b.Logs.String(), `"sqlstate":"23514"`)
			b.succeed(t, "bob", op("PUT", "readings", "r", october)+","+op("PUT", "notes", "b", october))
			require.Equal(t, "UNCLASSIFIED_ERROR", send(t, b.Service, 7, test.crud).FailedOperation.ErrorCode)

			other := rig.NewServiceOn(t, b.db, rig.Policies(t, policies)) // where nobody has written
			fail(other, 8)
			b.db.Exec(t, `create table november partition of readings for values from ('2026-11-01') to ('2026-12-01')`)
			require.Equal(t, "success", send(t, other, 8, test.crud).Status)
		})
	}
}

// TestCountedInTheDatabase has a transaction fail at several instances, of which none
// sees it often.
func TestCountedInTheDatabase(t *testing.T) {
	t.Parallel()
	b := setupFailing(t)
	const policies = `tables: {notes: {allow: all}}`
	crud := op("PUT", "notes", "n", `"title":"`+incompressible(3000)+`"`)
	for range 4 {
		require.Equal(t, "retryable_error", send(t, rig.NewServiceOn(t, b.db, rig.Policies(t, policies)), 7, crud).Status)
		b.later(t, "10 minutes")
	}
	require.Equal(t, "UNCLASSIFIED_ERROR", send(t, b.Service, 7, crud).FailedOperation.ErrorCode)
}

// TestANewSeries has failures that do not add up to one series.
func TestANewSeries(t *testing.T) {
	t.Parallel()
	b := setupFailing(t)
	fail := func(number int, crud string) {
		require.Equal(t, "retryable_error", send(t, b.Service, number, crud).Status)
	}
	long := op("PUT", "notes", "n", `"title":"`+incompressible(3000)+`"`)
	for range 3 {
		fail(7, long)
	}
	b.later(t, "1 hour")
	fail(7, long) // the fourth
	b.later(t, "25 hours")
	fail(7, long) // after a day
	b.later(t, "1 hour")
	for range 3 {
		fail(7, long)
	}
	fail(8, long) // another transaction
	require.Equal(t, "UNCLASSIFIED_ERROR", send(t, b.Service, 7, long).FailedOperation.ErrorCode)
}

// TestServersTroubleIsNeverGivenUp has failures that hit everybody. However long they
// last, devices keep their writes.
func TestServersTroubleIsNeverGivenUp(t *testing.T) {
	t.Parallel()
	b := setupFailing(t)
	for number, crud := range []string{
		op("PUT", "ungranted", "u", ""),
		op("PUT", "guarded", "g", `"kind":"broken"`),
		op("PUT", "guarded", "g", `"kind":"busy"`),
		op("PUT", "owned", "o", `"owner":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10"`),
	} {
		for range 6 {
			b.succeed(t, "bob", op("PUT", "guarded", "other", `"kind":"fine"`))
			require.Equal(t, "retryable_error", send(t, b.Service, number, crud).Status, crud)
			b.later(t, "20 minutes")
		}
	}
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.failures`), "they are not even counted")
}

// TestAppliedInBetween has a transaction without ids succeed between its failures.
func TestAppliedInBetween(t *testing.T) {
	t.Parallel()
	b := setupFailing(t)
	crud := op("PATCH", "notes", "n", `"title":"a"`) // its rule fails while meta says nothing of a lock
	for range 4 {
		b.db.Exec(t, `insert into notes (id, meta) values ('n', '{}') on conflict (id) do update set meta = '{}'`)
		require.Equal(t, "retryable_error", b.One(t, "alice", crud).Status)
		require.Equal(t, "retryable_error", b.One(t, "alice", crud).Status)
		b.later(t, "20 minutes")
		b.db.Exec(t, `update notes set meta = '{"locked": false}'`)
		b.succeed(t, "alice", crud)
	}
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.failures`))
}

// TestLongTransaction has a transaction that does not fit into its request's time, and
// fits when its client sends it again.
func TestLongTransaction(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `create table slow (id text primary key); grant select, insert, update on slow to authenticated;
		create function nap() returns trigger language plpgsql as 'begin perform pg_sleep(0.4); return new; end';
		create trigger nap before insert on slow for each row execute function nap()`)
	pool, err := service.Connect(db.LoginURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	applier := apply.New(pool, catalog.New(pool, []string{"authenticated"}), rig.Policies(t, `tables: {slow: {allow: all}}`), ledger.New(pool), apply.Skip)
	var crud []string
	for i := range 5 {
		crud = append(crud, op("PUT", "slow", fmt.Sprint(i), ""))
	}
	batch, err := decode.DecodeBatch([]byte(`{"client_id":"c","transactions":[{"transaction_id":1,"crud":[` + strings.Join(crud, ",") + `]}]}`))
	require.NoError(t, err)
	who := identity.Identity{Issuer: "test", Subject: rig.UserID("alice"), Role: "authenticated", Claims: []byte(`{}`)}
	upload := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return string(applier.Apply(ctx, slog.New(slog.DiscardHandler), who, batch, nil)[0].Status)
	}
	require.Equal(t, "retryable_error", upload())
	require.Equal(t, "1", db.Text(t, `select count(*) from postern.failures`))
	require.Equal(t, "success", upload())
	require.Equal(t, "0", db.Text(t, `select count(*) from postern.failures`))
	require.Equal(t, "success", upload(), "from its receipt")
	require.Equal(t, "5", db.Text(t, `select count(*) from slow`))
}

// incompressible is text that Postgres cannot make shorter.
func incompressible(n int) string {
	var text strings.Builder
	for i := uint64(1); text.Len() < n; i++ {
		fmt.Fprintf(&text, "%x", i*0x9e3779b97f4a7c15)
	}
	return text.String()[:n]
}
