package command_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestCoverageFiles has the files that policy test writes for people and for the console.
func TestCoverageFiles(t *testing.T) {
	t.Parallel()
	dir := rig.Policies(t, `tables: {lists: {allow: all, owner: owner_id, rules: [{name: short, check: size(new.name) < 9, code: LONG, message: m}]}}`).Dir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lists_test.yaml"), []byte(`now: 2026-11-24T12:00:00Z
users: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}
tests:
  - name: a long name
    as: ann
    operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: "1234567890"}}]
    expect: {outcome: LONG}
`), 0o600))
	page, report := filepath.Join(dir, "coverage.html"), filepath.Join(dir, "coverage.json")
	cmd := exec.CommandContext(t.Context(), rig.Command(t), "policy", "test", dir, "--database", rig.NewDatabase(t).OwnerURL, "--coverage-html", page, "--coverage-json", report)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Contains(t, string(output), "coverage: 50%, 1 of 2 results")
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(content), "<strong>50%</strong>")
	content, err = os.ReadFile(report)
	require.NoError(t, err)
	require.Regexp(t, `^\{"sha256":"[0-9a-f]{64}","percent":50,"seen":1,"all":2,"expressions":\[\{"of":"lists, rule short"`, string(content))
}
