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

	rig.WriteLongNameTest(t, dir)
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
