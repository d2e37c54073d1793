package house_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Small houses, most with one thing wrong.
func TestCheck(t *testing.T) {
	t.Parallel()
	imports := func(file, pkg string, imported ...string) sourceFile {
		return sourceFile{path: file, pkg: pkg, imports: imported}
	}
	for _, tc := range []struct {
		name string
		file sourceFile
		want string // nothing is wrong if empty
	}{
		{"a lower floor", imports("service/plan/plan.go", "plan", "policies", "service/value"), ""},
		{"a higher floor", imports("service/plan/plan.go", "plan", "service/apply"),
			"service/plan/plan.go imports service/apply, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"the same floor", imports("service/replay/replay.go", "replay", "service/policytest"),
			"service/replay/replay.go imports service/policytest, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"value may import catalog", imports("service/value/convert.go", "value", "service/catalog"), ""},
		{"catalog may not import value", imports("service/catalog/read.go", "catalog", "service/value"),
			"service/catalog/read.go imports service/value, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"policies and the ledger", imports("policies/live.go", "policies", "service/ledger"),
			"policies/live.go imports service/ledger, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"a console above replay and policytest", imports("service/console/page.go", "console", "service/replay", "service/policytest"), ""},
		{"cli imports the providers", imports("service/cli/serve.go", "cli", "service", "supabase", "neon", "service/local"), ""},

		{"the service and a provider", imports("service/service.go", "service", "supabase"),
			"service/service.go imports supabase, which only service/cli and tests may import: let one of them pass it in."},
		{"a provider and too high a floor", imports("neon/neon.go", "neon", "service/catalog"),
			"neon/neon.go imports service/catalog, but neon may import only service/identity and service/local: let its caller pass in what it needs."},
		{"a provider and the other", imports("neon/neon.go", "neon", "supabase"),
			"neon/neon.go imports supabase: move what both providers need to the floor that uses it."},
		{"a provider's test and the other", imports("neon/neon_test.go", "neon_test", "supabase"),
			"neon/neon_test.go imports supabase: move what both providers need to the floor that uses it."},
		{"local below policytest", imports("service/apply/send.go", "apply", "service/local"),
			"service/apply/send.go imports service/local, which only service/policytest, service/cli, supabase, neon and tests may import: let one of them pass it in."},
		{"local in the service", imports("service/service.go", "service", "service/local"),
			"service/service.go imports service/local, which only service/policytest, service/cli, supabase, neon and tests may import: let one of them pass it in."},
		{"local and a higher floor", imports("service/local/keeper.go", "local", "service/plan"),
			"service/local/keeper.go imports service/plan, but service/local may import only service/ledger: let its caller pass in what it needs."},

		{"an external test and what is made for tests",
			imports("policies/live_test.go", "policies_test", "policies", "service/catalog/catalogtest", "tests/rig", "service/local", "supabase"), ""},
		{"an external test and a higher floor", imports("service/upload/decode_test.go", "upload_test", "service/upload", "service/plan"),
			"service/upload/decode_test.go imports service/plan, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"a test inside a package and the same floor", imports("policies/live_test.go", "policies", "service/ledger"),
			"policies/live_test.go imports service/ledger, which is not on a lower floor: move what both need down, or let a higher floor pass it in."},
		{"a test under tests and everything", imports("tests/faults/faults_test.go", "faults_test", "service/cli", "supabase", "neon", "service/upload"), ""},
		{"what is for tests, in production", imports("service/cli/policy.go", "cli", "service/catalog/catalogtest"),
			"service/cli/policy.go imports service/catalog/catalogtest, which is for tests only: move what it needs out of there."},
		{"a package under tests, in production", imports("service/cli/dev.go", "cli", "tests/rig"),
			"service/cli/dev.go imports tests/rig, which is for tests only: move what it needs out of there."},
		{"the main package", imports("tests/rig/rig.go", "rig", "."),
			"tests/rig/rig.go imports the main package: move what it needs to service/cli or below."},

		{"a package without a floor", imports("service/queue/queue.go", "queue"),
			"service/queue/queue.go is in a package without a floor: add service/queue to the tables in tests/house."},
		{"a name that says nothing", imports("tests/helpers/wait.go", "helpers"),
			"tests/helpers/wait.go is in a package called helpers: name the package for what it does."},
		{"main.go", sourceFile{path: "main.go", pkg: "main", imports: []string{"service/cli"}, lines: 20}, ""},
		{"a long main.go", sourceFile{path: "main.go", pkg: "main", lines: 21},
			"main.go has 21 lines, and at most 20 are allowed: move the rest to service/cli."},
		{"another file at the root", sourceFile{path: "main_test.go", pkg: "main_test"},
			"main_test.go is at the root: move it to the package that uses it, because only main.go belongs there."},

		{"as long as allowed", sourceFile{path: "policies/set.go", pkg: "policies", lines: 400, functions: []function{{"Load", 60}}}, ""},
		{"a long file", sourceFile{path: "policies/set.go", pkg: "policies", lines: 401},
			"policies/set.go has 401 lines, and at most 400 are allowed: split it by what its parts do."},
		{"a long function", sourceFile{path: "policies/set.go", pkg: "policies", functions: []function{{"Load", 61}}},
			"policies/set.go: Load has 61 lines, and at most 60 are allowed: split it into its steps."},
		{"a long test", sourceFile{path: "policies/set_test.go", pkg: "policies_test", lines: 900, functions: []function{{"TestSet", 300}}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var want []string
			if tc.want != "" {
				want = []string{tc.want}
			}
			require.Equal(t, want, check([]sourceFile{tc.file}))
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const source = `package plan

import (
	"strings"

	"postern/service/value"
)

func first() string {
	return strings.ToUpper("a")
}

var second = func() {}

func (s step) third() { _ = value.Convert }
`
	name := filepath.Join(t.TempDir(), "plan.go")
	require.NoError(t, os.WriteFile(name, []byte(source), 0o600))

	file, err := parse(name, "service/plan/plan.go")

	require.NoError(t, err)
	require.Equal(t, sourceFile{
		path: "service/plan/plan.go", pkg: "plan", imports: []string{"service/value"}, lines: 15,
		functions: []function{{"first", 3}, {"the function on line 13", 1}, {"third", 1}},
	}, file)
}
