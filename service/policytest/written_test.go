package policytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/identity"
	"postern/service/policytest"
	"postern/service/upload"
	"postern/supabase"
)

// What was tried out becomes a test that passes: on a database of its own, with the rows
// that the operations met.
func TestWritten(t *testing.T) {
	t.Parallel()
	const (
		ann  = "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001"
		list = "11111111-0000-4000-8000-000000000001"
		mine = "11111111-0000-4000-8000-000000000002"
	)
	before := jsontext.Value(`{"id": "` + list + `", "name": "Groceries", "owner_id": "` + ann + `", "archived": false}`)
	db, empty := start(t, "lists"), start(t, "lists")
	live, err := policies.Load(examples + "/lists")
	require.NoError(t, err)
	set, err := live.For(db.Snapshot())
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `insert into task_lists select * from jsonb_populate_record(null::task_lists, $1)`, string(before))
	require.NoError(t, err)
	for _, c := range []struct {
		name, crud string
		before     []jsontext.Value
		accepted   bool
	}{
		{"a new row", `{"op": "PUT", "table": "lists", "id": "` + mine + `", "op_data": {"name": "Work: \"all\" of it"}}`, []jsontext.Value{nil}, true},
		{"a change", `{"op": "PATCH", "table": "lists", "id": "` + list + `", "op_data": {"name": "Food", "archived": 1}}`, []jsontext.Value{before}, true},
		{"two of the same row", `{"op": "PATCH", "table": "lists", "id": "` + list + `", "op_data": {"name": "Food"}, "metadata": "m"}, {"op": "DELETE", "table": "lists", "id": "` + list + `"}`, []jsontext.Value{before, before}, true},
		{"a rule that says no", `{"op": "PATCH", "table": "lists", "id": "` + list + `", "op_data": {"name": ""}}`, []jsontext.Value{before}, false},
		{"a table that no policy names", `{"op": "PUT", "table": "secrets", "id": "1", "op_data": {"a": null}}`, []jsontext.Value{nil}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			batch, err := upload.DecodeBatch(fmt.Appendf(nil, `{"transactions": [{"crud": [%s]}]}`, c.crud))
			require.NoError(t, err)
			who, err := identity.OfClaims(jsontext.Value(`{"sub": "`+ann+`", "email": "ann@example.com"}`), supabase.Roles)
			require.NoError(t, err)
			explained, err := policytest.Explain(t.Context(), db, live, who, "", batch.Transactions)
			require.NoError(t, err)
			require.NoError(t, explained[0].Failed)
			require.Equal(t, c.accepted, explained[0].Rejection == nil)
			tried := policytest.Tried{Who: who, Now: time.Now(), Transaction: batch.Transactions[0], Before: c.before, Explanation: explained[0]}
			report := runTests(t, empty, "lists", tried.Test(set, db.Snapshot()))
			require.Equal(t, 1, report.Count())
			require.Empty(t, report.Files[0].Results[0].Failures, tried.Test(set, db.Snapshot()))
		})
	}
}
