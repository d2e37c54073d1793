package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/plan"
	"postern/service/upload"
)

// TestObservingLocksNothing has rules that need the stored row, and whether they lock it.
func TestObservingLocksNothing(t *testing.T) {
	t.Parallel()
	const (
		ofOld    = `check: old == null || old.qty < 9`
		ofLookup = `lookup: {l: "select qty from notes where id = $old.title"}, check: lookup.l == null`
	)
	for _, test := range []struct {
		name, rules string
		locks       bool
	}{
		{"Enforced", `{name: a, MORE, ` + ofOld + `}`, true},
		{"Observes", `{name: a, mode: observe, MORE, ` + ofOld + `}`, false},
		{"Both", `{name: a, mode: observe, MORE, ` + ofOld + `}, {name: b, MORE, ` + ofOld + `}`, true},
		{"LookupOfTheRow", `{name: a, MORE, ` + ofLookup + `}`, true},
		{"LookupObserves", `{name: a, mode: observe, MORE, ` + ofLookup + `}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, shop, "tables: {notes: {allow: all, rules: ["+strings.ReplaceAll(test.rules, "MORE", "on: [update, delete], code: A, message: m")+"]}}")
			for _, op := range []upload.Operation{patch("notes", "n", `{"qty": 1}`), remove("notes", "n")} {
				order := planned(t, p, op, op)[0]
				first, locks := inOrder(t, order)[0], locks(t, order, nil)
				require.NotEmpty(t, first.Checks.Before(), "the row is read")
				locked := len(locks.Keys)+len(locks.Rows) > 0
				guarded := strings.Contains(first.SQL, "postern.seen")
				for _, q := range first.Checks.Before() {
					locked = locked || strings.Contains(q.SQL, "for update") || strings.Contains(q.SQL, "lock_row")
				}
				require.Equal(t, []bool{test.locks, test.locks}, []bool{locked, guarded}, op.Op)
			}
		})
	}
}

// TestDrop drops rules that observe from the operations of two orders.
func TestDrop(t *testing.T) {
	t.Parallel()
	rule := func(name, more string) string {
		return fmt.Sprintf(`{name: %s, lookup: {l: "select name from lists where id = $new.list_id"}, check: lookup.l != null, code: A, message: m%s}`, name, more)
	}
	p := newPlanner(t, tree, "tables: {lists: {allow: all}, todos: {allow: all, rules: ["+rule("a", ", mode: observe")+", "+rule("b", "")+", "+rule("c", ", mode: observe")+"]}}")
	orders := planned(t, p, put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`))
	require.Len(t, orders, 2)
	names := func(rules []*policies.Rule) (names []string) {
		for _, r := range rules {
			names = append(names, r.Name)
		}
		return names
	}
	isA := func(r *policies.Rule) bool { return r.Name == "a" }
	for _, o := range []*plan.Operation{inOrder(t, orders[0])[1], inOrder(t, orders[1])[0]} {
		require.Len(t, o.Checks.Before(), 3, "each order has queries of its own")
		var observing []string
		for _, q := range o.Checks.Before() {
			observing = append(observing, names(o.Checks.Observing(q))...)
		}
		require.Equal(t, []string{"a", "c"}, observing)
		require.Equal(t, []string{"a"}, names(o.Drop(isA)))
		require.Len(t, o.Checks.Before(), 2)
		require.Empty(t, o.Drop(isA))
		require.Equal(t, []string{"b", "c"}, names(o.Drop(func(*policies.Rule) bool { return true })))
		require.Nil(t, o.Checks)
		require.Empty(t, o.Drop(isA))
	}
}
