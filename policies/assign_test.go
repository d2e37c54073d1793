package policies_test

import (
	"testing"

	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

func TestAssignments(t *testing.T) {
	t.Parallel()
	type row = policies.Row
	for _, test := range []struct {
		name, policy, column        string
		create, update, patch, sent bool // it applies to a PUT of a new row and of a stored one, to a PATCH, and if the column was sent
		data                        row
		want                        string // empty if it fails
	}{
		{"Set", "set: {updated_at: now}", "updated_at", true, true, true, true, nil, `"2026-11-24T12:00:00Z"`},
		{"SetOnPatch", "set: {mood: {value: \"'calm'\", on: [patch]}}", "mood", false, false, true, true, nil, `"calm"`},
		{"SetOnCreate", "set: {mood: {value: \"'calm'\", on: [create]}}", "mood", true, false, false, true, nil, `"calm"`},
		{"SetOnUpdate", "set: {mood: {value: \"'calm'\", on: [update]}}", "mood", false, true, true, true, nil, `"calm"`},
		{"Default", "defaults: {owner_id: auth.sub}", "owner_id", true, false, false, false, nil, `"ann"`},
		{"Null", "set: {note: \"null\"}", "note", true, true, true, true, nil, "null"},
		{"Number", "set: {qty: 1 + 2}", "qty", true, true, true, true, nil, "3"},
		{"DayOfATime", "set: {due: now}", "due", true, true, true, true, nil, `"2026-11-24"`},
		{"Fraction", "set: {price: \"1.5\"}", "price", true, true, true, true, nil, "1.5"},
		{"Boolean", "set: {done: id == '1'}", "done", true, true, true, true, nil, "true"},
		{"List", "set: {meta: \"['a', 1]\"}", "meta", true, true, true, true, nil, `["a",1]`},
		{"FromData", "set: {mood: data.title}", "mood", true, true, true, true, row{"title": types.String("x")}, `"x"`},
		{"FromMissingData", "set: {mood: data.title}", "mood", true, true, true, true, row{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			table := tableOf(t, test.policy)
			require.True(t, table.HasExpressions())
			require.Len(t, table.Assignments, 1)
			a := &table.Assignments[0]
			require.Equal(t, test.column, a.Column)
			require.Equal(t, test.create, a.AppliesToRow(upload.Put, false))
			require.Equal(t, test.update, a.AppliesToRow(upload.Put, true))
			require.Equal(t, test.patch, a.AppliesToRow(upload.Patch, true))
			require.False(t, a.AppliesToRow(upload.Delete, true))
			require.Equal(t, !test.sent, a.IsDefault())
			value, sets, err := a.Value(t.Context(), inputOf(upload.Put, test.data, nil, nil))
			if test.want == "" {
				var failed *policies.RuleError
				require.ErrorAs(t, err, &failed)
				require.ErrorContains(t, err, "tables.todos.set.mood: data.title: no such key: title")
				return
			}
			require.NoError(t, err)
			require.True(t, sets)
			require.JSONEq(t, test.want, string(value))
		})
	}
}
