package rejected_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service/local"
)

type page struct {
	Rejected []struct {
		ID            string         `json:"id"`
		Status        string         `json:"status"`
		Code          string         `json:"code"`
		Message       string         `json:"message"`
		Details       map[string]any `json:"details"`
		Operation     *int           `json:"operation_index"`
		ClientID      string         `json:"client_id"`
		TransactionID int            `json:"transaction_id"`
		Attempts      int            `json:"attempts"`
	} `json:"rejected"`
	Next string `json:"next"`
}

func (b *testBundle) list(t *testing.T, user, query string) (p page) {
	t.Helper()
	answer := b.Send(t, http.MethodGet, "/api/rejected"+query, "", "Authorization", "Bearer "+b.Token(t, user))
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	unmarshal(t, answer.Body, &p)
	return p
}

func (b *testBundle) dismiss(t *testing.T, user, id string) (status int, body string) {
	t.Helper()
	answer := b.Send(t, http.MethodPost, "/api/rejected/"+id+"/dismiss", "", "Authorization", "Bearer "+b.Token(t, user))
	return answer.Status, answer.Body
}

func TestTheAuthorSeesTheirOwn(t *testing.T) {
	b := setup(t)
	_, first := b.rejectedList(t, "alice", 1)
	_, second := b.rejectedList(t, "alice", 2)
	_, bobs := b.rejectedList(t, "bob", 1)

	all := b.list(t, "alice", "")
	require.Len(t, all.Rejected, 2)
	require.Empty(t, all.Next)
	got := all.Rejected[0]
	require.Equal(t, first, got.ID)
	require.Equal(t, "open", got.Status)
	require.Equal(t, "CHECK_VIOLATION", got.Code)
	require.Equal(t, "lists_name_check", got.Details["constraint"])
	require.Equal(t, "phone", got.ClientID)
	require.Equal(t, 1, got.TransactionID)
	require.Equal(t, 1, got.Attempts)
	require.Zero(t, *got.Operation)

	one := b.list(t, "alice", "?limit=1")
	require.Equal(t, first, one.Rejected[0].ID)
	two := b.list(t, "alice", "?limit=1&after="+one.Next)
	require.Equal(t, second, two.Rejected[0].ID)
	require.Empty(t, two.Next)
	require.Empty(t, b.list(t, "bob", "?after="+one.Next+"&status=held").Rejected)

	// Somebody else's cannot be told from one that is not there.
	theirs, body := b.dismiss(t, "alice", bobs)
	nowhere, same := b.dismiss(t, "alice", uuid.NewString())
	malformed, _ := b.dismiss(t, "alice", "x")
	require.Equal(t, []int{404, 404, 404}, []int{theirs, nowhere, malformed})
	require.Equal(t, same, body)
	require.Equal(t, "open", b.status(t, bobs))

	status, body := b.dismiss(t, "alice", first)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, fmt.Sprintf(`{"id":%q,"status":"dismissed"}`, first), body)
	status, body = b.dismiss(t, "alice", first)
	require.Equal(t, http.StatusOK, status, "again: %s", body)
	require.Equal(t, "dismissed by its author", b.actions(t, first))
	require.Len(t, b.list(t, "alice", "?status=waiting").Rejected, 1)
	require.Len(t, b.list(t, "alice", "?status=dismissed").Rejected, 1)
}

func TestRejectedQueriesThatCannotBe(t *testing.T) {
	b := setup(t)
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?after=x", "?after=" + "OTk5OTk5OTk5OTk5OTk5OTk5OS4", "?status=lost"} {
		answer := b.Send(t, http.MethodGet, "/api/rejected"+query, "", "Authorization", "Bearer "+b.Token(t, "alice"))
		require.Equal(t, http.StatusBadRequest, answer.Status, "%s: %s", query, answer.Body)
	}
	require.Equal(t, http.StatusUnauthorized, b.Send(t, http.MethodGet, "/api/rejected", "").Status)
	require.Equal(t, http.StatusUnauthorized, b.Send(t, http.MethodPost, "/api/rejected/"+uuid.NewString()+"/dismiss", "").Status)
}

// A user with a SQL connection of their own, as through PostgREST, reads what
// the synced table is meant to show them and nothing else of schema postern.
func TestTheSyncedTableUnderRowLevelSecurity(t *testing.T) {
	b := setup(t)
	_, alices := b.rejectedList(t, "alice", 1)
	_, bobs := b.rejectedList(t, "bob", 1)

	as := func(claims string, query string, args ...any) (got []string, err error) {
		tx, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
		_, err = tx.Exec(t.Context(), `select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)`, claims)
		require.NoError(t, err)
		rows, err := tx.Query(t.Context(), query, args...)
		require.NoError(t, err)
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	claims := func(issuer, user string) string {
		return fmt.Sprintf(`{"iss":%q,"sub":%q}`, issuer, local.UserID(user))
	}
	const ids = `select id::text from postern.rejected_writes`

	got, err := as(claims(local.IssuerName, "alice"), ids)
	require.NoError(t, err)
	require.Equal(t, []string{alices}, got)
	got, err = as(claims(local.IssuerName, "bob"), ids)
	require.NoError(t, err)
	require.Equal(t, []string{bobs}, got)
	got, err = as(claims("https://elsewhere.example.com", "alice"), ids)
	require.NoError(t, err)
	require.Empty(t, got, "the same sub of another issuer is another user")
	got, err = as(`{}`, ids)
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = as(``, ids)
	require.NoError(t, err)
	require.Empty(t, got)

	for _, forbidden := range []string{
		`select rule from postern.rejected_writes`,
		`select policy_sha256 from postern.rejected_writes`,
		`select claims::text from postern.rejected_identities`,
		`select who from postern.rejected_actions`,
		`select outcome from postern.receipts`,
		`update postern.rejected_writes set status = 'dismissed', closed_at = now() returning id::text`,
		`delete from postern.rejected_writes returning id::text`,
		`insert into postern.rejected_actions (record, action, who) select id, 'replayed', 'me' from postern.rejected_writes returning who`,
	} {
		_, err := as(claims(local.IssuerName, "alice"), forbidden)
		require.ErrorContains(t, err, "permission denied", forbidden)
	}
}
