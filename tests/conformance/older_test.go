package conformance_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// olderRequest is a line of the fixtures.
type olderRequest struct {
	Client      string `json:"client"`
	Method      string `json:"method"`
	Path        string `json:"path"`
	ContentType string `json:"type"`
	Body        string `json:"body"`
}

// TestOlderRequests sends what older clients send, each request twice, as if its answer
// had been lost.
func TestOlderRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for line := range bytes.Lines(slices.Concat(rig.Fixture(t, "older/recorded.jsonl"), rig.Fixture(t, "older/written.jsonl"))) {
		var request olderRequest
		require.NoError(t, json.Unmarshal(bytes.TrimSpace(line), &request))
		for range 2 {
			answer := b.Send(t, request.Method, request.Path, request.Body, "Content-Type", request.ContentType, "Authorization", "Bearer "+b.Token(t, "alice"))
			require.Equal(t, http.StatusOK, answer.Status, "%s: %s", request.Client, answer.Body)
			require.Equal(t, `{"status":"success"}`, answer.Body, request.Client)
		}
		unsigned := b.Send(t, request.Method, request.Path, request.Body, "Content-Type", request.ContentType)
		require.Equal(t, http.StatusUnauthorized, unsigned.Status, request.Client)
	}
	require.Equal(t, "It’s a “list” / <10>, It’s a “list” / <11>, It’s a “list” / <12>, It’s a “list” / <13>, It’s a “list” / <14>, It’s a “list” / <15>, It’s a “list” / <16>, It’s a “list” / <2>, It’s a “list” / <3>, It’s a “list” / <5>, Renamed, Renamed, Renamed, Renamed, Second",
		b.db.Text(t, `select string_agg(name, ', ' order by name) from lists`))
	require.Equal(t, "Oat milk\n", b.db.Text(t, `select string_agg(description, ',') from todos`), "that of firebase-nodejs-todolist, which sends no DELETE")
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}

const olderTables = `
	create table accounts (id text primary key, name text unique check (name <> 'bad'), balance int not null default 0);
	grant select, insert, update, delete on accounts to authenticated;`

const olderPolicies = `
tables:
  accounts:
    allow: all
    conflict: {increment: [balance]}
    rules:
      - {name: apps, on: [put], check: new.name != "ask", code: ASK, message: ask the user, client: true}
`

