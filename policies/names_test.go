package policies_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
)

const named = `
params: {longest: 5, moods: [calm, wild], ratio: 1.5, strict: true, title: no}
functions:
  short(text string): size(text) <= longest
  between(n any, least int, most int): n >= least && n <= most
  isJob(job string): has(auth.claims.job) && auth.claims.job == job
  mayEdit(owner any): isJob('boss') || owner == auth.sub
  allShort(texts list): texts.all(t, short(t))
  many(): tx.size() > longest
`

// TestFunctions has expressions that call functions and name params.
func TestFunctions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		check string
		new   policies.Row
		data  policies.Row
		want  bool
	}{
		{"short(new.title)", policies.Row{"title": types.String("12345")}, nil, true},
		{"short(new.title)", policies.Row{"title": types.String("123456")}, nil, false},
		{"short(new.title) && !short(new.title + '1')", policies.Row{"title": types.String("12345")}, nil, true},
		{"between(new.qty, 1, longest)", policies.Row{"qty": types.Int(5)}, nil, true},
		{"between(new.qty, 1, longest)", policies.Row{"qty": types.Int(6)}, nil, false},
		{"mayEdit(new.owner_id)", policies.Row{"owner_id": types.String("ann")}, nil, true},
		{"mayEdit(new.owner_id)", policies.Row{"owner_id": types.String("bob")}, nil, false},
		{"new.mood in moods", policies.Row{"mood": types.String("calm")}, nil, true},
		{"new.mood in moods", policies.Row{"mood": types.String("sad")}, nil, false},
		{"new.price < ratio && strict", policies.Row{"price": types.Double(1.25)}, nil, true},
		{"allShort([new.title, 'a']) && ['b'].all(s, short(s))", policies.Row{"title": types.String("12345")}, nil, true},
		{"allShort([new.title])", policies.Row{"title": types.String("123456")}, nil, false},
		{"has(data.title) && short(data.title)", nil, policies.Row{"title": types.String("a")}, true},
		{"!many()", nil, nil, true},
	} {
		t.Run(test.check, func(t *testing.T) {
			t.Parallel()
			set := compile(t, named+fmt.Sprintf("tables: {todos: {allow: all, rules: [{name: r, check: %q, code: R, message: m}]}}", test.check))
			table, rejection := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
			require.Nil(t, rejection)
			rejection, err := table.Rules[0].Check(t.Context(), inputOf(upload.Put, test.data, nil, test.new))
			require.NoError(t, err)
			require.Equal(t, test.want, rejection == nil)
		})
	}
}

// TestFunctionsLookAtRows is that an expression looks at what it passes to functions.
func TestFunctionsLookAtRows(t *testing.T) {
	t.Parallel()
	for check, stored := range map[string]bool{"short(new.title)": true, "mayEdit(old.owner_id)": true, "short(data.title)": false, "isJob('boss')": false} {
		set := compile(t, named+fmt.Sprintf("tables: {todos: {allow: all, rules: [{name: r, check: %q, code: R, message: m}]}}", check))
		table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
		require.Equal(t, stored, table.Rules[0].NeedsStored(func(string) bool { return false }), check)
		require.False(t, table.Rules[0].LooksAtOld() && check != "mayEdit(old.owner_id)", check)
	}
}

// TestNamesOfAllFiles has a file use what another one defines, in a table, in a rule
// over transactions and in what is set.
func TestNamesOfAllFiles(t *testing.T) {
	t.Parallel()
	source, err := policies.ReadFS(fstest.MapFS{
		"names.yaml": {Data: []byte("params: {most: 2, unused: 1}\nfunctions: {few(): tx.size() < most, forgotten(): few()}\nlet: {me: {lookup: select 1 as n}, boss: me != null, other: me == null}\n")},
		"todos.yaml": {Data: []byte("tables: {todos: {allow: all, set: {qty: most + 1}}}\ntransaction: {rules: [{name: few, check: few(), code: MANY, message: m}]}\n")},
		"lists.yaml": {Data: []byte("tables: {lists: {allow: all, rules: [{name: r, check: boss, code: R, message: m}]}, members: {id: [list_id, user_id], allow: all, rules: [{name: r, when: has(data.list_id), check: boss || me.n == 1, code: R, message: m}]}}\n")},
	}, "policies")
	require.NoError(t, err)
	set, err := source.Compile(tables(t))
	require.NoError(t, err)
	rejection, err := set.Transaction(t.Context(), &policies.TransactionInput{Tx: make([]upload.Operation, 2)})
	require.NoError(t, err)
	require.Equal(t, upload.Code("MANY"), rejection.Code)
	require.EqualError(t, errors.Join(set.Unused()...), "policies/names.yaml:1:19: params.unused: no expression uses unused: remove it, or correct the name where it is meant\n"+
		"policies/names.yaml:2:38: functions.forgotten(): no expression uses forgotten: remove it, or correct the name where it is meant\n"+
		"policies/names.yaml:3:54: let.other: no expression uses other: remove it, or correct the name where it is meant")
	for _, name := range []string{"lists", "members"} {
		table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: name})
		require.Len(t, table.Rules[0].Lookups, 1, name)
	}
	table, _ := set.Decide(upload.Operation{Op: upload.Put, Table: "todos"})
	require.Empty(t, table.Rules)
}
