package plan_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/service/upload"
)

// TestPortions has transactions that are too long to be kept. What is planned again, portion
// by portion, is what would have been kept.
func TestPortions(t *testing.T) {
	t.Parallel()
	const whole = "rules: [{name: r, check: old == null || old.title != new.title, code: R, message: m}]"
	many := func(n int, operation func(i int) upload.Operation) (list []upload.Operation) {
		for i := range n {
			list = append(list, operation(i))
		}
		return list
	}
	child := func(i int) upload.Operation {
		return put("todos", fmt.Sprint("t", i), fmt.Sprintf(`{"list_id": "l%d"}`, i%50))
	}
	parent := func(i int) upload.Operation { return put("lists", fmt.Sprint("l", i), `{}`) }
	for _, test := range []struct {
		name, tables, policies string
		operations             []upload.Operation
		portions               int
	}{
		{"Plain", shop, "notes: {allow: all}", many(4500, func(i int) upload.Operation { return put("notes", fmt.Sprint(i), `{"title": "a"}`) }), 3},
		{"Rules", shop, "notes: {allow: all, " + whole + "}", many(450, func(i int) upload.Operation { return put("notes", fmt.Sprint(i%400), `{"title": "a"}`) }), 3},
		{"RulesAndOthers", shop, "notes: {allow: all, " + whole + "}, small: {allow: all}", many(300, func(i int) upload.Operation {
			if i%2 == 0 {
				return remove("small", fmt.Sprint(i))
			}
			return patch("notes", fmt.Sprint(i), `{"title": "a"}`)
		}), 1},
		{"Guards", shop, "notes: {allow: all, owner: owner_id, immutable: [qty], history: changes}", many(250, func(i int) upload.Operation { return put("notes", fmt.Sprint(i), `{"qty": 1}`) }), 2},
		{"EmptyPatches", shop, "notes: {allow: all}", many(2500, func(i int) upload.Operation { return patch("notes", fmt.Sprint(i), `{}`) }), 0},
		{"ChildrenFirst", tree, "lists: {allow: all}, todos: {allow: all}", slices.Concat(many(2100, child), many(50, parent)), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, test.tables, "tables: {"+test.policies+"}")
			kept := planned(t, p, test.operations...)
			room := -1
			p.Room = &room
			again := planned(t, p, test.operations...)
			require.Len(t, again, len(kept))
			for i, order := range again {
				require.True(t, kept[i].IsKept())
				require.False(t, order.IsKept())
				require.Equal(t, kept[i].Tables, order.Tables)
				require.Equal(t, kept[i].Checked, order.Checked)
				require.Equal(t, locks(t, kept[i], nil), locks(t, order, nil))
				require.Equal(t, statementsOf(inOrder(t, kept[i])), statementsOf(inOrder(t, order)))
			}
			portions := 0
			for _, err := range again[0].Portions(t.Context()) {
				require.NoError(t, err)
				portions++
			}
			require.Equal(t, test.portions, portions)
		})
	}
}

// statementsOf are operations with all that is sent for them.
func statementsOf(operations []*plan.Operation) (list []string) {
	for _, o := range operations {
		list = append(list, fmt.Sprint(o.Index, " ", o.Table.Name), statement(o.Statement))
		if o.Checks == nil {
			continue
		}
		for _, q := range slices.Concat(o.Checks.Before(), o.Checks.After()) {
			list = append(list, statement(q.Statement))
		}
	}
	return list
}

// TestRoom has transactions of one request. They are kept as long as there is room.
func TestRoom(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {notes: {allow: all}, small: {allow: all, owner: b}}")
	room := plan.Guarded + 2
	p.Room = &room
	note, guarded := put("notes", "n1", `{}`), put("small", "s1", `{}`)
	require.True(t, planned(t, p, note)[0].IsKept())
	require.False(t, planned(t, p, guarded, note, note)[0].IsKept())
	require.True(t, planned(t, p, note, guarded)[0].IsKept())
	require.False(t, planned(t, p, note)[0].IsKept())
}

// TestPortionsOfAnEndedRequest plans again for a request whose time is up.
func TestPortionsOfAnEndedRequest(t *testing.T) {
	t.Parallel()
	p, room := newPlanner(t, shop, "tables: {notes: {allow: all, rules: [{name: r, check: old == null, code: R, message: m}]}}"), 0
	p.Room = &room
	order := planned(t, p, put("notes", "n1", `{}`))[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range order.Portions(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := plan.LocksOf(ctx, []*plan.Order{order}, nil, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// TestRestsOnCatalogue has which operations would do something else, without an error, if
// the tables had changed since they were read.
func TestRestsOnCatalogue(t *testing.T) {
	t.Parallel()
	const pairs = `{"tables": [{"schema": "public", "name": "pairs", "primary_key": ["id"], "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "label", "type": "text", "is": "text"},
		{"name": "at", "type": "timestamp with time zone", "is": "timestamptz"},
		{"name": "both", "type": "pair", "is": {"name": "pair", "kind": "c"}}]}]}`
	for _, test := range []struct {
		name, policy string
		operation    upload.Operation
		want         bool
	}{
		{"Put", "allow: all", put("pairs", "1", `{"label": "a", "at": "2026-01-02T03:04:05Z"}`), false},
		{"PutOfAComposite", "allow: all", put("pairs", "1", `{"both": "(1,2)"}`), true},
		{"PatchThatMayFindNoRow", "allow: all", patch("pairs", "1", `{"label": "a"}`), true},
		{"SetByTheStoredRow", "allow: all, set: {label: {when: old != null, value: old.label}}", put("pairs", "1", `{"at": null}`), false},
		{"CompositeSetByTheStoredRow", "allow: all, set: {both: {when: old != null, value: old.both}}", put("pairs", "1", `{"label": "a"}`), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			orders := planned(t, newPlanner(t, pairs, "tables: {pairs: {"+test.policy+"}}"), test.operation)
			require.Equal(t, test.want, orders[0].Tables[0].RestsOnCatalogue)
		})
	}
}
