package conformance_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

const items = `
	create table items (id text primary key, title text, n int not null default 7, owner uuid default auth.uid(), done boolean, rev int not null default 1,
		at timestamptz, by text, gone boolean not null default false, extra jsonb);
	alter table items enable row level security;
	create policy own on items to authenticated using (owner = auth.uid());
	create table changes (row_id text, field text, previous jsonb, value jsonb);
	grant select, insert, update, delete on items, changes to authenticated;`

const itemPolicies = `
tables:
  all: {table: items, allow: [create, update, delete]}
  create: {table: items, allow: [create]}
  update: {table: items, allow: [update]}
  delete: {table: items, allow: [delete]}
  put: {table: items, allow: [put]}
  patch: {table: items, allow: [patch]}
  on_create: {table: items, allow: all, rules: [{name: r, on: [create], check: new.title != 'x', code: NO, message: No}]}
  on_update: {table: items, allow: all, rules: [{name: r, on: [update], check: new.title != 'x', code: NO, message: No}]}
  on_both: {table: items, allow: all, rules: [{name: r, on: [create, update], check: new.title != 'x', code: NO, message: No}]}
  on_put: {table: items, allow: all, rules: [{name: r, on: [put], check: new.title != 'x', code: NO, message: No}]}
  on_patch: {table: items, allow: all, rules: [{name: r, on: [patch], check: new.title != 'x', code: NO, message: No}]}
  on_delete: {table: items, allow: all, rules: [{name: r, on: [delete], check: old.title != 'a', code: NO, message: No}]}
  on_update_of_old: {table: items, allow: all, rules: [{name: r, on: [update], check: new.n == old.n, code: NO, message: No}]}`

// TestActions has each word of allow and of a rule, with each verb: of a row that does
// not exist, of one that does, and of one that its user may not see.
func TestActions(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, items, itemPolicies)
	const yes, denied, unique = "success", "UNAUTHORIZED", "UNIQUE_VIOLATION"
	type outcomes [3]string // of no row, a stored one, a hidden one
	for _, test := range []struct {
		table            string
		put, patch, dele outcomes
	}{
		{"all", outcomes{yes, yes, denied}, outcomes{yes, yes, denied}, outcomes{yes, yes, denied}},
		{"create", outcomes{yes, unique, unique}, outcomes{denied, denied, denied}, outcomes{denied, denied, denied}},
		{"update", outcomes{"ROW_NOT_FOUND", yes, denied}, outcomes{yes, yes, denied}, outcomes{denied, denied, denied}},
		{"delete", outcomes{denied, denied, denied}, outcomes{denied, denied, denied}, outcomes{yes, yes, denied}},
		{"put", outcomes{yes, yes, denied}, outcomes{denied, denied, denied}, outcomes{denied, denied, denied}},
		{"patch", outcomes{denied, denied, denied}, outcomes{yes, yes, denied}, outcomes{denied, denied, denied}},
		{"on_create", outcomes{"NO", yes, denied}, outcomes{yes, yes, denied}, outcomes{yes, yes, denied}},
		{"on_update", outcomes{yes, "NO", denied}, outcomes{"NO", "NO", "NO"}, outcomes{yes, yes, denied}},
		{"on_both", outcomes{"NO", "NO", "NO"}, outcomes{"NO", "NO", "NO"}, outcomes{yes, yes, denied}},
		{"on_put", outcomes{"NO", "NO", "NO"}, outcomes{yes, yes, denied}, outcomes{yes, yes, denied}},
		{"on_patch", outcomes{yes, yes, denied}, outcomes{"NO", "NO", "NO"}, outcomes{yes, yes, denied}},
		{"on_delete", outcomes{yes, yes, denied}, outcomes{yes, yes, denied}, outcomes{yes, "NO", denied}},
		{"on_update_of_old", outcomes{yes, yes, denied}, outcomes{yes, yes, denied}, outcomes{yes, yes, denied}},
	} {
		for verb, wants := range map[string]outcomes{"PUT": test.put, "PATCH": test.patch, "DELETE": test.dele} {
			for i, row := range []string{"None", "Stored", "Hidden"} {
				t.Run(test.table+"/"+verb+"/"+row, func(t *testing.T) {
					t.Parallel()
					id, data := test.table+verb+row, `"title":"x"`
					if row != "None" {
						b.db.Exec(t, `insert into items (id, title, owner) values ($1, 'a', $2)`, id, rig.UserID(map[string]string{"Stored": "alice", "Hidden": "bob"}[row]))
					}
					if verb == "DELETE" {
						data = ""
					}
					require.Equal(t, wants[i], b.outcome(t, "alice", op(verb, test.table, id, data)))
					want := map[string]string{"None": "<null>", "Stored": "a", "Hidden": "a"}[row]
					switch {
					case wants[i] != yes:
					case verb == "DELETE":
						want = "<null>"
					case verb == "PUT" || row == "Stored":
						want = "x"
					}
					require.Equal(t, want, b.db.Text(t, `select (select title from items where id = $1)`, id))
				})
			}
		}
	}
}

