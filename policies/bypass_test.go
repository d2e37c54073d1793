package policies_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBypasses has a policy for each way around one, and for each way to close it.
func TestBypasses(t *testing.T) {
	t.Parallel()
	const rule = "name: r, code: R, message: m"
	for _, test := range []struct{ name, table, warning string }{
		{"RuleForPatch", "{allow: [put, patch], rules: [{" + rule + ", on: [patch], check: new.qty >= old.qty}]}",
			"policies/app.yaml:2:71: tables.todos.rules[0].on: a PUT of a row that exists changes it without this rule: write update in the place of patch"},
		{"RuleForPatchWhoseTableIsReplaced", "{allow: [put, patch], put: replace, rules: [{" + rule + ", on: [patch], check: new.qty >= old.qty}]}", "changes it without this rule"},
		{"RuleForPatchOfATableWithoutPut", "{allow: [patch], rules: [{" + rule + ", on: [patch], check: new.qty >= old.qty}]}", ""},
		{"RuleForPatchOfATableThatIsInsertedInto", "{allow: [put, patch], put: insert, rules: [{" + rule + ", on: [patch], check: new.qty >= old.qty}]}", ""},
		{"RuleForBoth", "{allow: [put, patch], rules: [{" + rule + ", on: [put, patch], check: old == null || new.qty >= old.qty}]}", ""},
		{"RuleForUpdate", "{allow: [create, update], rules: [{" + rule + ", on: [update], check: new.qty >= old.qty}]}", ""},
		{"RuleForUpdateOfARowThatIsDeletedAndCreated", "{allow: all, rules: [{" + rule + ", on: [update], check: new.qty >= old.qty}]}", "a DELETE with a PUT of the same id after it"},
		{"RuleForCreate", "{allow: [create, update], rules: [{" + rule + ", on: [create], check: new.qty > 0}]}", ""},
		{"RuleMeantForPatch", "{allow: all, rules: [{" + rule + ", when: op == 'patch', check: new.qty >= old.qty}]}", ""},

		{"RuleForPut", "{allow: [put, patch], rules: [{" + rule + ", on: [put], check: new.qty > 0}]}",
			"policies/app.yaml:2:71: tables.todos.rules[0].on: a PATCH can set qty without this rule: write on: [create, update], or on: [create] if it is for new rows alone"},
		{"RuleForPutOfWhatWasSent", "{allow: [put, patch], rules: [{" + rule + ", on: [put], when: has(data.qty), check: 'true'}]}", "a PATCH can set qty without this rule"},
		{"RuleForPutWithALookup", "{allow: [put, patch], rules: [{" + rule + ", on: [put], lookup: {l: select 1 from lists where id = $new.list_id}, check: lookup.l != null}]}", "a PATCH can set list_id without this rule"},
		{"RuleForPutOfWhatIsImmutable", "{allow: [put, patch], immutable: [qty], rules: [{" + rule + ", on: [put], check: new.qty > 0}]}", ""},
		{"RuleForPutOfWhatIsNotWritable", "{allow: [put, patch], writable: [title], rules: [{" + rule + ", on: [put], check: new.qty > 0}]}", ""},
		{"RuleForPutOfATableWithoutPatch", "{allow: [put], put: insert, rules: [{" + rule + ", on: [put], check: new.qty > 0}]}", ""},
		{"RuleForPutAboutTheUser", "{allow: [put, patch], rules: [{" + rule + ", on: [put], check: auth.role == 'x'}]}", ""},

		{"RuleAboutTheOldRow", "{allow: all, rules: [{" + rule + ", on: [put, patch], check: old == null || new.qty >= old.qty}]}",
			"policies/app.yaml:2:62: tables.todos.rules[0].on: a DELETE with a PUT of the same id after it changes the row without this rule: add delete to on, or remove it from allow"},
		{"RuleAboutTheOldRowThatIsNotPutAgain", "{allow: [patch, delete], rules: [{" + rule + ", on: [patch], check: new.qty >= old.qty}]}", ""},

		{"PutWithoutPatch", "{allow: [put, delete]}", "policies/app.yaml:2:11: tables.todos.allow: patch is not allowed, but a PUT of a row that exists changes it, too: write create in the place of put, or allow: [create, update]"},
		{"Create", "{allow: [create, delete]}", ""},
		{"Update", "{allow: [update, delete]}", ""},
		{"PutThatInserts", "{allow: [put, delete], put: insert}", ""},
		{"PutOfColumnsThatNeverChange", "{allow: [put], writable: [list_id], immutable: [list_id]}", ""},

		{"SetForPut", "{allow: [put, patch], set: {mood: {value: \"'calm'\", on: [put]}}}",
			"policies/app.yaml:2:38: tables.todos.set.mood: a PATCH can set mood to another value: write on: [create, update], or on: [create] if it is for new rows alone"},
		{"SetForPutOfWhatIsImmutable", "{allow: [put, patch], immutable: [mood], set: {mood: {value: \"'calm'\", on: [put]}}}", ""},
		{"SetForPatch", "{allow: [put, patch], set: {mood: {value: \"'calm'\", on: [patch]}}}", "a PUT can set mood to another value: write update in the place of patch"},
		{"SetForCreate", "{allow: [create, update], set: {mood: {value: \"'calm'\", on: [create]}}}", ""},
		{"SetForUpdate", "{allow: [create, update], set: {mood: {value: \"'calm'\", on: [update]}}}", ""},
		{"SetForBoth", "{allow: [put, patch], set: {mood: \"'calm'\"}}", ""},
		{"Default", "{allow: [put, patch], defaults: {mood: \"'calm'\"}}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := errors.Join(compile(t, "tables:\n  todos: "+test.table+"\n").Bypasses(tables(t))...)
			if test.warning == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.warning)
		})
	}
}
