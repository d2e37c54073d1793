package policytest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/policytest"
)

// TestObserved has what tests expect of rules that only observe.
func TestObserved(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	const app = `
tables:
  lists:
    table: task_lists
    allow: all
    owner: owner_id
    rules:
      - {name: short, mode: observe, check: size(new.name) < 4, code: LONG, message: Too long}
      - {name: number, mode: observe, when: new.name.startsWith('0'), check: int(new.name) < 5, code: NO, message: No}
      - {name: lower, check: "!new.name.contains('X')", code: UPPER, message: Write small}
`
	head := "now: 2026-11-24T12:00:00Z\nusers: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}\ntests:\n"
	for _, test := range []struct{ name, list, expect, want string }{
		{"Observed", "Work", "{outcome: accepted, observed: [short]}", ""},
		{"NotSaid", "Work", "{outcome: accepted}", ""},
		{"None", "Wor", "{outcome: accepted, observed: []}", ""},
		{"Missing", "Wor", "{outcome: accepted, observed: [short]}", "expected observed: [short], but it is []"},
		{"More", "Work", "{outcome: accepted, observed: []}", "expected observed: [], but it is [short]"},
		{"BesideARejection", "WorX", "{outcome: UPPER, observed: [short]}", ""},
		{"Fails", "0x", "{outcome: accepted}", "rule number, which only observes, failed to evaluate: "},
		{"NoSuchRule", "Wor", "{outcome: accepted, observed: [shrot]}", `the policies have no rule "shrot": did you mean "short"?`},
		{"ARuleThatRejects", "Wor", "{outcome: accepted, observed: [lower]}", `rule "lower" rejects, and does not only observe: expect its code as outcome`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(app), 0o600))
			content := head + "  - {name: a, as: ann, operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: " + test.list + "}}], expect: " + test.expect + "}\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(content), 0o600))
			live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(app)}}, dir)
			require.NoError(t, err)
			report, err := policytest.Run(t.Context(), db, live, dir)
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = strings.Join(report.Files[0].Results[0].Failures, "\n")
			}
			require.Equal(t, test.want == "", got == "", got)
			require.Contains(t, got, test.want)
		})
	}
}

// TestCoverageOfObservers has what coverage calls rules that only observe.
func TestCoverageOfObservers(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	rule := func(name, more string) string {
		return "{name: " + name + ", check: new.name != '', code: NO, message: No" + more + "}"
	}
	live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte("tables:\n" +
		"  task_lists: {allow: all, mode: observe, rules: [" + rule("a", "") + ", " + rule("b", ", mode: enforce") + "]}\n" +
		"  tasklists: {table: task_lists, allow: all, rules: [" + rule("a", ", mode: observe") + ", " + rule("b", "") + "]}\n")}}, "policies")
	require.NoError(t, err)
	coverage := live.WithCoverage()
	set, err := live.For(db.Snapshot())
	require.NoError(t, err)
	require.Equal(t, "2 tables, 4 rules, of which 2 only observe", set.String())
	var of []string
	for _, e := range coverage.Expressions() {
		of = append(of, e.Of)
	}
	require.Equal(t, []string{"task_lists, rule a, which only observes", "task_lists, rule b", "tasklists, rule a, which only observes", "tasklists, rule b"}, of)
}