// TestOlderOutcomes has the answers that an older client gets, which reads their status
// alone, and what then is in the tables and among the rejected writes.
func TestOlderOutcomes(t *testing.T) {
	t.Parallel()
	put := func(id, name string, more ...string) string {
		return fmt.Sprintf(`{"op":"PUT","table":"accounts","id":%q,"data":{"name":%q}%s}`, id, name, strings.Join(more, ""))
	}
	many := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = put(fmt.Sprint("m", i), fmt.Sprint("m", i), fmt.Sprintf(`,"tx_id":%d`, i))
		}
		return strings.Join(list, ",")
	}
	for _, test := range []struct {
		name, method, body string
		status             int
		answer             string
		rows               string // the names
		rejected           string // status, code and the number of operations
	}{
		{"Nothing", http.MethodPost, `{"batch":[]}`, http.StatusOK, `{"status":"success"}`, "", ""},
		{"AllOfABatchWithoutIDsOrNothing", http.MethodPost, `{"batch":[` + put("1", "a") + "," + put("2", "bad") + `]}`, http.StatusOK, `"error_code":"CHECK_VIOLATION"`, "", "open CHECK_VIOLATION 2"},
		{"TransactionsOfABatchByTheirIDs", http.MethodPost, `{"batch":[` + put("1", "a", `,"tx_id":1`) + "," + put("2", "b", `,"tx_id":2`) + "," + put("3", "bad", `,"tx_id":2`) + "," + put("4", "d", `,"tx_id":3`) + `]}`, http.StatusOK, `"error_code":"CHECK_VIOLATION"`, "a d", "open CHECK_VIOLATION 2"},
		{"MoreTransactionsThanTheWriteAPIAllows", http.MethodPost, `{"batch":[` + many(120) + "," + put("x", "bad", `,"tx_id":200`) + `]}`, http.StatusOK, `"error_code":"CHECK_VIOLATION"`, "", "open CHECK_VIOLATION 1"},
		{"Crud", http.MethodPost, `{"transaction_id":1,"crud":[` + put("1", "a") + "," + put("2", "bad") + `]}`, http.StatusOK, `"operation_index":1`, "", "open CHECK_VIOLATION 2"},
		{"Single", http.MethodPut, `{"table":"accounts","data":{"id":"1","name":"bad"}}`, http.StatusOK, `"requires_client_handling":false`, "", "open CHECK_VIOLATION 1"},
		{"ClosedTable", http.MethodDelete, `{"table":"others","data":{"id":"1"}}`, http.StatusOK, `"error_code":"UNAUTHORIZED"`, "", "open UNAUTHORIZED 1"},
		{"LeftToTheApp", http.MethodPost, `{"batch":[` + put("1", "ask", `,"tx_id":1`) + "," + put("2", "b", `,"tx_id":2`) + `]}`, http.StatusOK, `"requires_client_handling":false`, "b", "open ASK 1"},
		{"Unreadable", http.MethodPut, `{"table":"accounts","data":{"id":"1","name":"\ud800"}}`, http.StatusOK, `"error_code":"INVALID_DATA"`, "", "open INVALID_DATA 1"},
		{"OneUnreadableOfSeveral", http.MethodPost, `{"batch":[` + put("1", "a", `,"tx_id":1`) + `,{"op":"PUT","type":"accounts","id":"2","tx_id":2,"data":{"name":"\ud800"}},` + put("3", "c", `,"tx_id":3`) + `]}`, http.StatusOK, `"error_code":"INVALID_DATA"`, "a c", "open INVALID_DATA 1"},
		{"OtherID", http.MethodPatch, `{"table":"accounts","id":"1","data":{"id":"2","name":"b"}}`, http.StatusOK, `leave it out, or send the id's value`, "", "open INVALID_DATA 1"},
		{"NotJSON", http.MethodPost, `{"batch":[}`, http.StatusBadRequest, `"message":"batch`, "", ""},
		{"UnknownSpelling", http.MethodPost, `{"batch":[{"op":"PUT","table":"accounts","id":"1","values":{"name":"a"}}]}`, http.StatusBadRequest, `"message":"batch[0].values: is not a member`, "", ""},
		{"TwoSpellings", http.MethodPatch, `{"table":"accounts","type":"accounts","data":{"id":"1"}}`, http.StatusBadRequest, `"message":"type: is sent together with table`, "", ""},
		{"AnotherUsers", http.MethodPost, `{"user_id":"somebody else","batch":[` + put("1", "a") + `]}`, http.StatusConflict, `"message"`, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			database := rig.NewDatabase(t)
			database.Exec(t, olderTables)
			s := rig.NewServiceOn(t, database, rig.Policies(t, olderPolicies), func(c *service.Config) { c.OnReject = "stop" })
			answer := s.Send(t, test.method, "/api/data", test.body, "Authorization", "Bearer "+s.Token(t, "alice"))
			require.Equal(t, test.status, answer.Status, answer.Body)
			require.Contains(t, answer.Body, test.answer)
			require.Equal(t, test.rejected, database.Text(t, `select coalesce(string_agg(concat_ws(' ', status, code, json_array_length(transaction->'crud')), ', '), '') from postern.rejected_writes`))
			if strings.Contains(test.body, "m119") {
				require.Equal(t, "120", database.Text(t, `select count(*) from accounts`))
				return
			}
			require.Equal(t, test.rows, database.Text(t, `select coalesce(string_agg(name, ' ' order by name), '') from accounts`))
		})
	}
}

