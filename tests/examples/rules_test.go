package examples_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestRulesApart has rules that could get in each other's way, or be asked where
// there is nothing to ask.
func TestRulesApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, `
tables:
  todos:
    table: todos
    allow: all
    rules:
      # Two lookups of one name, of different rules.
      - {name: open, on: [put], lookup: {l: select archived as v from lists where id = $new.list_id}, check: lookup.l == null || lookup.l.v == false, code: ARCHIVED, message: No}
      - {name: named, on: [put], lookup: {l: select name as v from lists where id = $new.list_id}, check: lookup.l == null || lookup.l.v == 'ok', code: BAD_NAME, message: No}
      - {name: stays, on: [delete], check: "!old.done", code: DONE, message: No}
      # Without on: not asked about DELETE.
      - {name: title, check: size(new.title) < 10, code: TOO_LONG, message: No}
      - {name: null-sent, when: has(data.title), check: size(data.title) < 100, code: TOO_LONG, message: No}
  once: {table: todos, allow: [put], put: insert, owner: owner_id, immutable: [note]}
  counted:
    table: todos
    allow: [patch]
    conflict: {increment: [qty]}
    rules:
      - {name: stock, on: [patch], check: new.qty >= 0, code: OUT_OF_STOCK, message: No}`))
	me := as(t, ann, nil)
	outcome := func(crud string) string {
		code, _ := w.upload(t, me, crud)
		return code
	}
	w.Exec(t, `insert into lists (id, name, owner_id, archived) values ($1, 'ok', $1, false), ($2, 'ok', $1, true), ($3, 'bad', $1, false)`, first, second, third)
	in := func(id, list string) string { return op("PUT", "todos", id, `"title":"x","list_id":"`+list+`"`, "") }
	require.Equal(t, "success", outcome(in(first, first)))
	require.Equal(t, "ARCHIVED", outcome(in(second, second)))
	require.Equal(t, "BAD_NAME", outcome(in(second, third)))
	require.Equal(t, "NOT_NULL_VIOLATION", outcome(op("PUT", "todos", second, `"title":null`, "")), "in better words than a rule that fails")

	require.Equal(t, "success", outcome(op("DELETE", "todos", third, "", "")), "nothing is there to ask about")
	w.Exec(t, `update todos set done = true, qty = 2`)
	require.Equal(t, "DONE", outcome(op("DELETE", "todos", first, "", "")))

	require.Equal(t, "success", outcome(op("PUT", "once", second, `"title":"x"`, "")))
	require.Equal(t, "UNIQUE_VIOLATION", outcome(op("PUT", "once", second, `"title":"x","note":"y"`, "")))

	require.Equal(t, "OUT_OF_STOCK", outcome(op("PATCH", "counted", first, `"qty":7`, `"qty":10`)), "the rule sees what will be stored, not what was sent")
	require.Equal(t, "success", outcome(op("PATCH", "counted", first, `"qty":-2`, `"qty":-1`)))
	require.Equal(t, "1", w.Text(t, `select qty from todos where id = $1`, first))
}
