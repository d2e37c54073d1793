package conformance_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

func TestUpload(t *testing.T) {
	t.Parallel()

	t.Run("PutPatchDelete", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		id := b.list(t, "alice", "Groceries")
		require.Equal(t, b.alice, b.db.Text(t, `select owner_id::text from lists where id = $1`, id))

		todo := uuid.NewString()
		b.succeed(t, "alice", fmt.Sprintf(`{"op":"PUT","table":"todos","id":%q,"op_data":{"list_id":%q,"description":"Milk","completed":1,"completed_at":"2026-11-23 14:29:30"}},
			{"op":"PATCH","table":"todos","id":%[1]q,"op_data":{"completed":0,"completed_at":null}},
			{"op":"PATCH","table":"lists","id":%[2]q,"op_data":{"name":"Food"}}`, todo, id))
		require.Equal(t, "Milk f <null>", b.db.Text(t, `select concat_ws(' ', description, completed, coalesce(completed_at::text, '<null>')) from todos where id = $1`, todo))
		require.Equal(t, "Food", b.db.Text(t, `select name from lists where id = $1`, id))

		b.succeed(t, "alice", fmt.Sprintf(`{"op":"DELETE","table":"lists","id":%q},{"op":"DELETE","table":"todos","id":%q}`, id, todo))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from todos`))
	})

	t.Run("PutOfAStoredRowMerges", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		id := b.list(t, "alice", "Groceries")
		created := b.db.Text(t, `select created_at from lists`)
		b.succeed(t, "alice", fmt.Sprintf(`{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"Food"}}`, id))
		require.Equal(t, "Food", b.db.Text(t, `select name from lists`))
		require.Equal(t, created, b.db.Text(t, `select created_at from lists`))
	})

	t.Run("NothingToDo", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.succeed(t, "alice", "")
		b.succeed(t, "alice", fmt.Sprintf(`{"op":"PATCH","table":"lists","id":%q,"op_data":{}}`, uuid.NewString()))
		b.succeed(t, "alice", fmt.Sprintf(`{"op":"PATCH","table":"lists","id":%q,"op_data":{"name":"gone"}}`, uuid.NewString()))
		b.succeed(t, "alice", fmt.Sprintf(`{"op":"DELETE","table":"lists","id":%q}`, uuid.NewString()))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
	})

	t.Run("FiftyTransactions", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		var transactions []string
		for i := range 50 {
			transactions = append(transactions, fmt.Sprintf(`{"transaction_id":%d,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"%d"}}]}`, i, uuid.NewString(), i))
		}
		results := b.Upload(t, "alice", `{"transactions":[`+strings.Join(transactions, ",")+`]}`).Results(t)
		require.Len(t, results, 50)
		for _, result := range results {
			require.Equal(t, "success", result.Status)
		}
		require.Equal(t, "50", b.db.Text(t, `select count(*) from lists`))
	})

	t.Run("AsLongAsAllowed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		limit := service.Default().BodyLimit
		b.db.Exec(t, `alter table lists drop constraint lists_name_check`)
		body := func(size int) string {
			start := fmt.Sprintf(`{"transactions":[{"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"`, uuid.NewString())
			return start + strings.Repeat("x", size-len(start)-len(`"}}]}]}`)) + `"}}]}]}`
		}
		require.Equal(t, "success", b.Upload(t, "alice", body(limit)).Results(t)[0].Status)
		tooLarge := b.Upload(t, "alice", body(limit+1))
		require.Equal(t, http.StatusRequestEntityTooLarge, tooLarge.Status)
		require.Contains(t, tooLarge.Body, strconv.Itoa(limit))
	})
}

func TestExactlyOnce(t *testing.T) {
	t.Parallel()

	// Each update of a list is counted, whoever makes it.
	setup := func(t *testing.T) *testBundle {
		b := setup(t)
		b.db.Exec(t, `create table effects (n bigint generated always as identity);
			create function count_effect() returns trigger language plpgsql security definer as 'begin insert into public.effects default values; return new; end';
			create trigger count_effect after insert or update on lists for each row execute function count_effect()`)
		return b
	}
	put := `{"client_id":"device","transactions":[{"transaction_id":7,"crud":[{"op_id":9,"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":%q}}]}]}`

	t.Run("SecondArrival", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		first, second := b.Upload(t, "alice", fmt.Sprintf(put, "Groceries")), b.Upload(t, "alice", fmt.Sprintf(put, "Groceries"))
		require.Equal(t, `{"results":[{"status":"success"}]}`, first.Body)
		require.Equal(t, first.Body, second.Body)
		require.Equal(t, "1", b.db.Text(t, `select count(*) from effects`))
	})

	t.Run("AtTheSameMoment", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if result := b.Upload(t, "alice", fmt.Sprintf(put, "Groceries")).Results(t)[0]; result.Status != "success" {
					t.Errorf("%+v", result)
				}
			})
		}
		all.Wait()
		require.Equal(t, "1", b.db.Text(t, `select count(*) from effects`))
	})

	t.Run("OtherContentIsAnotherTransaction", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.Upload(t, "alice", fmt.Sprintf(put, "Groceries"))
		b.Upload(t, "alice", fmt.Sprintf(put, "Food"))
		require.Equal(t, "2", b.db.Text(t, `select count(*) from effects`))
		require.Equal(t, "Food", b.db.Text(t, `select name from lists`))
	})

	t.Run("AnotherDeviceIsAnotherTransaction", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.Upload(t, "alice", fmt.Sprintf(put, "Groceries"))
		b.Upload(t, "alice", strings.Replace(fmt.Sprintf(put, "Groceries"), "device", "other", 1))
		require.Equal(t, "2", b.db.Text(t, `select count(*) from effects`))
	})

	t.Run("WithoutIdsWritesRepeat", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		body := strings.NewReplacer(`"transaction_id":7,`, "", `"op_id":9,`, "").Replace(fmt.Sprintf(put, "Groceries"))
		b.Upload(t, "alice", body)
		b.Upload(t, "alice", body)
		require.Equal(t, "2", b.db.Text(t, `select count(*) from effects`))
		require.Equal(t, "1", b.db.Text(t, `select count(*) from lists`))
	})

	t.Run("RejectedOnceRejectedAlways", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		tooLong := fmt.Sprintf(put, strings.Repeat("x", 201))
		first := b.Upload(t, "alice", tooLong)
		require.Equal(t, "CHECK_VIOLATION", first.Results(t)[0].FailedOperation.ErrorCode)
		b.db.Exec(t, `alter table lists drop constraint lists_name_check`)
		require.JSONEq(t, first.Body, b.Upload(t, "alice", tooLong).Body, "the client was told to drop it, so it must not happen after all")
		require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
		require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	})
}

func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	good, bad := uuid.NewString(), uuid.NewString()
	// The first transaction's second operation breaks a rule; the second stands alone.
	body := fmt.Sprintf(`{"transactions":[
		{"transaction_id":1,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"first"}},{"op":"PUT","table":"todos","id":%q,"op_data":{"description":"no list","list_id":%[2]q}}]},
		{"transaction_id":2,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"second"}}]}]}`, bad, uuid.NewString(), good)

	t.Run("Skip", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		results := b.Upload(t, "alice", body).Results(t)
		require.Equal(t, "fatal_error", results[0].Status)
		require.Equal(t, "UNAUTHORIZED", results[0].FailedOperation.ErrorCode, "the policy sees that the list is not there before the foreign key does")
		require.Equal(t, 1, *results[0].FailedOperation.OperationIndex)
		require.False(t, *results[0].RequiresClientHandling)
		require.Equal(t, "success", results[1].Status)
		require.Equal(t, "second", b.db.Text(t, `select name from lists`))
		require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	})

	t.Run("Stop", func(t *testing.T) {
		t.Parallel()
		s := rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.OnReject = "stop" })
		results := s.Upload(t, "alice", body).Results(t)
		require.Equal(t, "fatal_error", results[0].Status)
		require.Equal(t, "not_attempted", results[1].Status)
		require.Equal(t, "0", s.Database.Text(t, `select count(*) from lists`))
	})

	t.Run("LaterOnesWaitForARetry", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.db.Exec(t, `create function fail() returns trigger language plpgsql as $$begin raise exception using errcode = '55000'; end$$;
			create trigger fail before insert on todos execute function fail()`)
		results := b.Upload(t, "alice", body).Results(t)
		require.Equal(t, "retryable_error", results[0].Status)
		require.Positive(t, results[0].RetryAfterMS)
		require.Equal(t, "not_attempted", results[1].Status)
		require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	})
}

// TestMalformed sends what is not in the write API's form. The author of the client
// receives the path, and the team hears of it: the device cannot upload anything else.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, want string }{
		{"UnknownOp", `{"transactions":[{"crud":[{"id":"1","op":"UPSERT","table":"lists"}]}]}`, "transactions[0].crud[0].op"},
		{"NoID", `{"transactions":[{"crud":[{"id":"1","op":"DELETE","table":"lists"},{"op":"DELETE","table":"lists"}]}]}`, "transactions[0].crud[1].id"},
		{"NoCrud", `{"transactions":[{"crud":[]},{}]}`, "transactions[1].crud"},
		{"TooManyTransactions", `{"transactions":[` + strings.Repeat(`{"crud":[]},`, 50) + `{"crud":[]}]}`, "not 51"},
		{"NoTransactions", `{"transactions":[]}`, "transactions: must hold 1 to 50"},
		{"TransactionIDText", `{"transactions":[{"transaction_id":"1","crud":[]}]}`, "transactions[0].transaction_id: must be an int"},
		{"BrokenJSON", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"lists","op_data":{"name":NaN}}]}]}`, "transactions[0].crud[0].op_data.name: invalid character"},
		{"Empty", ``, "the body is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			answer := b.Upload(t, "alice", test.body)
			require.Equal(t, http.StatusBadRequest, answer.Status)
			require.Contains(t, answer.Body, test.want)
			require.Contains(t, b.Logs.String(), "upload not in the write API's form")
			require.Contains(t, b.Logs.String(), rig.UserID("alice"))
			metrics := httptest.NewRecorder()
			b.Metrics.ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			require.Contains(t, metrics.Body.String(), "postern_uploads_malformed_total 1")
		})
	}
}

