package policies_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

// TestCoverage has expressions, and what their conditions have come to for the values of
// a column: "text true/false/failed".
func TestCoverage(t *testing.T) {
	t.Parallel()
	null, text := types.NullValue, func(s string) types.String { return types.String(s) }
	for _, test := range []struct {
		name, check string
		notes       []ref.Val
		want        []string
		missed      string // the last condition's
	}{
		{"Whole", "new.note == 'a'", []ref.Val{text("a"), text("b"), text("b")}, []string{"new.note == 'a' 1/2/0"}, ""},
		{"NeverReached", "new.note == 'a'", nil, []string{"new.note == 'a' 0/0/0"}, "never reached"},
		{"Operands", "new.note == null || new.note.size() < 3", []ref.Val{null, text("ab")},
			[]string{"new.note == null || new.note.size() < 3 2/0/0", "- new.note == null 1/1/0", "- new.note.size() < 3 1/0/0"}, "never false"},
		{"Chain", "new.note != 'a' && new.note != 'b' && new.note != 'c'", []ref.Val{text("b")},
			[]string{"new.note != 'a' && new.note != 'b' && new.note != 'c' 0/1/0", "- new.note != 'a' 1/0/0", "- new.note != 'b' 0/1/0", "- new.note != 'c' 0/0/0"}, "never reached"},
		{"Nested", "new.note == 'a' || (new.note != 'b' && new.note != 'c')", []ref.Val{text("c")},
			[]string{"new.note == 'a' || (new.note != 'b' && new.note != 'c') 0/1/0", "- new.note == 'a' 0/1/0", "- new.note != 'b' && new.note != 'c' 0/1/0", "-- new.note != 'b' 1/0/0", "-- new.note != 'c' 0/1/0"}, "never true"},
		{"Failed", "new.note.size() < 3", []ref.Val{null}, []string{"new.note.size() < 3 0/0/1"}, "always null or failed"},
		{"Choice", "(new.note == null ? 'x' : string(new.note)) == 'x'", []ref.Val{null, text("a")},
			[]string{"(new.note == null ? 'x' : string(new.note)) == 'x' 1/1/0", "- new.note == null 1/1/0", "- string(new.note) 1/0/0"}, ""},
		{"Loop", "['a', 'b'].exists(x, x == new.note && x != 'c')", []ref.Val{text("b")},
			[]string{"['a', 'b'].exists(x, x == new.note && x != 'c') 1/0/0", "- x == new.note && x != 'c' 1/1/0", "-- x == new.note 1/1/0", "-- x != 'c' 1/0/0"}, "never false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(fmt.Sprintf("tables: {todos: {allow: all, rules: [{name: r, check: %q, code: R, message: m, details: {d: 'new.note == null'}}]}}", test.check))}}, "policies")
			require.NoError(t, err)
			coverage := live.WithCoverage()
			set, err := live.For(tables(t))
			require.NoError(t, err)
			table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
			for _, note := range test.notes {
				_, _ = table.Rules[0].Check(t.Context(), inputOf(upload.Put, nil, nil, policies.Row{"note": note}))
			}
			require.Len(t, coverage.Expressions(), 1)
			e := coverage.Expressions()[0]
			require.Equal(t, []string{"todos, rule r", "check"}, []string{e.Of, e.Key})
			var got []string
			for _, c := range e.Conditions {
				isTrue, isFalse, failed := c.Counts()
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %d/%d/%d", "--"[:c.Depth], c.Text, isTrue, isFalse, failed)))
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.missed, e.Conditions[len(e.Conditions)-1].Missed())
		})
	}
}

// TestCoverageOfAssignments has conditions of what a policy sets.
func TestCoverageOfAssignments(t *testing.T) {
	t.Parallel()
	live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(`tables: {todos: {allow: all, set: {note: "has(data.note) ? data.note : metadata", mood: auth.sub}}}`)}}, "policies")
	require.NoError(t, err)
	coverage := live.WithCoverage()
	_, err = live.For(tables(t))
	require.NoError(t, err)
	require.Len(t, coverage.Expressions(), 1, "a value without conditions is left out")
	e := coverage.Expressions()[0]
	require.Equal(t, []string{"todos", "set.note"}, []string{e.Of, e.Key})
	var texts []string
	for _, c := range e.Conditions {
		texts = append(texts, c.Text)
	}
	require.Equal(t, []string{"has(data.note)", "data.note", "metadata"}, texts)
	seen, all := coverage.Covered()
	require.Equal(t, []int{0, 4}, []int{seen, all}, "a condition has two results, a value one")
}
