package rejected_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/service/local"
	"postern/tests/rig"
)

// TestRoom has a user's rejected writes fill their room. The next one is not stored, so its
// device keeps it, and the team hears of it. Other users have room of their own.
func TestRoom(t *testing.T) {
	for _, test := range []struct {
		name           string
		records, bytes int // of each stored one
		closed         int // how many of them are closed
		full           bool
	}{
		{"OneRecordLeft", ledger.MaxRecords - 1, 1, 0, false},
		{"Records", ledger.MaxRecords, 1, 0, true},
		{"BytesLeft", 2, ledger.MaxRecordBytes/2 - 10_000, 0, false},
		{"Bytes", 2, ledger.MaxRecordBytes / 2, 0, true},
		{"ClosedOnesMakeRoom", ledger.MaxRecords, 1, 3, false},
		{"BytesOfClosedOnes", 2, ledger.MaxRecordBytes / 2, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := setup(t)
			b.fill(t, test.records, test.bytes, test.closed)
			require.Equal(t, "fatal_error", b.one(t, "bob", 1, tooLong).Status, "another user")
			for range 2 {
				result := b.one(t, "alice", 1, tooLong)
				if !test.full {
					require.Equal(t, "fatal_error", result.Status)
					continue
				}
				require.Equal(t, "retryable_error", result.Status)
				require.Equal(t, 60_000, result.RetryAfterMS)
				require.Contains(t, result.Message, "too many rejected writes of this user")
			}
			want := map[bool]string{true: "postern_rejected_full_total 2", false: "postern_rejected_full_total 0"}[test.full]
			require.Contains(t, b.metrics(t), want)
			require.Equal(t, test.full, strings.Contains(b.Logs.String(), "rejected writes have no room"))
			require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes where subject = $1 and closed_at is not null`, b.alice), "what had to make room is gone, and nothing else was closed")
			if !test.full {
				return
			}
			b.db.Exec(t, `update postern.rejected_writes set status = 'dismissed', closed_at = now() where subject = $1`, b.alice)
			require.Equal(t, "fatal_error", b.one(t, "alice", 1, tooLong).Status, "now there is room")
		})
	}
}

// TestNoRoomForNews shows that a write that is stored already needs no room.
func TestNoRoomForNews(t *testing.T) {
	b := setup(t)
	require.Equal(t, "fatal_error", b.one(t, "alice", 1, tooLong).Status)
	b.fill(t, ledger.MaxRecords-1, 1, 0)
	b.db.Exec(t, `delete from postern.receipts`) // as after a month
	require.Equal(t, "fatal_error", b.one(t, "alice", 1, tooLong).Status)
	require.Equal(t, "retryable_error", b.one(t, "alice", 2, tooLong).Status)
	require.Equal(t, "success", b.one(t, "alice", 3, "short").Status)
}

// one has a user put a list, in a transaction of that number.
func (b *testBundle) one(t *testing.T, user string, transaction int, name string) rig.Result {
	t.Helper()
	return b.Upload(t, user, fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":%d,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`,
		transaction, uuid.NewSHA1(uuid.NameSpaceOID, []byte(user)), name)).Results(t)[0]
}

// fill stores rejected writes of alice. The first ones are closed.
func (b *testBundle) fill(t *testing.T, records, bytes, closed int) {
	t.Helper()
	b.db.Exec(t, `
insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, tables, code, message, details,
                                     requires_client_handling, policy_sha256, identified, has_content, bytes, status, closed_at)
select sha256(n::text::bytea), $1, $2, 'tablet', 'tablet', '{"crud":[]}', '{lists}', 'CHECK_VIOLATION', 'too long', 'null', false, '', true, true, $4::int,
       case when n <= $5::int then 'dismissed' else 'open' end, case when n <= $5::int then now() end
  from generate_series(1, $3::int) n`, local.IssuerName, b.alice, records, bytes, closed)
}

func (b *testBundle) metrics(t *testing.T) string {
	t.Helper()
	answer := httptest.NewRecorder()
	b.Metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// TestUnopenedTables shows what is stored of a write to tables that no policy opens: all of
// it if it is small, and no content if it is large.
func TestUnopenedTables(t *testing.T) {
	small, large := "a small secret", strings.Repeat("a large secret ", 10_000)
	put := func(table, text string) string {
		return fmt.Sprintf(`{"op":"PUT","table":%q,"id":%q,"op_data":{"name":%q}}`, table, uuid.NewString(), text)
	}
	for _, test := range []struct {
		name, crud string
		stored     string // has_content, and the number of operations
	}{
		{"Small", put("drafts", small), "true 1"},
		{"Large", put("drafts", large), "false 0"},
		{"LargeAndManyTables", put(strings.Repeat("d", 300), large) + "," + put("notes", small), "false 0"},
		{"OneTableIsOpen", put("drafts", large) + "," + put("lists", small), "true 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := setup(t)
			for range 2 {
				result := b.Upload(t, "alice", `{"client_id":"phone","transactions":[{"transaction_id":7,"crud":[`+test.crud+`]}]}`).Results(t)[0]
				require.Equal(t, "fatal_error", result.Status)
				require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode)
				require.Equal(t, 0, *result.FailedOperation.OperationIndex)
			}
			require.Equal(t, test.stored, b.db.Text(t, `select concat_ws(' ', case when has_content then 'true' else 'false' end, json_array_length(transaction -> 'crud')) from postern.rejected_writes`))
			id := b.db.Text(t, `select id::text from postern.rejected_writes`)
			shown := mustPostern(t, b.db.OwnerURL, "rejected", "show", id)
			hidden := strings.HasPrefix(test.stored, "false")
			require.Equal(t, hidden, strings.Contains(shown, "Its content was too large to be stored"), shown)
			if hidden {
				require.Equal(t, "true", b.db.Text(t, `select octet_length(transaction::text) + octet_length(tables::text) < 1000 from postern.rejected_writes`))
			}
			output, err := postern(t, b.db.LoginURL, "rejected", "replay", id)
			require.Error(t, err)
			require.Equal(t, hidden, strings.Contains(output, "its content is not stored: dismiss it"), output)
		})
	}
}
