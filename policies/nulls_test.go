package policies_test

import (
	"fmt"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestNull has expressions over note, mood, weight, tags, meta and due of a row, which are
// null, with what they are: true, false, null or a failure. The row has no old one.
func TestNull(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ expression, want string }{
		{"new.note == 'x'", "false"},
		{"'x' == new.note", "false"},
		{"new.note == null", "true"},
		{"new.note == new.mood", "true"},
		{"new.note != 'x'", "true"},
		{"new.note != null", "false"},
		{"new.note in ['x']", "false"},
		{"new.note in ['x', null]", "true"},
		{"'x' in new.tags", "null"},
		{"!('x' in new.tags)", "null"},

		{"new.weight < 1.0", "null"}, {"1.0 < new.weight", "null"},
		{"new.weight <= 1.0", "null"}, {"1.0 <= new.weight", "null"},
		{"new.weight > 1.0", "null"}, {"1.0 > new.weight", "null"},
		{"new.weight >= 1.0", "null"}, {"1.0 >= new.weight", "null"},
		{"new.weight + 1.0 == 2.0", "null"}, {"1.0 + new.weight == 2.0", "null"},
		{"new.weight - 1.0 != 2.0", "null"}, {"1.0 - new.weight != 2.0", "null"},
		{"new.weight * 1.0 > 2.0", "null"}, {"1.0 * new.weight > 2.0", "null"},
		{"new.weight / 1.0 > 2.0", "null"}, {"1.0 / new.weight > 2.0", "null"},
		{"-new.weight < 0.0", "null"},
		{"new.note + 'x' == 'x'", "null"}, {"'x' + new.note == 'x'", "null"},
		{"new.due + duration('1d') > now", "null"}, {"now - new.due < duration('1d')", "null"},

		{"size(new.note) < 5", "null"},
		{"new.note.size() < 5", "null"},
		{"length(new.note) < 5", "null"},
		{"new.note.startsWith('x')", "null"},
		{"'x'.startsWith(new.note)", "null"},
		{"new.note.matches('x')", "null"},
		{"isEmail(new.note)", "null"},
		{"new.due.getFullYear() == 2026", "null"},
		{"sum(new.tags) > 0.0", "null"},
		{"short(new.note)", "null"},
		{"!short(new.note)", "null"},
		{"named(new.note)", "false"},

		{"new.meta.key == 1", "null"},
		{"new.meta.key.more == 1", "null"},
		{"has(new.meta.key)", "false"}, // also in CEL
		{"has(old.title)", "false"},
		{"new.meta['key'] == 1", "null"},
		{"new.tags[0] == 'x'", "null"},
		{"{'a': 1}[new.note] == 1", "null"},

		{"new.tags.all(x, x != '')", "null"},
		{"new.tags.exists(x, x == '')", "null"},
		{"[1, 2].all(x, x > new.weight)", "null"},
		{"[1, 2].exists(x, x > 1 || x > new.weight)", "true"},
		{"[1, 2].exists(x, x > 2 || x > new.weight)", "null"},
		{"[1, 2].filter(x, x > new.weight).size() == 0", "null"},
		{"[1.0, 2.0].map(x, x + new.weight).size() == 2", "null"},
		{"[new.note, 'x'].size() == 2", "true"},

		{"sent", "null"}, // a column of boolean
		{"!sent", "null"},
		{"sent == true", "false"},
		{"sent && true", "null"}, {"true && sent", "null"},
		{"sent && false", "false"}, {"false && sent", "false"},
		{"sent || true", "true"}, {"true || sent", "true"},
		{"sent || false", "null"}, {"false || sent", "null"},
		{"sent ? true : false", "null"},
		{"sent ? false : true", "null"},
		{"true ? sent : false", "null"},
		{"(new.note == 'x' ? 1 : 2) > 1", "true"},

		{"small", "null"}, // a let
		{"!small", "null"},
		{"small == false", "null"},
		{"small != true", "null"},
		{"small || true", "true"},
		{"gone.name == 'x'", "null"}, // a let whose lookup finds no row
		{"gone == null || gone.name == 'x'", "true"},
		{"old.title == 'x'", "null"},
		{"old.title != 'x'", "null"},
		{"old.note == null", "null"},
		{"old == null", "true"},

		{"data.qty == 1", "failure"}, // it was not sent
		{"data.qty == 1 && new.weight > 1.0", "null"},
		{"data.qty == 1 || new.weight > 1.0", "null"},
		{"data.qty == 1 || new.note == 'x'", "failure"},
		{"1 / (new.qty - new.qty) > 0", "failure"},
		{"1 / (new.qty - new.qty) > 0 || new.note == null", "true"},
		{"string(1 / (new.qty - new.qty)) == new.note", "failure"},
		{"auth.claims.none == 1", "failure"},
		{"!(auth.claims.none == 1)", "failure"},
	} {
		t.Run(test.expression, func(t *testing.T) {
			t.Parallel()
			for place, outcomes := range map[string]map[string]string{
				"check": {"true": "passes", "false": "rejects", "null": "rejects", "failure": "fails"},
				"when":  {"true": "rejects", "false": "passes", "null": "rejects", "failure": "fails"},
			} {
				other := map[string]string{"check": "when", "when": "check"}[place]
				yaml := fmt.Sprintf(`
functions: {short(text string): "size(text) < 5", named(text any): text != null}
let: {gone: {lookup: select 1}}
tables:
  todos:
    allow: all
    let: {small: new.weight < 1.0, sent: "new.meta == null ? null : true"}
    rules: [{name: r, on: [create, update], %s: %q, %s: "%t", code: R, message: m}]`, place, test.expression, other, place == "check")
				in := inputOf(upload.Put, policies.Row{}, nil, policies.Row{
					"note": types.NullValue, "mood": types.NullValue, "weight": types.NullValue, "tags": types.NullValue, "meta": types.NullValue, "due": types.NullValue,
					"qty": types.Int(1), "title": types.String("t"),
				})
				in.Shared = map[string]policies.Row{"gone": nil}
				table, _ := compile(t, yaml).Decide(upload.Operation{Op: upload.Put, Table: "todos"})
				rejection, err := table.Rules[0].Check(t.Context(), in)
				got := "passes"
				if err != nil {
					got = "fails"
				} else if rejection != nil {
					got = "rejects"
				}
				require.Equal(t, outcomes[test.want], got, place)
			}
		})
	}
}