// TestActionsBesideOthers has another writer insert or delete the row of a PUT, which is
// then what the other one has left it.
func TestActionsBesideOthers(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, items, itemPolicies)
	for _, test := range []struct{ name, table, inserted, deleted string }{
		{"Everything", "all", "success", "success"},
		{"AllowCreate", "create", "UNIQUE_VIOLATION", "success"},
		{"AllowUpdate", "update", "", "ROW_NOT_FOUND"}, // it does not wait for a row that is not there yet
		{"RuleOnCreate", "on_create", "success", "NO"},
		{"RuleOnUpdate", "on_update", "NO", "success"},
		{"RuleOnUpdateOfTheOldRow", "on_update_of_old", "NO", "success"},
	} {
		for _, other := range []struct{ name, before, sql, want string }{
			{"Inserts", "", `insert into items (id, title, owner) values ($1, 'a', $2)`, test.inserted},
			{"Deletes", `insert into items (id, title, owner) values ($1, 'a', $2)`, `delete from items where id = $1 and owner = $2`, test.deleted},
		} {
			if other.want == "" {
				continue
			}
			t.Run(test.name+"/"+other.name, func(t *testing.T) {
				id, alice := test.name+other.name, rig.UserID("alice")
				if other.before != "" {
					b.db.Exec(t, other.before, id, alice)
				}
				tx, err := b.db.Owner.Begin(t.Context())
				require.NoError(t, err)
				defer tx.Rollback(context.WithoutCancel(t.Context()))
				_, err = tx.Exec(t.Context(), other.sql, id, alice)
				require.NoError(t, err)
				outcome := make(chan string)
				go func() { outcome <- b.outcome(t, "alice", op("PUT", test.table, id, `"title":"x","n":8`)) }()
				require.Eventually(t, func() bool {
					return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
				}, 10*time.Second, time.Millisecond)
				require.NoError(t, tx.Commit(t.Context()))
				require.Equal(t, other.want, <-outcome)
			})
		}
	}
}

// TestPutThatUpdates has what a PUT sends and what policies say of it, if the table
// allows update and not create. A row before is one that exists.
func TestPutThatUpdates(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, items, `
tables:
  merge: {table: items, allow: [update], immutable: [extra]}
  replace: {table: items, allow: [update], put: replace, immutable: [owner, extra]}
  version: {table: items, allow: [update], conflict: {version: rev}}
  newest: {table: items, allow: [update], conflict: {newest: at}}
  increment: {table: items, allow: [update], conflict: {increment: [n]}}
  owned: {table: items, allow: [update], owner: owner}
  kept: {table: items, allow: [update], history: changes, set: {by: auth.sub}, defaults: {n: "3"}}
  soft: {table: items, allow: [update, delete], soft_delete: gone}
  ruled: {table: items, allow: [update], rules: [{name: r, on: [update], check: new.n >= old.n && op == 'put', code: LESS, message: No}]}`)
	for _, test := range []struct{ name, table, data, outcome, stored string }{
		{"Merge", "merge", `"title":"x","done":1,"at":"2026-11-24T12:00:00+01:00","extra":{"a":1}`, "success", "x 7 t 2026-11-24T11:00:00+00:00 1"},
		{"Immutable", "merge", `"extra":{"a":2}`, "IMMUTABLE_COLUMN", "a 7 2026-01-01T00:00:00+00:00 1"},
		{"Nothing", "merge", "", "success", "a 7 2026-01-01T00:00:00+00:00 1"},
		{"Null", "merge", `"title":null,"at":null`, "success", "7 1"},
		{"Replace", "replace", `"title":"x"`, "success", "x 7 1"},
		{"Version", "version", `"title":"x","rev":2`, "success", "x 7 2026-01-01T00:00:00+00:00 2"},
		{"VersionThatIsOld", "version", `"title":"x","rev":9`, "CONFLICT", "a 7 2026-01-01T00:00:00+00:00 1"},
		{"Newest", "newest", `"title":"x","at":"2026-01-02"`, "success", "x 7 2026-01-02T00:00:00+00:00 1"},
		{"NewestThatIsOld", "newest", `"title":"x","at":"2025-01-02"`, "success", "a 7 2026-01-01T00:00:00+00:00 1"},
		{"Increment", "increment", `"title":"x","n":9`, "success", "x 7 2026-01-01T00:00:00+00:00 1"},
		{"Owner", "owned", `"title":"x"`, "success", "x 7 2026-01-01T00:00:00+00:00 1"},
		{"HistoryAndSet", "kept", `"title":"x"`, "success", "x 7 2026-01-01T00:00:00+00:00 1 " + rig.UserID("alice")},
		{"Soft", "soft", `"title":"x","gone":false`, "success", "x 7 2026-01-01T00:00:00+00:00 1"},
		{"Rule", "ruled", `"n":8`, "success", "a 8 2026-01-01T00:00:00+00:00 1"},
		{"RuleThatRejects", "ruled", `"n":6`, "LESS", "a 7 2026-01-01T00:00:00+00:00 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b.db.Exec(t, `insert into items (id, title, owner, at, extra) values ($1, 'a', $2, '2026-01-01', '{"a":1}')`, test.name, rig.UserID("alice"))
			require.Equal(t, test.outcome, b.outcome(t, "alice", op("PUT", test.table, test.name, test.data)))
			require.Equal(t, test.stored, b.db.Text(t, `select concat_ws(' ', title, n, nullif(done, false), to_jsonb(at at time zone 'UTC') #>> '{}' || '+00:00', rev, by) from items where id = $1`, test.name))
		})
	}
	b.db.Exec(t, `insert into items (id, owner) values ('gone', $1)`, rig.UserID("alice"))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "soft", "gone", `"title":"y"`)+","+op("DELETE", "soft", "gone", "")))
	require.Equal(t, "ROW_DELETED", b.outcome(t, "alice", op("PUT", "soft", "gone", `"title":"z"`)))
	b.db.Exec(t, `insert into items (id, title, owner) values ('kept', 'a', $1)`, rig.UserID("alice"))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "kept", "kept", `"title":"x","n":7`)))
	require.Equal(t, `title "a" "x"`, b.db.Text(t, `select string_agg(concat_ws(' ', field, previous, value), ', ') from changes where row_id = 'kept'`))
}

