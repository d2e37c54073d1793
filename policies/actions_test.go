package policies_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestActions has the words of a rule under what its table allows: the operations that
// the rule applies to, and whether it needs to know if a PUT's row exists.
func TestActions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, table                string
		create, update, patch, del bool // a PUT of a new row and of a stored one, a PATCH, a DELETE
		depends                    bool
	}{
		{"Create", "allow: all, rules: [{on: [create]", true, false, false, false, true},
		{"Update", "allow: all, rules: [{on: [update]", false, true, true, false, true},
		{"CreateAndUpdate", "allow: all, rules: [{on: [create, update]", true, true, true, false, false},
		{"Delete", "allow: all, rules: [{on: [delete]", false, false, false, true, false},
		{"Put", "allow: all, rules: [{on: [put]", true, true, false, false, false},
		{"Patch", "allow: all, rules: [{on: [patch]", false, false, true, false, false},
		{"CreateWherePutInserts", "allow: all, put: insert, rules: [{on: [create]", true, true, false, false, false},
		{"UpdateWherePutInserts", "allow: all, put: insert, rules: [{on: [update]", false, false, true, false, false},
		{"CreateWithoutUpdate", "allow: [create], rules: [{on: [create]", true, true, false, false, false},
		{"UpdateWithoutUpdate", "allow: [create], rules: [{on: [update]", false, false, true, false, false},
		{"UpdateWithoutCreate", "allow: [update], rules: [{on: [update]", true, true, true, false, false},
		{"CreateWithoutCreate", "allow: [update], rules: [{on: [create]", false, false, false, false, false},
		{"CreateWhereOnlyPatchesCome", "allow: [patch], rules: [{on: [create]", false, false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := compile(t, "tables:\n  todos: {"+test.table+", name: r, check: auth.sub != '', code: R, message: m}]}\n")
			table, rejection := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
			if rejection != nil {
				table, rejection = set.Decide(upload.Operation{Op: upload.Patch, Table: "todos"})
			}
			require.Nil(t, rejection)
			rule := table.Rules[0]
			require.Equal(t, test.create, rule.AppliesToRow(upload.Put, false))
			require.Equal(t, test.update, rule.AppliesToRow(upload.Put, true))
			require.Equal(t, test.patch, rule.AppliesTo(upload.Patch))
			require.Equal(t, test.del, rule.AppliesTo(upload.Delete))
			require.Equal(t, test.depends, rule.DependsOnRow(upload.Put))
		})
	}
}

// TestAllowedPuts is what a PUT of a row that exists does.
func TestAllowedPuts(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]policies.PutMode{
		"[create]": policies.Insert, "[create, delete]": policies.Insert, "[create, update]": policies.Merge, "[update]": policies.Merge,
		"[create, update], put: replace": policies.Replace, "[create], put: insert": policies.Insert, "[put]": policies.Merge,
	} {
		table, rejection := compile(t, "tables: {todos: {allow: "+words+"}}").Decide(upload.Operation{Op: upload.Put, Table: "todos"})
		require.Nil(t, rejection, words)
		require.Equal(t, want, table.Put, words)
		require.Equal(t, words == "[update]", table.Updates(), words)
	}
}
