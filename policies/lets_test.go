package policies

import (
	"testing"
	"testing/fstest"

	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"postern/service/catalog/catalogtest"
	"postern/service/upload"
)

const lets = `
functions: {known(word string): "tags.exists(t, t == word)"}
params: {tags: [a, b]}
tables:
  todos:
    allow: all
    let:
      list: {lookup: select archived from lists where id = $new.list_id}
      open: list == null || !list.archived
      mine: old == null || old.owner_id == auth.sub
      tagged: known(new.title)
      forgotten: open
    rules:
      - {name: a, on: [create, update], check: tagged && mine, code: A, message: m}
      - {name: b, on: [create, update], when: tagged, check: open && mine, code: B, message: m}
      - {name: c, check: auth.sub != '', code: C, message: m}
`

func letRules(t *testing.T) (*Set, []*Rule) {
	t.Helper()
	source, err := ReadFS(fstest.MapFS{"app.yaml": {Data: []byte(lets)}}, "policies")
	require.NoError(t, err)
	set, err := source.Compile(catalogtest.Load(t, "testdata/catalog.json"))
	require.NoError(t, err)
	return set, set.tables["todos"].Rules
}

// TestLetIsEvaluatedOnce counts the steps that a let takes, whatever the number of rules.
func TestLetIsEvaluatedOnce(t *testing.T) {
	t.Parallel()
	_, rules := letRules(t)
	in := &Input{Op: upload.Put, ID: "1", TransactionInput: &TransactionInput{}, Shared: map[string]Row{"list": {"archived": types.False}}}
	in.SetNew(Row{"title": types.String("b")})
	var steps uint64
	for i, rule := range rules[:2] {
		rejection, err := rule.Check(t.Context(), in)
		require.NoError(t, err)
		require.Nil(t, rejection)
		if i == 0 {
			steps = in.steps
		}
	}
	require.Positive(t, steps)
	require.Equal(t, steps, in.steps)
	in.SetNew(Row{"title": types.String("c")})
	rejection, err := rules[0].Check(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "a", rejection.Rule, "another row has another value")
}

// TestLetsOfARule is that a rule needs what its lets look at, and no more.
func TestLetsOfARule(t *testing.T) {
	t.Parallel()
	set, rules := letRules(t)
	known := func(string) bool { return true }
	require.True(t, rules[0].LooksAtOld())
	require.Empty(t, rules[0].Lookups)
	require.True(t, rules[1].NeedsStored(known))
	require.Len(t, rules[1].Lookups, 1)
	require.False(t, rules[2].NeedsStored(known))
	require.Equal(t, []string{"create", "update", "delete"}, rules[2].Words())
	require.Len(t, set.Unused(), 1)
	require.EqualError(t, set.Unused()[0], "policies/app.yaml:12:7: tables.todos.let.forgotten: no expression uses forgotten: remove it, or correct the name where it is meant")
}

// TestTraceOfLets is that a trace has the values of lets.
func TestTraceOfLets(t *testing.T) {
	t.Parallel()
	_, rules := letRules(t)
	var entry TraceEntry
	in := &Input{Op: upload.Put, ID: "1", TransactionInput: &TransactionInput{trace: func(e TraceEntry) { entry = e }}, Shared: map[string]Row{"list": {"archived": types.True}}}
	in.SetNew(Row{"title": types.String("b")})
	_, err := rules[1].Check(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, `old = null, new.title = "b", list = {"archived":true}, open = false, mine = true, tagged = true`, entry.Detail)
}