// TestUnreadableTransaction has a device send a transaction that is at fault by itself,
// between two good ones, twice. It is rejected and stored once, byte for byte, and the
// others are applied.
func TestUnreadableTransaction(t *testing.T) {
	t.Parallel()
	list := func(id int, name string) string {
		return fmt.Sprintf(`{"transaction_id":%d,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":%s}}]}`, id, uuid.NewString(), name)
	}
	for _, test := range []struct{ name, sent, message string }{
		{"LoneSurrogate", list(2, `"\ud83d"`), "crud[0].op_data.name: invalid surrogate pair"},
		{"InvalidUTF8", list(2, "\"\xff\""), "crud[0].op_data.name: invalid UTF-8"},
		{"InvalidUTF8InAName", list(2, "\"a\",\"\xff\\u0000\":1"), "crud[0].op_data: invalid UTF-8"},
		{"ColumnWithNULTwice", list(2, `"a","\u0000":1,"\u0000":2`), "appears twice"},
		{"ControlCharacter", list(2, "\"a\nb\""), "crud[0].op_data.name: invalid character"},
		{"NULByte", list(2, "\"a\x00b\""), "crud[0].op_data.name: invalid character"},
		{"ColumnTwice", list(2, `"a","name":"b"`), "crud[0].op_data.name: appears twice"},
		{"TooDeep", list(2, strings.Repeat("[", 70)+strings.Repeat("]", 70)), "nest deeper than 64 levels"},
		{"TransactionIDTooLarge", strings.Replace(list(2, `"a"`), ":2,", ":9223372036854775808,", 1), "transaction_id: must be an integer"},
		{"TransactionIDFraction", strings.Replace(list(2, `"a"`), ":2,", ":2.5,", 1), "transaction_id: must be an integer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			body := "\ufeff" + `{"client_id":"device","transactions":[` + list(1, `"before"`) + "," + test.sent + "," + list(3, `"after"`) + `]}`
			first, second := b.UploadOutsideContract(t, "alice", body), b.UploadOutsideContract(t, "alice", body)
			require.JSONEq(t, first.Body, second.Body)
			results := first.Results(t)
			require.Equal(t, []string{"success", "fatal_error", "success"}, []string{results[0].Status, results[1].Status, results[2].Status})
			require.Equal(t, "INVALID_DATA", results[1].FailedOperation.ErrorCode)
			require.Contains(t, results[1].FailedOperation.Message, test.message)
			require.False(t, *results[1].RequiresClientHandling)
			require.Equal(t, "2", b.db.Text(t, `select count(*) from lists`))
			require.Equal(t, "open 2 {lists}", b.db.Text(t, `select status || ' ' || attempts || ' ' || tables::text from postern.rejected_writes`))
			require.Equal(t, hex.EncodeToString([]byte(test.sent)), b.db.Text(t, `select encode(raw, 'hex') from postern.rejected_writes`))
		})
	}
}

