package conformance_test

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/timing"
	decode "postern/service/upload"
	"postern/tests/rig"
)

// slowTables have a slow write, a slow check at the end of the transaction, a slow lookup, and
// a slow write whose statement is so long that Postgres reports only its beginning.
const slowTables = `
	create table quick (id text primary key);
	create table slow (id text primary key);
	create table checked (id text primary key);
	create table ruled (id text primary key);
	grant select, insert, update, delete on quick, slow, checked, ruled to authenticated;
	create function nap() returns trigger language plpgsql as 'begin perform pg_sleep(2); return new; end';
	create trigger nap before insert on slow for each row execute function nap();
	create constraint trigger nap after insert on checked deferrable initially deferred for each row execute function nap();
	create function slept() returns boolean language plpgsql as 'begin perform pg_sleep(2); return true; end';
	create table wide (id text primary key);
	do $$ begin for i in 1..100 loop execute format('alter table wide add column_%s text', i); end loop; end $$;
	grant select, insert, update on wide to authenticated;
	create trigger nap before insert on wide for each row execute function nap()`

func wideValues() string {
	values := make([]string, 100)
	for i := range values {
		values[i] = fmt.Sprintf(`"column_%d":"x"`, i+1)
	}
	return strings.Join(values, ",")
}

const slowPolicies = `
tables:
  quick: {allow: all}
  slow: {allow: all}
  wide: {allow: all}
  checked: {allow: all}
  ruled:
    allow: all
    rules:
      - name: slept
        lookup: {nap: "select public.slept() as done"}
        check: lookup.nap.done
        code: AWAKE
        message: Sleep first`

// slowBundle applies uploads on one connection, and finds slow statements on another one.
type slowBundle struct {
	db      *rig.Database
	applier *apply.Applier
}

// setupSlow has one connection for uploads, with parameters of its URL.
func setupSlow(t *testing.T, db *rig.Database, parameters, watchURL string) *slowBundle {
	t.Helper()
	pool, err := service.Connect(db.LoginURL + "&pool_max_conns=1" + parameters)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	watching, err := service.Connect(watchURL + "&pool_max_conns=1")
	require.NoError(t, err)
	t.Cleanup(watching.Close)
	applier := apply.New(pool, catalog.New(pool, []string{"authenticated"}), rig.Policies(t, slowPolicies), ledger.New(pool), apply.Skip)
	applier.FindSlowStatements(watching)
	return &slowBundle{db: db, applier: applier}
}

// slowest is the statement of a traced upload that took the longest; nil if none was slow.
func (b *slowBundle) slowest(t *testing.T, crud ...string) *timing.Statement {
	t.Helper()
	laps := timing.Start()
	laps.Keep()
	b.upload(t, laps, crud...)
	kept := laps.Kept()
	if len(kept.Statements) == 0 {
		return nil
	}
	for _, s := range kept.Statements {
		require.True(t, slices.ContainsFunc(kept.Laps, func(lap timing.Lap) bool {
			return lap.Phase == timing.Database && lap.From <= s.From && s.From < s.To && s.To <= lap.To
		}), "%+v is in no round trip of %+v", s, kept.Laps)
	}
	slowest := slices.MaxFunc(kept.Statements, func(a, b timing.Statement) int { return cmp.Compare(a.To-a.From, b.To-b.From) })
	return &slowest
}

func (b *slowBundle) upload(t *testing.T, laps *timing.Laps, crud ...string) {
	t.Helper()
	batch, err := decode.DecodeBatch([]byte(`{"client_id":"c","transactions":[{"crud":[` + strings.Join(crud, ",") + `]}]}`))
	require.NoError(t, err)
	who := identity.Identity{Issuer: "test", Subject: rig.UserID("alice"), Role: "authenticated", Claims: []byte(`{}`)}
	require.Equal(t, decode.Success, b.applier.Apply(t.Context(), slog.New(slog.DiscardHandler), who, batch, laps)[0].Status)
}

// TestSlowStatements finds the first slow statement of a process, whichever way its
// connections go, although uploads have all connections of their pool.
func TestSlowStatements(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, slowTables)
	for way, parameters := range map[string]string{"Direct": "", "Pooler": "&statements=unnamed", "PoolerThatPrepares": "&statements=named"} {
		for _, test := range []struct {
			name, operation, table string
			crud                   []string
		}{
			{"Write", "insert", "public.slow", []string{op("PUT", "quick", way, ""), op("PUT", "slow", way, ""), op("PUT", "quick", way+"2", "")}},
			{"Constraints", "constraints", "", []string{op("PUT", "checked", way, ""), op("PUT", "quick", way+"3", "")}},
			{"Lookup", "lookup", "", []string{op("PUT", "ruled", way, ""), op("PUT", "quick", way+"4", "")}},
			{"LongText", "insert", "public.wide", []string{op("PUT", "quick", way+"5", ""), op("PUT", "wide", way, wideValues())}},
		} {
			t.Run(way+test.name, func(t *testing.T) {
				t.Parallel()
				if way == "PoolerThatPrepares" && rig.Pooled() {
					t.Skip("this PgBouncer keeps no prepared statements")
				}
				s := setupSlow(t, db, parameters, db.LoginURL).slowest(t, test.crud...)
				require.NotNil(t, s)
				require.Equal(t, test.operation, s.Operation)
				require.Equal(t, test.table, s.Table)
				require.Greater(t, s.To-s.From, time.Second/2, "it slept for two seconds")
			})
		}
	}
}

// TestSlowStatementsAreUnknown has nobody who could tell. The upload does not notice.
func TestSlowStatementsAreUnknown(t *testing.T) {
	t.Parallel()
	t.Run("Untracked", func(t *testing.T) {
		t.Parallel()
		db := rig.NewDatabase(t)
		db.Exec(t, slowTables)
		db.Exec(t, `do $$ begin execute format('alter role postern in database %I set track_activities = off', current_database()); end $$`)
		require.Nil(t, setupSlow(t, db, "", db.LoginURL).slowest(t, op("PUT", "slow", "a", "")))
	})
	t.Run("Unreachable", func(t *testing.T) {
		t.Parallel()
		db := rig.NewDatabase(t)
		db.Exec(t, slowTables)
		b := setupSlow(t, db, "", "postgres://postern@127.0.0.1:1/nothing?sslmode=disable")
		require.Nil(t, b.slowest(t, op("PUT", "slow", "a", "")))
	})
}