// TestSetByAction has values that the policy sets in new rows alone, or in changed rows
// alone. Otherwise a column is what the client sends.
func TestSetByAction(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, items, `
tables:
  created: {table: items, allow: all, set: {title: {value: "'new'", on: [create]}, at: {value: now, on: [create]}}}
  updated: {table: items, allow: all, set: {title: {value: "'changed'", on: [update]}, done: {value: "true", on: [update]}}}
  ruled: {table: items, allow: all, set: {title: {value: "'new'", on: [create]}}, rules: [{name: r, check: new.title == 'new' || new.title == 'started', code: STATE, message: No}]}
  looked: {table: items, allow: all, set: {title: {value: "'changed'", on: [update]}}, rules: [{name: r, on: [update], lookup: {l: select $new.title as t}, check: lookup.l.t == 'changed', code: SEEN, message: No}]}
  both: {table: items, allow: all, defaults: {title: "'new'"}, set: {title: {value: "'changed'", on: [update]}}, rules: [{name: r, on: [create, update], lookup: {l: select $new.title as t}, check: "lookup.l.t == (old == null ? 'new' : 'changed')", code: SEEN, message: No}]}
  moved: {table: items, allow: all, set: {title: {value: "'new'", on: [create]}}, rules: [{name: r, on: [update], lookup: {l: "select $old.title = 'new' and $new.title = 'started' as ok"}, check: lookup.l.ok, code: STATE, message: No}]}`)
	for _, test := range []struct{ name, table, created, afterPut, afterPatch string }{
		{"Created", "created", "new set", "sent set", "patched set"},
		{"Updated", "updated", "sent", "changed t", "changed t"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stored := func(sent string) string {
				require.Equal(t, "success", b.outcome(t, "alice", sent))
				return b.db.Text(t, `select concat_ws(' ', title, done, case when at > '2026-01-01' then 'set' end) from items where id = $1`, test.name)
			}
			require.Equal(t, test.created, stored(op("PUT", test.table, test.name, `"title":"sent"`)))
			require.Equal(t, test.afterPut, stored(op("PUT", test.table, test.name, `"title":"sent"`)))
			require.Equal(t, test.afterPatch, stored(op("PATCH", test.table, test.name, `"title":"patched"`)))
			require.Equal(t, test.afterPatch, stored(op("PUT", test.table, test.name, `"n":8`)), "what was not sent stays")
		})
	}
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "ruled", "r", `"title":"sent"`)))
	require.Equal(t, "STATE", b.outcome(t, "alice", op("PUT", "ruled", "r", `"title":"sent"`)), "the rule sees what a stored row gets")
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "ruled", "r", `"title":"started"`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "looked", "r", `"n":1`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "both", "b", `"n":1`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "both", "b", `"n":1`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "moved", "m", `"title":"done"`)))
	require.Equal(t, "STATE", b.outcome(t, "alice", op("PUT", "moved", "m", `"title":"done"`)), "a lookup of the old and the new row, too")
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "moved", "m", `"title":"started"`)))
}
