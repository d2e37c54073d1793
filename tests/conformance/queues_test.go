package conformance_test

import (
	"cmp"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service/identity"
	"postern/service/local"
	"postern/tests/rig"
)

// TestTwoDevicesThatNothingTellsApart has two devices of one user whose tokens name no
// session, as Neon's, and which send what PowerSync's reference connectors send: no client
// id and no op ids. Both began to count transactions at 1.
func TestTwoDevicesThatNothingTellsApart(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "EdDSA")
	db := rig.NewDatabase(t)
	issuer, err := neon.Issuer(p.URL + "/neondb/auth")
	require.NoError(t, err)
	s := rig.NewServiceFor(t, db, rig.DemoPolicies(t), []identity.Issuer{issuer})
	token := p.sign(t, "EdDSA", p.neon(nil))
	send := func(crud string) {
		t.Helper()
		answer := s.Send(t, http.MethodPost, "/api/data", `{"transactions":[{"transaction_id":1,"crud":[`+crud+`]}]}`, "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		require.JSONEq(t, `{"results":[{"status":"success"}]}`, answer.Body)
	}
	id := uuid.NewString()
	put := fmt.Sprintf(`{"id":%q,"op":"PUT","table":"lists","transaction_id":1,"op_data":{"name":"Groceries"}}`, id)
	rename := fmt.Sprintf(`{"id":%q,"op":"PATCH","table":"lists","transaction_id":1,"op_data":{"name":"Food"}}`, id)
	send(put)
	send(rename)
	db.Exec(t, `update lists set name = 'Renamed by somebody else' where id = $1`, id)

	send(rename) // of the second device
	require.Equal(t, "Food", db.Text(t, `select name from lists where id = $1`, id), "it is another device's write")
	send(put) // a retry: nobody else makes up this id
	require.Equal(t, "Food", db.Text(t, `select name from lists where id = $1`, id))
	require.Equal(t, "3", db.Text(t, `select count(*) from postern.receipts`), "the retry made none")
	require.Contains(t, s.Logs.String(), "a client sends no client_id")
	require.Equal(t, local.UserID("alice"), db.Text(t, `select owner_id::text from lists`))
}

// TestRejectedAndThenApplied has a rejected write whose content is applied later. Without ids
// that may be another device's. The record is resolved unless that would lose an increment.
func TestRejectedAndThenApplied(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, request, rule, crud, status string }{
		{"WithIDs", `{"client_id":"c","transactions":[{"transaction_id":1,"crud":[%s]}]}`, "", patch("stock", "s", `"qty":9`, `"qty":10`), "resolved"},
		{"Patch", "", "", op("PATCH", "notes", "n", `"qty":9`), "resolved"},
		{"Put", "", "", op("PUT", "notes", "n", `"qty":9`), "resolved"},
		{"Delete", "", "", deletion("stock", "s", `"qty":9`), "resolved"},
		{"Increment", "", "", patch("stock", "s", `"qty":9`, `"qty":10`), "open"},
		{"IncrementByColumn", "", "", patch("columns", "s", `"qty":9`, `"qty":10`), "open"},
		{"IncrementAndAnother", "", "", op("PATCH", "notes", "n", `"qty":9`) + "," + put("stock", "s", `"qty":9`, `"qty":10`), "open"},
		{"HeldIncrement", "", "client: true", patch("stock", "s", `"qty":9`, `"qty":10`), "resolved"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rules := `rules: [{name: r, lookup: {d: select open from doors}, check: lookup.d.open, code: CLOSED, message: No, ` + test.rule + `}]`
			b := setupSchema(t, `
				create table doors (open boolean);
				create table notes (id text primary key, qty int);
				insert into doors values (false); insert into notes values ('n', 10), ('s', 10);
				grant select, insert, update, delete on doors, notes to authenticated`, `
tables:
  notes: {allow: all, `+rules+`}
  stock: {table: notes, allow: all, conflict: {increment: [qty]}, `+rules+`}
  columns: {table: notes, allow: all, conflict: {columns: {qty: increment}}, `+rules+`}`)
			body := fmt.Sprintf(cmp.Or(test.request, `{"transactions":[{"crud":[%s]}]}`), test.crud)
			result := b.Upload(t, "alice", body).Results(t)[0]
			require.Equal(t, "CLOSED", result.FailedOperation.ErrorCode)
			b.db.Exec(t, `update doors set open = true; delete from postern.receipts`)
			require.Equal(t, "success", b.Upload(t, "alice", body).Results(t)[0].Status)
			require.Equal(t, test.status, b.db.Text(t, `select status from postern.rejected_writes`))
		})
	}
}

// TestAnotherUsersQueue has bob signed in on a device that still holds alice's writes.
func TestAnotherUsersQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := func(user string) string {
		return fmt.Sprintf(`{"user_id":%q,"transactions":[{"transaction_id":1,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"Alice's"}}]}]}`, user, uuid.NewString())
	}
	answer := b.Upload(t, "bob", body(b.alice))
	require.Equal(t, http.StatusConflict, answer.Status)
	require.Contains(t, answer.Body, "the queue holds another user's writes")
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	require.Equal(t, "success", b.Upload(t, "alice", body(b.alice)).Results(t)[0].Status)
}
