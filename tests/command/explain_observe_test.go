package command_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestPolicyExplainObserves has what rules in mode observe would do.
func TestPolicyExplainObserves(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `create table items (id text primary key, title text); grant select, insert, update, delete on items to authenticated`)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), `
tables:
  items:
    allow: all
    mode: observe
    rules:
      - {name: short, check: size(new.title) < 3, code: LONG, message: Too long}
      - {name: known, lookup: {l: "select 1 as n from items where $new.title::int = 1"}, check: lookup.l.n == 1, code: UNKNOWN, message: Not known}
`)
	body := write(t, filepath.Join(dir, "body.json"), `{"transactions":[{"crud":[{"op":"PUT","table":"items","id":"i","op_data":{"title":"long"}}]}]}`)
	output, code := policy(t, database.LoginURL, "explain", body, "--policies", dir, "--sub", "8d000000-0000-4000-8000-000000000001")
	require.Zero(t, code, output)
	require.Contains(t, output, `rule short REJECTED, but only observes: new.title = "long"`)
	require.Contains(t, output, `rule known FAILED to evaluate, but only observes: `)
	require.Contains(t, output, "would be accepted")
	output, code = policy(t, database.LoginURL, "check", dir)
	require.Zero(t, code, output)
	require.Contains(t, output, "ok: 1 table, 2 rules, of which 2 only observe")
}
