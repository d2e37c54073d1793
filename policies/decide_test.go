package policies_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// TestEveryTable checks that "*" does not bypass the policy of a table.
func TestEveryTable(t *testing.T) {
	t.Parallel()
	set := compile(t, `
tables:
  things: {table: todos, allow: [patch], history: changes}
  stuff: {table: public.todos, allow: [patch]}
  lists: {allow: [put]}
  "*": {allow: all, because: RLS decides}`)
	for _, test := range []struct{ table, message, reason string }{
		{"things", "", ""},
		{"members", "", ""},
		{"lists", `changing a row of table "lists" is not allowed`, "this was a PATCH, and the table's policy allows PUT"},
		{"todos", `writes to table "todos" are not allowed`, `clients know the table as "stuff" and "things"`},
		{"changes", `writes to table "changes" are not allowed`, `the table keeps the history of "things"`},
	} {
		_, rejection := set.Decide(upload.Operation{Op: upload.Patch, Table: test.table})
		if test.message == "" {
			require.Nil(t, rejection, test.table)
			continue
		}
		require.NotNil(t, rejection, test.table)
		require.Equal(t, upload.Unauthorized, rejection.Code)
		require.Equal(t, test.message, rejection.Message)
		require.Equal(t, map[string]any{"table": test.table, "reason": test.reason}, rejection.Details)
	}
}

// TestClientTable has the clients' names of tables.
func TestClientTable(t *testing.T) {
	t.Parallel()
	const named = `tables: {things: {table: todos, allow: all, history: changes}, stuff: {table: todos, allow: all}, lists: {allow: [put]}, all_lists: {table: lists, allow: all}`
	for _, test := range []struct{ name, yaml, table, want string }{
		{"ItsOwn", named + "}", "lists", "lists"},
		{"FirstOfOthers", named + "}", "todos", "stuff"},
		{"NotKnown", named + "}", "members", ""},
		{"OfEveryTable", named + `, "*": {allow: all, because: RLS decides}}`, "members", "members"},
		{"OtherNameDespiteEveryTable", named + `, "*": {allow: all, because: RLS decides}}`, "todos", "stuff"},
		{"HistoryIsClosed", named + `, "*": {allow: all, because: RLS decides}}`, "changes", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name, policy := compile(t, test.yaml).ClientTable(tables(t).Table("public", test.table))
			require.Equal(t, test.want, name)
			require.Equal(t, test.want != "", policy != nil)
			if policy != nil {
				require.Equal(t, test.table, policy.Name)
			}
		})
	}
}

// TestHistoryThatIsNamed checks that a history table can have a policy of its own.
func TestHistoryThatIsNamed(t *testing.T) {
	t.Parallel()
	set := compile(t, `
tables:
  lists: {allow: all, history: changes}
  log: {table: changes, id: [row_id, field], allow: [put], put: insert}
  "*": {allow: all, because: RLS decides}`)
	_, rejection := set.Decide(upload.Operation{Op: upload.Put, Table: "log"})
	require.Nil(t, rejection)
	_, rejection = set.Decide(upload.Operation{Op: upload.Put, Table: "changes"})
	require.Equal(t, map[string]any{"table": "changes", "reason": `clients know the table as "log"`}, rejection.Details)
}

func TestMissingGrants(t *testing.T) {
	t.Parallel()
	rule := func(check string) string {
		return "{allow: [put], put: insert, rules: [{name: r, check: " + check + ", code: R, message: m}]}"
	}
	for _, test := range []struct{ policy, granted, missing string }{
		{"{allow: all}", "select, insert, update, delete", ""},
		{"{allow: [put]}", "", "select, insert, update"},
		{"{allow: [put], put: insert}", "", "insert"},
		{"{allow: [put, patch], put: insert}", "insert", "select, update"},
		{"{allow: [create]}", "", "insert"},
		{"{allow: [update]}", "", "select, update"},
		{"{allow: [create, update]}", "", "select, insert, update"},
		{"{allow: [delete], soft_delete: deleted}", "select, delete", "update"},
		{rule("data.qty > 0"), "insert", ""},
		{rule("new.qty > 0"), "insert", "select"},
	} {
		snapshot := tables(t)
		snapshot.Table("public", "todos").Grants = map[string][]string{"authenticated": strings.Split(test.granted, ", ")}
		var want []string
		if test.missing != "" {
			want = []string{"grant " + test.missing + ` on "public"."todos" to authenticated`}
		}
		require.Equal(t, want, compile(t, "tables: {todos: "+test.policy+"}").MissingGrants(snapshot, "authenticated"), test.policy)
	}
}
