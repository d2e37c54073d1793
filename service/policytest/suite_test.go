package policytest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/policytest"
)

// TestBusted has ways in which a test file can be wrong, and what its author reads after
// the file's name.
func TestBusted(t *testing.T) {
	t.Parallel()
	db := start(t, "lists")
	const (
		head = "now: 2026-11-24T12:00:00Z\nusers: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}\n"
		put  = "as: ann, operations: [{op: PUT, table: tasks, id: 22222222-0000-4000-8000-000000000001, op_data: {title: x}}]"
	)
	const rejected = ", expect: {outcome: UNAUTHORIZED}"
	of := func(rest string) string { return head + "tests:\n  - {name: a, " + rest + "}\n" }
	for _, test := range []struct{ name, content, want string }{
		{"Nothing", "", ":1:1: tests are missing"},
		{"UnknownKey", "userss: {}\ntests: []\n", ":1:1: unknown field \"userss\": did you mean \"users\"?\n    userss: {}\n    ^"},
		{"SecondDocument", of(put+", expect: {outcome: accepted}") + "---\ntests: []\n",
			":5:1: a second YAML document begins here: move it to a file of its own\n    ---\n    ^"},
		{"Tag", "tests:\n  !00\n00000000000:\n        0000: 0\n        00-000: 0\n", ":2:3: YAML reads this as a tag"},
		{"AcceptedByARule", of(put + ", expect: {outcome: accepted, rule: title-length}"),
			"expect: operation, rule, message, client and details are of a rejection, and outcome is accepted"},
		{"AcceptedWithDetails", of(put + ", expect: {outcome: accepted, details: {}}"), "expect: operation, rule"},
		{"AcceptedByTheClient", of(put + ", expect: {outcome: accepted, client: true}"), "expect: operation, rule"},
		{"CodeOfNoKey", of(put + ", expect: {outcome: accepted, code: X}"), ":4:154: unknown field \"code\""},
		{"NoTime", strings.Replace(of(put+rejected), "2026-11-24T12:00:00Z", "yesterday", 1), `: now: "yesterday" is no time: write one like 2026-11-24T12:00:00Z`},
		{"NoTimeOfATest", of("now: 2026-11-31, " + put + rejected), `:4:20: now: "2026-11-31" is no time`},
		{"Lookups", of(put + rejected + ", lookups: {open-list.list: null}"), "lookups: lookups read the given rows: write those that the query finds under rows"},
		{"Defaults", "defaults: {tasks: {done: false}}\n" + of(put+rejected), ":1:1: defaults: the schema has them: leave this out"},
		{"User", of(strings.Replace(put, "ann", "anne", 1) + rejected), `:4:19: as: "anne" is none of the file's users: did you mean "ann"?`},
		{"Outcome", of(put + ", expect: {outcome: LIST_ARCHVED}"), `"LIST_ARCHVED" is neither accepted nor a code of Postern or the policies: did you mean "LIST_ARCHIVED"?`},
		{"OutcomeOfPostern", of(put + ", expect: {outcome: UNAUTHORISED}"), `did you mean "UNAUTHORIZED"?`},
		{"Accepted", of(put + ", expect: {outcome: acepted}"), `did you mean "accepted"?`},
		{"Rule", of(put + ", expect: {outcome: LIST_ARCHIVED, rule: open-lists}"), `the policies have no rule "open-lists": did you mean "open-list"?`},
		{"Operation", of(put + ", expect: {outcome: LIST_ARCHIVED, operation: 1}"), "there is no operation 1: write 0 for the first, or -1"},
		{"Table", of(put + ", expect: {outcome: accepted, rows: {task: {a: null}}}"), `there is no table "task": did you mean "tasks"?`},
		{"TableOfGivenRows", of("rows: {lits: {a: {name: x}}}, " + put + rejected), `:4:22: there is no table "lits": did you mean "lists"?`},
		{"Column", of(put + ", expect: {outcome: accepted, rows: {tasks: {a: {titel: x}}}}"), `table "tasks" has no column "titel": did you mean "title"?`},
		{"ColumnOfAllTests", "rows: {lists: {a: {nam: x}}}\n" + of(put+rejected), `:1:20: table "lists" has no column "nam": did you mean "name"?`},
		{"StepsAndOperations", of(put + rejected + ", steps: [{" + put + rejected + "}]"), "steps: each step has its own operations and expect"},
		{"OutcomeOfAStep", of("steps: [{" + put + ", expect: {outcome: TITLE_LONG}}]"), `"TITLE_LONG" is neither accepted`},
		{"NoCases", of("cases: [], " + put + rejected), "cases is empty"},
		{"CaseWithoutName", of("cases: [{title: x}], " + put + rejected), `:4:24: a case has a name and the values of the test's variables`},
		{"VariableThatNoCaseHas", of("cases: [{name: x, title: y}], " + strings.Replace(put, "title: x", `title: "${titel}"`, 1) + rejected), `the case at line 4 has no titel: did you mean "title"?`},
		{"VariableThatNobodyUses", of("cases: [{name: x, title: y}], " + put + rejected), ":4:33: the test has no ${title}: use it, or remove it"},
		{"ListWithinAText", of("cases: [{name: x, title: [y]}], " + strings.Replace(put, "title: x", `title: "a ${title}"`, 1) + rejected), "${title} is within a text, and its value is none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("../../policies/examples/lists")))
			path := filepath.Join(dir, "app_test.yaml")
			require.NoError(t, os.WriteFile(path, []byte(test.content), 0o600))
			live, err := policies.Load(dir)
			require.NoError(t, err)
			_, err = policytest.Run(t.Context(), db, live, dir)
			require.Error(t, err)
			require.True(t, strings.HasPrefix(err.Error(), path+":"), err.Error())
			require.Contains(t, strings.ReplaceAll(err.Error(), path, ""), test.want)
		})
	}

	t.Run("Several", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS("../../policies/examples/lists")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(of("nonsense: 1, "+put+", expect: {outcome: TOO_LNG}")), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "more_test.yaml"), []byte(of(put+", expect: {outcome: accepted, rows: {tusks: {}}}")), 0o600))
		live, err := policies.Load(dir)
		require.NoError(t, err)
		_, err = policytest.Run(t.Context(), db, live, dir)
		require.ErrorContains(t, err, `unknown field "nonsense"`)
		require.ErrorContains(t, err, `"TOO_LNG" is neither`)
		require.ErrorContains(t, err, `there is no table "tusks"`)
	})
}