// TestMembers has JSON that is no object, or an object without the member that is asked for:
// has() is false, and the member itself is missing, whatever the JSON is.
func TestMembers(t *testing.T) {
	t.Parallel()
	list := types.NewRefValList(types.DefaultTypeAdapter, []ref.Val{types.String("admin")})
	object := types.NewRefValMap(types.DefaultTypeAdapter, map[ref.Val]ref.Val{types.String("list"): list})
	for name, meta := range map[string]ref.Val{"Number": types.Int(1), "Text": types.String("admin"), "Boolean": types.True, "List": list, "Object": object} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for expression, want := range map[string]string{
				"has(new.meta.admin)":                           "false",
				"!has(new.meta.admin)":                          "true",
				"has(new.meta.admin) && new.meta.admin == 1":    "false",
				"!has(new.meta.admin) || new.weight > 1.0":      "true",
				"new.weight > 1.0 && !has(new.meta.admin)":      "false", // by way of the null
				"has(pair.meta.admin)":                          "false",
				"[new.meta].exists(m, has(m.admin))":            "false",
				"has(parseJson('{\"a\":[1]}').a.b)":             "false",
				"has(new.meta.admin) || new.meta.admin == true": "failure",
				"new.meta.admin == true":                        "failure",
			} {
				yaml := fmt.Sprintf("tables: {todos: {allow: all, let: {pair: \"{'meta': new.meta}\"}, rules: [{name: r, on: [create], check: %q, code: R, message: m}]}}", expression)
				table, _ := compile(t, yaml).Decide(upload.Operation{Op: upload.Put, Table: "todos"})
				rejection, err := table.Rules[0].Check(t.Context(), inputOf(upload.Put, nil, nil, policies.Row{"meta": meta, "weight": types.NullValue}))
				got := fmt.Sprint(rejection == nil)
				if err != nil {
					got = "failure"
				}
				require.Equal(t, want, got, expression)
			}
		})
	}
}

// TestNullInATransaction has rules over a transaction of two operations, of which one sends
// null.
func TestNullInATransaction(t *testing.T) {
	t.Parallel()
	operations := []upload.Operation{sent("qty", "null"), sent("qty", "1")}
	for check, passes := range map[string]bool{
		"tx.all(o, o.data.qty > 0)":                       false,
		"!tx.all(o, o.data.qty > 0)":                      false,
		"!tx.all(o, o.data.qty > 1)":                      true, // the other operation decides it
		"tx.exists(o, o.data.qty == 1)":                   true,
		"tx.all(o, o.data.qty == null || o.data.qty > 0)": true,
		"sum(tx.map(o, o.data.qty)) == 1.0":               true,
	} {
		set := compile(t, fmt.Sprintf("{tables: {todos: {allow: all}}, transaction: {rules: [{name: r, check: %q, code: NO, message: No}]}}", check))
		rejection, err := set.Transaction(t.Context(), &policies.TransactionInput{Tx: operations})
		require.NoError(t, err, check)
		require.Equal(t, passes, rejection == nil, check)
	}
}
