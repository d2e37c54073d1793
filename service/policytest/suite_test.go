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
	for _, test := range []struct{ name, content, want string }{
		{"Nothing", "", ":1: tests are missing"},
		{"UnknownKey", "userss: {}\n", ":1:1: unknown field \"userss\": did you mean \"users\"?\n    userss: {}\n    ^"},
		{"SecondDocument", head + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted}}\n---\ntests: []\n",
			":5:1: a second YAML document begins here: move it to a file of its own\n    ---\n    ^"},
		{"Tag", "tests:\n  !00\n00000000000:\n        0000: 0\n        00-000: 0\n", ":2:3: YAML reads this as a tag"},
		{"AcceptedByARule", head + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted, rule: title-length}}\n",
			":4: expect: operation, rule, message, client and details are of a rejection, and outcome is accepted"},
		{"AcceptedWithDetails", head + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted, details: {}}}\n", ":4: expect: operation, rule"},
		{"AcceptedByTheClient", head + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted, client: true}}\n", ":4: expect: operation, rule"},
		{"CodeOfNoKey", head + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted, code: X}}\n", ":4:"},
		{"NoTime", strings.Replace(head, "2026-11-24T12:00:00Z", "yesterday", 1) + "tests:\n  - {name: a, " + put + ", expect: {outcome: accepted}}\n", `:4: now: "yesterday" is no time: write one like 2026-11-24T12:00:00Z`},
		{"NoTimeOfATest", head + "tests:\n  - {name: a, now: 2026-11-31, " + put + ", expect: {outcome: accepted}}\n", `:4: now: "2026-11-31" is no time`},
		{"Lookups", head + "tests:\n  - {name: a, " + put + ", lookups: {open-list.list: null}, expect: {outcome: accepted}}\n",
			":4: lookups: lookups read the given rows: write those that the query finds under rows"},
		{"Defaults", head + "defaults: {tasks: {done: false}}\ntests:\n  - {name: a, " + put + ", expect: {outcome: accepted}}\n",
			":1: defaults: the schema has them: leave this out"},
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
			require.True(t, strings.HasPrefix(err.Error(), path+test.want), err.Error())
		})
	}
}
