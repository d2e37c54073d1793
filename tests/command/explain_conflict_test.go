package command_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestPolicyExplainConflicts has what each column's strategy did.
func TestPolicyExplainConflicts(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create table items (id text primary key, title text, qty int, notes text, updated_at timestamptz);
		grant select, insert, update, delete on items to authenticated;
		insert into items values ('i', 'a', 10, 'n', '2026-11-23 10:00Z')`)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), `tables: {items: {allow: all, conflict: {columns: {title: {newest: updated_at}, qty: increment, notes: fields}}}, whole: {table: items, allow: all, conflict: fields}, sums: {table: items, allow: all, conflict: {increment: [qty]}}}`)
	body := write(t, filepath.Join(dir, "body.json"), `{"transactions":[{"crud":[{"op":"PATCH","table":"items","id":"i",
		"op_data":{"title":"b","qty":7,"notes":"mine","updated_at":"2026-11-23T09:00:00Z"},"previous_values":{"qty":9,"notes":"old"}}]},
		{"crud":[{"op":"PATCH","table":"whole","id":"i","op_data":{"qty":7,"notes":"mine"},"previous_values":{"qty":8,"notes":"old"}}]},
		{"crud":[{"op":"PATCH","table":"sums","id":"i","op_data":{"qty":9},"previous_values":{"qty":8}},{"op":"PUT","table":"sums","id":"i","op_data":{"qty":9,"notes":"n"}}]}]}`)
	output, code := policy(t, database.LoginURL, "explain", body, "--policies", dir, "--sub", "8d000000-0000-4000-8000-000000000001")
	require.Zero(t, code, output)
	require.Contains(t, output, `operation 0: updated: qty 10 -> 8; title is not what was sent, dropped by newest: it is "a"; qty is not what was sent, merged by increment: it is 8; `+
		`notes is not what was sent, dropped by fields: it is "n"; updated_at is not what was sent: it is "2026-11-23T10:00:00+00:00"`)
	require.Contains(t, output, `operation 0: updated: qty 8 -> 7; notes is not what was sent, dropped by fields: it is "n"`)
	require.Contains(t, output, "operation 0: updated: qty 7 -> 8; qty is not what was sent, merged by increment: it is 8")
	require.Contains(t, output, "operation 1: left the row unchanged; qty is not what was sent, dropped by increment: it is 8")
	require.Contains(t, output, "would be accepted")
}
