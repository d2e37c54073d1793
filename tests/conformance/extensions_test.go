package conformance_test

import (
	"fmt"
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

// TestTypesWithoutEquality has previous values of types that have no operator =, or one that
// compares sizes. The user's search_path is empty.
func TestTypesWithoutEquality(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create extension ltree; create extension citext;
		create table shapes (id citext primary key, q lquery, path jsonpath, round circle, square box, way path, name citext);
		grant select, insert, update on shapes to authenticated;
		do $$ begin execute format('alter role authenticated in database %I set search_path = %L', current_database(), ''); end $$`,
		`tables: {shapes: {allow: all, conflict: fields}}`)
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "shapes", "S", `"q":"a.b","path":"$.a","round":"<(1,2),3>","square":"(2,2),(1,1)","way":"[(1,1),(2,2)]","name":"Ada"`)))
	for _, test := range []struct{ column, before, other, after string }{
		{"q", "a.b", "a.c", "a.d"},
		{"path", "$.a", "$.c", "$.d"},
		{"round", "<(1,2),3>", "<(7,2),3>", "<(1,2),4>"},
		{"square", "(2,2),(1,1)", "(8,8),(7,7)", "(3,3),(1,1)"},
		{"way", "[(1,1),(2,2)]", "[(7,7),(8,8)]", "[(1,1),(3,3)]"},
		{"name", "ADA", "Bob", "Carol"},
	} {
		send := func(previous, value string) string {
			return b.One(t, "alice", fmt.Sprintf(`{"op":"PATCH","table":"shapes","id":"s","op_data":{%[1]q:%[2]q},"previous_values":{%[1]q:%[3]q}}`, test.column, value, previous)).Status
		}
		stored := func() string { return b.db.Text(t, `select `+test.column+`::text from shapes`) }
		was := stored()
		require.Equal(t, "success", send(test.other, test.after), test.column)
		require.Equal(t, was, stored(), "another device has changed it: %s", test.column)
		require.Equal(t, "success", send(test.before, test.after), test.column)
		require.NotEqual(t, was, stored(), test.column)
	}
}

// TestTextsThatATypeRefuses has types that refuse a text with an SQLSTATE that is not of
// data. The write is at fault, and its value must not reach the log.
func TestTextsThatATypeRefuses(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create extension if not exists ltree; create extension if not exists hstore;
		create table nodes (id text primary key, path ltree, vector tsvector, query tsquery, at jsonpath, tags hstore);
		create table places (path ltree primary key, note text);
		grant select, insert, update on nodes, places to authenticated`,
		`tables: {nodes: {allow: all}, places: {allow: all, rules: [{name: r, check: old == null || old.note != 'x', code: NO, message: No}]}}`)
	for column, text := range map[string]string{"path": "secret..x", "vector": "'secret", "query": "secret secret", "at": "$$secret", "tags": "secret"} {
		require.Equal(t, "INVALID_DATA", b.outcome(t, "alice", op("PUT", "nodes", "n", fmt.Sprintf("%q:%q", column, text))), column)
		require.Equal(t, "INVALID_DATA", b.outcome(t, "alice", op("PATCH", "nodes", "n", fmt.Sprintf("%q:%q", column, text))), column)
	}
	require.NotContains(t, b.Logs.String(), "secret")
	for _, verb := range []string{"PUT", "PATCH"} {
		require.Equal(t, "INVALID_DATA", b.outcome(t, "alice", op(verb, "places", "secret..x", `"note":"y"`)), verb)
	}
}
