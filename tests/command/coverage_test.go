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
	rig.WriteLongNameTest(t, dir)
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
