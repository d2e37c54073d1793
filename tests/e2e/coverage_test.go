package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/policytest"
	"postern/tests/rig"
)

// The console shows the coverage that policies' tests have written.
func TestConsoleCoverage(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	served := rig.Policies(t, `tables:
  lists:
    allow: all
    owner: owner_id
    rules:
      - {name: <img src=x onerror=alert(1)>, when: has(data.name), check: data.name != '<b>' && size(data.name) < 9, code: LONG, message: m}
`)
	dir := served.Dir()
	s := rig.NewService(t, served)
	rejectMany(t, s)
	driveConsole(t, "coverage.mjs", s, "COVERAGE=none")
	builtIn, err := policies.LoadFS(policies.Demo(), "policies/demo")
	require.NoError(t, err)
	driveConsole(t, "coverage.mjs", rig.NewService(t, builtIn), "COVERAGE=builtin")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "lists_test.yaml"), []byte(`now: 2026-11-24T12:00:00Z
users: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}
tests:
  - name: a long name
    as: ann
    operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: "1234567890"}}]
    expect: {outcome: LONG}
`), 0o600))
	db, err := policytest.Connect(t.Context(), s.Database.OwnerURL, []string{"authenticated"})
	require.NoError(t, err)
	defer db.Close()
	live, err := policies.Load(dir)
	require.NoError(t, err)
	coverage := live.WithCoverage()
	report, err := policytest.Run(t.Context(), db, live, dir)
	require.NoError(t, err)
	require.Zero(t, report.Failed())
	write := func(sha256 string) {
		file, err := os.Create(filepath.Join(dir, "coverage.json"))
		require.NoError(t, err)
		require.NoError(t, policytest.CoverageJSON(file, coverage, sha256))
		require.NoError(t, file.Close())
	}
	write(live.SHA256())
	driveConsole(t, "coverage.mjs", s, "COVERAGE=current")
	write("of other policies")
	driveConsole(t, "coverage.mjs", s, "COVERAGE=outdated")
}
