package conformance_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHiddenRowOfAPut has a PUT of a row that its user may not see.
func TestHiddenRowOfAPut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, policy, want string }{
		{"Rule", `{allow: all, rules: [{name: r, check: old == null, code: R, message: No}]}`, "UNAUTHORIZED"},
		{"Set", `{allow: all, set: {n: {value: 'old == null ? 1 : old.n + 1'}}}`, "UNAUTHORIZED"},
		{"SetAndRule", `{allow: all, set: {n: {value: 'old == null ? 1 : old.n + 1'}}, rules: [{name: r, check: new.n > 0, code: R, message: No}]}`, "UNAUTHORIZED"},
		{"Lookup", `{allow: all, rules: [{name: r, lookup: {l: 'select 1 as n where $new.title is null'}, check: lookup.l != null, code: R, message: No}]}`, "UNAUTHORIZED"},
		{"Inserts", `{allow: all, put: insert, rules: [{name: r, check: old == null, code: R, message: No}]}`, "UNIQUE_VIOLATION"},
		{"Replaces", `{allow: all, put: replace, rules: [{name: r, check: old == null, code: R, message: No}]}`, "UNAUTHORIZED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, `
				create table docs (id text primary key, title text, n int, hidden boolean not null default false);
				insert into docs values ('hidden', 'a', 1, true);
				alter table docs enable row level security;
				create policy visible on docs to authenticated using (not hidden);
				grant select, insert, update, delete on docs to authenticated`, `tables: {docs: `+test.policy+`}`)
			require.Equal(t, test.want, b.outcome(t, "alice", op("PUT", "docs", "hidden", `"hidden":false`)))
			require.Equal(t, test.want, b.outcome(t, "alice", op("PUT", "docs", "new", `"n":1`)+","+op("PUT", "docs", "hidden", `"hidden":false`)))
			require.Equal(t, "1", b.db.Text(t, `select count(*) from docs`))
		})
	}
}

// TestRowThatVanishesIsNotHidden has a PUT of a row that appears after its rules have looked
// for it, and is being deleted when the PUT is tried again. Two gates hold it meanwhile: the
// first one in a lookup, the second one at the beginning.
func TestRowThatVanishesIsNotHidden(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table docs (id text primary key, n int);
		grant select, insert, update, delete on docs to authenticated;
		create function pass(gate int) returns text language plpgsql set lock_timeout = 0 as
			'begin perform pg_advisory_lock_shared(gate); perform pg_advisory_unlock_shared(gate); return gate; end';
		create function begins() returns trigger language plpgsql as 'begin perform public.pass(2); return new; end';
		create trigger begins before insert on postern.receipts for each row execute function begins()`,
		`tables: {docs: {allow: all, rules: [{name: r, lookup: {l: select pass(1) as gate}, check: lookup.l != null && old == null, code: R, message: No}]}}`)
	other, err := b.db.Owner.Acquire(t.Context())
	require.NoError(t, err)
	defer other.Release()
	run := func(sql string) {
		_, err := other.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	waits := func(lock string) {
		require.Eventually(t, func() bool {
			return b.db.Text(t, `select count(*) from pg_locks l join pg_stat_activity a using (pid) where datname = current_database() and not granted and concat(locktype, objid) = $1`, lock) == "1"
		}, 20*time.Second, time.Millisecond)
	}
	run(`select pg_advisory_lock(1)`)
	outcome := make(chan string, 1)
	go func() { outcome <- b.outcome(t, "alice", op("PUT", "docs", "a", `"n":2`)) }()
	waits("advisory1")
	run(`insert into docs values ('a', 1); select pg_advisory_lock(2)`)
	run(`select pg_advisory_unlock(1)`)
	waits("advisory2")
	run(`begin; delete from docs; select pg_advisory_unlock(2)`)
	waits("transactionid")
	run(`commit`)
	require.Equal(t, "success", <-outcome)
	require.Equal(t, "2", b.db.Text(t, `select n from docs`))
}

// TestOneCreator has devices make the same new rows at the same time, each in an order of its
// own. A rule lets only one make them.
func TestOneCreator(t *testing.T) {
	t.Parallel()
	const devices, rounds, rows = 20, 3, 4
	for _, test := range []struct{ name, policy, key string }{
		{"Rule", `rules: [{name: r, check: old == null, code: TAKEN, message: No}]`, ""},
		{"CompositeKey", `id: [id, kind], rules: [{name: r, check: old == null, code: TAKEN, message: No}]`, ":k"},
		{"Lookup", `rules: [{name: r, lookup: {l: 'select 1 as n where $old.id is null'}, check: lookup.l != null, code: TAKEN, message: No}]`, ""},
		{"RuleForUpdates", `rules: [{name: r, on: [update], check: "false", code: TAKEN, message: No}]`, ""},
		{"SoftDelete", `soft_delete: gone, rules: [{name: r, check: old == null, code: TAKEN, message: No}]`, ""},
		{"Replace", `put: replace, rules: [{name: r, check: old == null, code: TAKEN, message: No}]`, ""},
		{"Set", `set: {n: {value: 'old == null ? 1 : 2'}}, rules: [{name: r, check: new.n == 1, code: TAKEN, message: No}]`, ""},
		{"History", `history: changes, rules: [{name: r, check: old == null, code: TAKEN, message: No}]`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			primary := "id"
			if test.key != "" {
				primary = "id, kind"
			}
			b := setupSchema(t, `
				create table docs (id text, kind text not null default 'k', title text, n int, gone boolean not null default false, primary key (`+primary+`));
				create table changes (row_id text, field text, previous jsonb, value jsonb);
				grant select, insert, update, delete on docs to authenticated;
				grant insert on changes to authenticated`,
				`tables: {docs: {allow: all, `+test.policy+`}}`)
			for round := range rounds {
				outcomes := make(chan string, devices)
				for range devices {
					go func() {
						var crud []string
						for _, row := range rand.Perm(rows) {
							crud = append(crud, op("PUT", "docs", fmt.Sprint(round, "-", row, test.key), `"title":"a"`))
						}
						outcomes <- b.outcome(t, "alice", strings.Join(crud, ","))
					}()
				}
				counted := map[string]int{}
				for range devices {
					counted[<-outcomes]++
				}
				require.Equal(t, map[string]int{"success": 1, "TAKEN": devices - 1}, counted)
			}
		})
	}
}
