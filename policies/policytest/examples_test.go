package policytest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies/policytest"
)

// TestExamples runs the tests of the example apps.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, app := range []string{"lists", "fieldservice", "shop"} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			report, err := policytest.Run(t.Context(), filepath.Join("..", "examples", app))
			require.NoError(t, err)
			var text strings.Builder
			report.Text(&text, testing.Verbose())
			t.Log(text.String())
			require.Zero(t, report.Failed())
			require.NotZero(t, report.Count())
		})
	}
}

// TestGuide is that the excerpts in the guide are lines of the example apps.
func TestGuide(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, guide, _ := strings.Cut(string(readme), "## Three apps")
	guide, _, _ = strings.Cut(guide, "\n## ")
	sections := strings.Split(guide, "\n### ")
	require.Len(t, sections, 4)
	for i, app := range []string{"lists", "fieldservice", "shop"} {
		yaml, err := os.ReadFile(filepath.Join("..", "examples", app, "app.yaml"))
		require.NoError(t, err)
		lines := map[string]bool{}
		for line := range strings.Lines(string(yaml)) {
			lines[strings.TrimSpace(line)] = true
		}
		_, excerpt, _ := strings.Cut(sections[i+1], "```yaml\n")
		excerpt, _, _ = strings.Cut(excerpt, "```")
		require.NotEmpty(t, excerpt)
		for line := range strings.Lines(excerpt) {
			require.True(t, lines[strings.TrimSpace(line)], "%s has no line %q", app, line)
		}
	}
}

// TestTestOfTheGuide runs the test that the guide shows, against the app it is of.
func TestTestOfTheGuide(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(readme), "\n## Tests\n")
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../examples/lists")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(text), 0o600))
	report, err := policytest.Run(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, 1, report.Count())
	require.Zero(t, report.Failed(), "%+v", report)
}

// TestUndecidable is that a test fails where a decision hangs on what is not known.
func TestUndecidable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../examples/fieldservice")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(`
now: 2026-11-24T12:00:00Z
users: {tom: {sub: 7c000000-0000-4000-8000-000000000002, claims: {app_metadata: {job: dispatcher}}}}
tests:
  - name: a default that is not given
    as: tom
    operations:
      - {op: PUT, table: work_orders, id: 33333333-0000-4000-8000-000000000001, op_data: {title: x}}
      - {op: PATCH, table: work_orders, id: 33333333-0000-4000-8000-000000000001, op_data: {state: started}, previous_values: {state: new}}
    expect: {outcome: accepted}
  - name: a column that is not given
    as: tom
    rows: {work_orders: {33333333-0000-4000-8000-000000000001: {title: x}}}
    operations:
      - {op: PATCH, table: work_orders, id: 33333333-0000-4000-8000-000000000001, op_data: {state: started}, previous_values: {state: new}}
    expect: {outcome: accepted}
`), 0o600))
	report, err := policytest.Run(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, 2, report.Failed())
	require.Contains(t, report.Files[0].Results[0].Failures[0], "operation 1 cannot be decided without a database: public.work_orders.state takes its default: give it under defaults")
	require.Contains(t, report.Files[0].Results[1].Failures[0], "the row that was given has no state")
}
