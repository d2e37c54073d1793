package policytest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/policytest"
)

// TestCoverage runs tests that leave something out, and reads what is reported of them.
func TestCoverage(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	dir := t.TempDir()
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write("app.yaml", `tables:
  lists:
    table: task_lists
    allow: all
    owner: owner_id
    rules:
      - {name: <b>short</b>, when: has(data.name), check: data.name != '<i>' && size(data.name) < 9, code: LONG, message: m}
`)
	write("app_test.yaml", `now: 2026-11-24T12:00:00Z
users: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}
tests:
  - name: a long name
    as: ann
    operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: "1234567890"}}]
    expect: {outcome: LONG}
`)
	live, err := policies.Load(dir)
	require.NoError(t, err)
	coverage := live.WithCoverage()
	report, err := policytest.Run(t.Context(), db, live, dir)
	require.NoError(t, err)
	require.Zero(t, report.Failed())

	var text, page strings.Builder
	policytest.CoverageText(&text, coverage)
	require.Contains(t, text.String(), "lists, rule <b>short</b> ("+filepath.Join(dir, "app.yaml")+":7:30)\n    when     has(data.name)")
	require.Regexp(t, `check .* true 0, false 1  <-- never true\n +data.name != '<i>' +true 1, false 0  <-- never false\n +size\(data.name\) < 9 +true 0, false 1  <-- never true\n`, text.String())
	require.Contains(t, text.String(), "coverage: 50%, 4 of 8 results\n")
	require.NoError(t, policytest.CoverageHTML(&page, coverage))
	require.Contains(t, page.String(), "lists, rule &lt;b&gt;short&lt;/b&gt;")
	require.Contains(t, page.String(), "data.name != &#39;&lt;i&gt;&#39;")
	require.NotContains(t, page.String(), "<i>")
	require.NotRegexp(t, `src=|href=|url\(|@import`, page.String(), "the page needs no other file")
	var written policytest.CoverageReport
	var file strings.Builder
	require.NoError(t, policytest.CoverageJSON(&file, coverage, "the hash"))
	require.NoError(t, json.Unmarshal([]byte(file.String()), &written))
	require.Equal(t, []any{"the hash", 50, 4, 8}, []any{written.SHA256, written.Percent, written.Seen, written.All})
	require.Contains(t, written.Expressions, policytest.ExpressionCoverage{
		Of: "lists, rule <b>short</b>", Position: written.Expressions[0].Position, Key: "when",
		Conditions: []policytest.ConditionCoverage{{Text: "has(data.name)", Results: "true 1, false 0", Missed: "never false"}},
	})
	require.NoError(t, policytest.CheckCoverage(coverage, 50))
	require.ErrorContains(t, policytest.CheckCoverage(coverage, 51), "cover 50% of the policies' conditions, less than 51%")
}
