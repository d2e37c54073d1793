package conformance_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestRecordedTransactions uploads what the real SDK recorded, in the write API's
// spelling, and compares the rows with those SQLite had. In the SDK's own spelling it is
// the same transaction.
func TestRecordedTransactions(t *testing.T) {
	t.Parallel()
	recorded := rig.Fixture(t, "crud/sdk-transactions.jsonl")
	b := setupSchema(t, `
		create table t (id text primary key, i bigint, r float8, txt text);
		create table small (id text primary key, a text, b text);
		create table tracked (id text primary key, a text, b text);
		grant select, insert, update, delete on t, small, tracked to authenticated;`, `
tables:
  t: {allow: all}
  prev: {table: tracked, allow: all, conflict: reject}
  prevChanged: {table: tracked, allow: all, conflict: fields}
  prevCols: {table: small, allow: all}
  meta: {table: small, allow: all}
  ign: {table: small, allow: all}
  ins: {table: small, allow: [put]}
  vn: {table: small, allow: all}`)
	rejected := map[string]string{
		"PUT bigint max":          "INVALID_DATA", // JavaScript has made 9223372036854776000 of it, which no bigint is
		"PUT text in integer col": "INVALID_DATA",
	}
	for line := range bytes.Lines(recorded) {
		var entry struct {
			Statement   string         `json:"statement"`
			Transaction jsontext.Value `json:"transaction"`
		}
		require.NoError(t, json.Unmarshal(bytes.TrimSpace(line), &entry))
		var transaction struct {
			ID   jsontext.Value              `json:"transactionId"`
			Crud []map[string]jsontext.Value `json:"crud"`
		}
		require.NoError(t, json.Unmarshal(entry.Transaction, &transaction))
		var crud []string
		for _, op := range transaction.Crud {
			var members []string
			for sdk, api := range map[string]string{"op_id": "op_id", "op": "op", "type": "table", "id": "id", "tx_id": "transaction_id", "data": "op_data", "old": "previous_values", "metadata": "metadata"} {
				if value, ok := op[sdk]; ok {
					members = append(members, fmt.Sprintf("%q:%s", api, value))
				}
			}
			crud = append(crud, "{"+strings.Join(members, ",")+"}")
		}
		body := fmt.Sprintf(`{"client_id":"recorded","transactions":[{"transaction_id":%s,"crud":[%s]}]}`, transaction.ID, strings.Join(crud, ","))
		for range 2 { // and once more, as if the answer had been lost
			result := b.Upload(t, "alice", body).Results(t)[0]
			if code := rejected[entry.Statement]; code != "" {
				require.NotNil(t, result.FailedOperation, entry.Statement)
				require.Equal(t, code, result.FailedOperation.ErrorCode, entry.Statement)
				continue
			}
			require.Equal(t, "success", result.Status, "%s: %+v", entry.Statement, result.FailedOperation)
		}
		before := b.db.Text(t, `select count(*) from postern.receipts`)
		answer := b.Upload(t, "alice", `{"client_id":"recorded",`+string(entry.Transaction[1:]))
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		require.Contains(t, answer.Body, cmp.Or(rejected[entry.Statement], `"success"`), entry.Statement)
		require.Equal(t, before, b.db.Text(t, `select count(*) from postern.receipts`), entry.Statement)
	}
	require.Equal(t, `9a61efe7-3b7f-4fcb-9dc3-335b4a7662cc u, after p, e, id-1 1 1.5, id-3 9007199254740992, id-5 m, id-j {"a":[1,2]}`,
		b.db.Text(t, `select string_agg(concat_ws(' ', nullif(id, ''), i, r, txt), ', ' order by coalesce(nullif(id, ''), 'b')) from t`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from tracked`))
	require.Equal(t, "1", b.db.Text(t, `select count(*) from small`))
}
