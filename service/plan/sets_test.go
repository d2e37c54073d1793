package plan_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/plan"
	"postern/service/upload"
)

// TestSets has operations that wait for the stored row or a lookup, with what they become
// when it is read.
func TestSets(t *testing.T) {
	t.Parallel()
	const (
		byOld    = `{allow: all, set: {qty: {when: "old == null || old.title != new.title", value: "old == null ? 1 : old.qty + 1"}}}`
		byLookup = `{allow: [create], let: {n: {lookup: "select count(*) as n from notes where owner_id = $auth.sub"}}, set: {qty: n.n}}`
		onCreate = `{allow: all, set: {title: {value: "data.owner_id + '!'", on: [create]}}}`
		rule     = `{allow: all, set: {qty: old.qty + 1}, rules: [{name: r, check: new.qty < 5, code: FIVE, message: m}]}`
	)
	for _, test := range []struct {
		name, policy string
		operation    upload.Operation
		found        []string // by the query; nil if it found no row
		want         []string // what is written, or the error or the code of the rejection
	}{
		{"NewRow", byOld, put("notes", "n1", `{"title": "a", "qty": 9}`), nil, []string{"id=n1", "title=a", "qty=1"}},
		{"StoredRow", byOld, put("notes", "n1", `{"title": "a"}`), []string{`"b"`, "4", ""}, []string{"id=n1", "title=a", "qty=5"}},
		{"Kept", byOld, put("notes", "n1", `{"title": "a", "qty": 9}`), []string{`"a"`, "4", ""}, []string{"id=n1", "title=a"}},
		{"KeptByAPatch", byOld, patch("notes", "n1", `{"title": "a", "qty": 9}`), []string{`"a"`, "4", ""}, []string{"id=n1", "title=a"}},
		{"PatchOfOthers", byOld, patch("notes", "n1", `{"gone": true}`), []string{`"a"`, "4", ""}, []string{"id=n1", "gone=true"}},
		{"PatchOfNoRow", byOld, patch("notes", "n1", `{"title": "a"}`), nil, []string{"id=n1", "title=a", "qty=<null>"}},
		{"OnCreateOfAStoredRow", onCreate, put("notes", "n1", `{"qty": 1}`), []string{`"stored"`, ""}, []string{"id=n1", "qty=1", "title=stored"}},
		{"OnCreateFails", onCreate, put("notes", "n1", `{"qty": 1}`), nil, []string{"data.owner_id + '!': no such key: owner_id"}},
		{"Lookup", byLookup, put("notes", "n1", `{"title": "a"}`), []string{`{"n": 3}`}, []string{"id=n1", "title=a", "qty=3"}},
		{"Fails", byLookup, put("notes", "n1", `{"title": "a"}`), []string{`{"m": 3}`}, []string{"n.n: no such key: n"}},
		{"DoesNotFit", byLookup, put("notes", "n1", `{"title": "a"}`), []string{`{"n": "many"}`}, []string{`n.n: public.notes.qty cannot hold "many": send a whole number`}},
		{"RuleForbidsIt", rule, patch("notes", "n1", `{"title": "a"}`), []string{"4", ""}, []string{"FIVE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := sent(t, newPlanner(t, shop, "tables: {notes: "+test.policy+"}"), test.operation)[0]
			require.Empty(t, o.SQL)
			require.Len(t, o.Sets.Queries(), 1)
			found := plan.Answers{}
			for _, value := range test.found {
				found[o.Sets.Queries()[0]] = append(found[o.Sets.Queries()[0]], []byte(value))
			}
			for range 2 { // because an attempt may be repeated
				answers := maps.Clone(found)
				rejection, err := o.Complete(t.Context(), answers)
				require.Empty(t, answers)
				var got []string
				var failed *policies.RuleError
				switch {
				case err != nil:
					require.ErrorAs(t, err, &failed)
					got = []string{failed.Err.Error()}
				case rejection != nil:
					got = []string{string(rejection.Code)}
				default:
					for i, c := range o.Columns {
						got = append(got, c.Name+"="+args(o.Statement)[i])
					}
				}
				require.Equal(t, test.want, got)
			}
			require.True(t, o.Sets.Holds(maps.Clone(found)))
			require.Equal(t, test.found == nil, o.Sets.Holds(plan.Answers{}), "no row")
		})
	}
}