// TestOlderPromises sends an increment twice, as if its answer had been lost, in each older
// form. It counts once if the request has ids and something names its queue, as in the
// table of service/ledger/README.md.
func TestOlderPromises(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, method, body, want string }{
		{"SDKsJSONWithAClientID", http.MethodPost, `{"client_id":"phone","batch":[{"op_id":1,"op":"PATCH","type":"accounts","id":"a","tx_id":1,"data":{"balance":5},"old":{"balance":0}}]}`, "5"},
		{"SDKsJSON", http.MethodPost, `{"batch":[{"op_id":1,"op":"PATCH","type":"accounts","id":"a","tx_id":1,"data":{"balance":5},"old":{"balance":0}}]}`, "5"},
		{"Forerunner", http.MethodPost, `{"crud":[{"client_id":1,"op":"PATCH","table":"accounts","id":"a","transaction_id":1,"op_data":{"balance":5},"previous_values":{"balance":0}}],"transaction_id":1}`, "5"},
		{"BatchWithoutIDs", http.MethodPost, `{"batch":[{"op":"PATCH","table":"accounts","id":"a","data":{"balance":5},"old":{"balance":0}}]}`, "10"},
		{"SingleWithoutIDs", http.MethodPatch, `{"table":"accounts","data":{"id":"a","balance":5},"old":{"balance":0}}`, "10"},
		{"SingleWithTheIDOfItsTransaction", http.MethodPatch, `{"table":"accounts","data":{"id":"a","balance":5},"old":{"balance":0},"tx_id":1}`, "10"}, // another piece may be the same
		{"SingleWithItsNumber", http.MethodPatch, `{"table":"accounts","data":{"id":"a","balance":5},"old":{"balance":0},"op_id":1}`, "5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			database := rig.NewDatabase(t)
			database.Exec(t, olderTables+`insert into accounts (id, name) values ('a', 'a')`)
			s := rig.NewServiceOn(t, database, rig.Policies(t, olderPolicies))
			for range 2 {
				answer := s.Send(t, test.method, "/api/data", test.body, "Authorization", "Bearer "+s.Token(t, "alice"))
				require.Equal(t, http.StatusOK, answer.Status, answer.Body)
			}
			require.Equal(t, test.want, database.Text(t, `select balance from accounts`))
		})
	}
}

// TestOlderTrouble has an older client send three transactions while a trigger refuses the
// second for now. It sends everything again, and everything has taken effect once.
func TestOlderTrouble(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, olderTables)
	s := rig.NewServiceOn(t, database, rig.Policies(t, olderPolicies))
	database.Exec(t, `insert into accounts (id, name) values ('a', 'a'), ('b', 'b'), ('c', 'c');
		create function trouble() returns trigger language plpgsql as $$ begin raise exception 'later' using errcode = 'PT503'; end $$;
		create trigger trouble before update on accounts for each row when (old.id = 'b') execute function trouble()`)
	add := func(n int, id string) string {
		return fmt.Sprintf(`{"op_id":%d,"op":"PATCH","type":"accounts","id":%q,"tx_id":%d,"data":{"balance":5},"old":{"balance":0}}`, n, id, n)
	}
	body := `{"client_id":"phone","batch":[` + add(1, "a") + "," + add(2, "b") + "," + add(3, "c") + `]}`
	send := func() rig.Answer {
		return s.Send(t, http.MethodPost, "/api/data", body, "Authorization", "Bearer "+s.Token(t, "alice"))
	}
	answer := send()
	require.Equal(t, http.StatusServiceUnavailable, answer.Status, answer.Body)
	wait, err := time.ParseDuration(answer.Header.Get("Retry-After") + "s")
	require.NoError(t, err)
	require.Positive(t, wait)
	require.Equal(t, "5 0 0", database.Text(t, `select string_agg(balance::text, ' ' order by id) from accounts`))
	database.Exec(t, `drop trigger trouble on accounts`)
	for range 2 {
		answer = send()
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		require.Equal(t, "5 5 5", database.Text(t, `select string_agg(balance::text, ' ' order by id) from accounts`))
	}
}
