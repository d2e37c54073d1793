package conformance_test

import (
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