// TestUnreadableClientID has a device send an id that cannot be one. No transaction is
// applied, because others may send the same, and none is lost: the device goes on.
func TestUnreadableClientID(t *testing.T) {
	t.Parallel()
	const put = `{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"a"},"tx_id":%d}`
	first, second := fmt.Sprintf(put, 1), fmt.Sprintf(put, 2)
	for _, test := range []struct{ name, clientID, message string }{
		{"Object", `{"a":[1]}`, "client_id: must be a string, not an object"},
		{"Boolean", `true`, "client_id: must be a string, not a boolean"},
		{"LoneSurrogate", `"\ud800"`, "client_id: is not valid Unicode"},
		{"NUL", `"\u0000"`, `client_id: must not contain U+0000`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			sent := []string{`{"transaction_id":1,"crud":[` + first + `]}`, `{"transaction_id":2,"crud":[` + second + `]}`}
			for range 2 {
				results := b.UploadOutsideContract(t, "alice", `{"client_id":`+test.clientID+`,"transactions":[`+strings.Join(sent, ",")+`]}`).Results(t)
				for i := range sent {
					require.Equal(t, "INVALID_DATA", results[i].FailedOperation.ErrorCode)
					require.Contains(t, results[i].FailedOperation.Message, test.message)
				}
			}
			require.Equal(t, strings.Join(sent, "\n"), b.db.Text(t, `select string_agg(convert_from(raw, 'utf8'), e'\n' order by transaction_id) from postern.rejected_writes`))
			body := `{"client_id":` + test.clientID + `,"batch":[` + first + "," + second + `]}`
			require.Equal(t, http.StatusOK, b.UploadOutsideContract(t, "alice", body).Status)
			require.Equal(t, body, b.db.Text(t, `select convert_from(raw, 'utf8') from postern.rejected_writes where transaction_id is null`))
			require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
		})
	}
}

// TestNUL sends U+0000 wherever a client can. No such transaction stops the queue.
func TestNUL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, operation, outcome string }{
		{"ID", `{"op":"PUT","table":"lists","id":"\u0000","op_data":{"name":"a"}}`, "INVALID_DATA"},
		{"Table", `{"op":"PUT","table":"lists\u0000","id":"1","op_data":{"name":"a"}}`, "UNAUTHORIZED"},
		{"Column", `{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name\u0000":"a"}}`, "SCHEMA_MISMATCH"},
		{"Value", `{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"a\u0000"}}`, "INVALID_DATA"},
		{"InsideAValue", `{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":{"a":"\u0000"}}}`, "success"},
		{"PreviousValue", `{"op":"PATCH","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"a"},"previous_values":{"name":"\u0000"}}`, "success"},
		{"Metadata", `{"op":"PUT","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{"name":"a"},"metadata":"\u0000"}`, "success"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			result := b.Upload(t, "alice", `{"transactions":[{"crud":[`+test.operation+`]}]}`).Results(t)[0]
			if result.FailedOperation != nil {
				result.Status = result.FailedOperation.ErrorCode
				require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes`))
			}
			require.Equal(t, test.outcome, result.Status)
		})
	}
}
