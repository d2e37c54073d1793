package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeysOfExtensionTypes has keys whose operators are in a schema that is not on the
// user's search_path. Without its own operator, citext compares like text, and ltree not
// at all.
func TestKeysOfExtensionTypes(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create schema ext;
		create extension citext schema ext;
		create extension ltree schema ext;
		grant usage on schema ext to authenticated;
		create domain email as ext.citext;
		create table people (id ext.citext primary key, name text, boss ext.citext, owner ext.citext);
		create table places (id ext.ltree primary key, name text);
		create table mails (id email primary key, name text, gone boolean not null default false);
		alter table people enable row level security;
		alter table places enable row level security;
		alter table mails enable row level security;
		create policy p on people to authenticated using (name is distinct from 'hidden') with check (true);
		create policy p on places to authenticated using (name is distinct from 'hidden') with check (true);
		create policy p on mails to authenticated using (name is distinct from 'hidden') with check (true);
		grant select, insert, update, delete on people, places, mails to authenticated;`, `
tables:
  people: {allow: all, on_missing: reject, immutable: [boss], rules: [{name: polite, on: [put, patch, delete], check: "old == null || old.name != 'rude'", code: RUDE, message: rude}]}
  places: {allow: all, on_missing: reject, rules: [{name: polite, on: [put, patch, delete], check: "old == null || old.name != 'rude'", code: RUDE, message: rude}]}
  mails: {allow: all, on_missing: reject}
`)
	for _, table := range []struct{ name, key, other string }{
		{"people", "Ada@Example.com", "ada@example.COM"}, {"places", "top.first", "top.first"}, {"mails", "Ada@Example.com", "ada@example.COM"},
	} {
		t.Run(table.name, func(t *testing.T) {
			outcome := func(verb, id, data string) string { return b.outcome(t, "alice", op(verb, table.name, id, data)) }
			stored := func() string { return b.db.Text(t, `select coalesce(string_agg(name, ','), '') from `+table.name) }
			require.Equal(t, "success", outcome("PUT", table.key, `"name":"a"`))
			require.Equal(t, "success", outcome("PUT", table.other, `"name":"b"`))
			require.Equal(t, "success", outcome("PATCH", table.other, `"name":"c"`))
			require.Equal(t, "c", stored())
			require.Equal(t, "ROW_NOT_FOUND", outcome("PATCH", table.key+"x", `"name":"d"`))
			require.Equal(t, "success", b.outcome(t, "alice", op("PATCH", table.name, table.key, `"name":"e"`)+","+op("PATCH", table.name, table.other, `"name":"f"`)))
			require.Equal(t, "f", stored())
			b.db.Exec(t, `update `+table.name+` set name = 'hidden'`)
			require.Equal(t, "UNAUTHORIZED", outcome("PATCH", table.other, `"name":"g"`))
			require.Equal(t, "UNAUTHORIZED", outcome("DELETE", table.other, ""))
			b.db.Exec(t, `update `+table.name+` set name = 'rude'`)
			if table.name != "mails" {
				require.Equal(t, "RUDE", outcome("PATCH", table.other, `"name":"h"`))
				require.Equal(t, "RUDE", outcome("DELETE", table.other, ""))
			}
			b.db.Exec(t, `update `+table.name+` set name = 'i'`)
			require.Equal(t, "success", outcome("DELETE", table.other, ""))
			require.Empty(t, stored())
		})
	}
	t.Run("immutable", func(t *testing.T) {
		require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "people", "x", `"boss":"Bob"`)))
		require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "people", "x", `"boss":"bob"`)))
		require.Equal(t, "IMMUTABLE_COLUMN", b.outcome(t, "alice", op("PUT", "people", "x", `"boss":"carol"`)))
	})
}

// TestKeysOfAClosedSchema has a type whose schema the user may not use. Then Postgres
// compares as text, as it does for the user's own SQL.
func TestKeysOfAClosedSchema(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create schema ext;
		create extension citext schema ext;
		create table people (id ext.citext primary key, name text);
		grant select, insert, update, delete on people to authenticated;`, `tables: {people: {allow: all}}`)
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "people", "Ada", `"name":"a"`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PATCH", "people", "Ada", `"name":"b"`)))
	require.Equal(t, "b", b.db.Text(t, `select name from people`))
}
