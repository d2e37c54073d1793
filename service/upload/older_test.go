package upload_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// TestSpellings has an operation in each spelling. They are the same operation.
func TestSpellings(t *testing.T) {
	t.Parallel()
	want := upload.Operation{
		OpID: "9", Op: upload.Patch, Table: "lists", ID: "1", Metadata: "m",
		Data:     []upload.Member{{Name: "name", Value: jsontext.Value(`"b"`)}},
		Previous: []upload.Member{{Name: "name", Value: jsontext.Value(`"a"`)}},
	}
	for _, test := range []struct{ name, operation string }{
		{"WriteAPI", `{"op_id":9,"transaction_id":7,"op":"PATCH","table":"lists","id":"1","op_data":{"name":"b"},"previous_values":{"name":"a"},"metadata":"m"}`},
		{"SDKsJSON", `{"op_id":9,"tx_id":7,"op":"PATCH","type":"lists","id":"1","data":{"name":"b"},"old":{"name":"a"},"metadata":"m"}`},
		{"SDKsClass", `{"clientId":9,"transactionId":7,"op":"PATCH","table":"lists","id":"1","opData":{"name":"b"},"previousValues":{"name":"a"},"metadata":"m"}`},
		{"Forerunner", `{"client_id":9,"transaction_id":7,"op":"PATCH","table":"lists","id":"1","op_data":{"name":"b"},"previous_values":{"name":"a"},"metadata":"m"}`},
		{"IDInTheData", `{"op_id":9,"op":"PATCH","table":"lists","data":{"name":"b","id":"1"},"old":{"name":"a"},"metadata":"m"}`},
		{"IDFirstInTheData", `{"op_id":9,"op":"PATCH","table":"lists","data":{"\u0069d":"\u0031","name":"b"},"old":{"name":"a"},"metadata":"m"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{`{"transactions":[{"tx_id":7,"crud":[` + test.operation + `]}]}`, `{"tx_id":7,"crud":[` + test.operation + `]}`, `{"batch":[` + test.operation + `],"transactionId":7}`} {
				batch, err := upload.DecodeBatch([]byte(body))
				require.NoError(t, err)
				require.Equal(t, []upload.Transaction{{ID: "7", Operations: []upload.Operation{want}}}, batch.Transactions, body)
			}
			batch, err := upload.DecodeOperation([]byte(test.operation), upload.Patch)
			require.NoError(t, err)
			require.Equal(t, []upload.Transaction{{Operations: []upload.Operation{want}}}, batch.Transactions, "its other pieces come with other requests")
		})
	}
}

// TestLists has the bodies that are a list of operations, and the transactions they are.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		want       []string // of each transaction: its id, and the ids of its rows
	}{
		{"WithoutIDs", `{"batch":[{"op":"PUT","table":"t","id":"a"},{"op":"PUT","table":"t","id":"b"}]}`, []string{":ab"}},
		{"Empty", `{"batch":[]}`, []string{":"}},
		{"ByteOrderMark", "\ufeff" + `{"batch":[]}`, []string{":"}},
		{"OneTransaction", `{"batch":[{"op":"PUT","table":"t","id":"a","tx_id":7},{"op":"PUT","table":"t","id":"b","tx_id":7.0}]}`, []string{"7:ab"}},
		{"SeveralTransactions", `{"batch":[{"op":"PUT","table":"t","id":"a","tx_id":7},{"op":"PUT","table":"t","id":"b","tx_id":8},{"op":"PUT","table":"t","id":"c","tx_id":8}]}`, []string{"7:a", "8:bc"}},
		{"PiecesOfOne", `{"batch":[{"op":"PUT","table":"t","id":"a","tx_id":7},{"op":"PUT","table":"t","id":"b","tx_id":8},{"op":"PUT","table":"t","id":"c","tx_id":7},{"op":"PUT","table":"t","id":"d","tx_id":8}]}`, []string{"7:ac", "8:bd"}},
		{"SomeWithoutIDs", `{"batch":[{"op":"PUT","table":"t","id":"a"},{"op":"PUT","table":"t","id":"b","tx_id":8},{"op":"PUT","table":"t","id":"c","tx_id":null},{"op":"PUT","table":"t","id":"d"}]}`, []string{":a", "8:b", ":cd"}},
		{"NamedByTheBody", `{"crud":[{"op":"PUT","table":"t","id":"a","tx_id":7},{"op":"PUT","table":"t","id":"b","tx_id":8}],"transaction_id":9}`, []string{"9:ab"}},
		{"SDKsTransaction", `{"crud":[{"op_id":1,"op":"PUT","type":"t","id":"a","tx_id":7}],"haveMore":false,"transactionId":7}`, []string{"7:a"}},
		{"SDKsBatch", `{"crud":[{"op_id":1,"op":"PUT","type":"t","id":"a","tx_id":7},{"op_id":2,"op":"PUT","type":"t","id":"b","tx_id":8}],"haveMore":true}`, []string{"7:a", "8:b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			batch, err := upload.DecodeBatch([]byte(test.body))
			require.NoError(t, err)
			require.True(t, batch.StatusOnly)
			var got []string
			for _, transaction := range batch.Transactions {
				text := transaction.ID + ":"
				for _, op := range transaction.Operations {
					text += op.ID
				}
				got = append(got, text)
			}
			require.Equal(t, test.want, got)
		})
	}

	t.Run("Device", func(t *testing.T) {
		t.Parallel()
		batch, err := upload.DecodeBatch([]byte(`{"client_id":"phone","user_id":"alice","batch":[{"op":"DELETE","table":"t","id":"a","client_id":3}]}`))
		require.NoError(t, err)
		require.Equal(t, "phone", batch.ClientID)
		require.Equal(t, "alice", batch.UserID)
		require.Equal(t, "3", batch.Transactions[0].Operations[0].OpID)
	})

	t.Run("Limit", func(t *testing.T) {
		t.Parallel()
		body := []byte(`{"batch":[{"op":"PUT","table":"t","id":"a","data":{"j":{"k":{"l":{}}}}},{"op":"DELETE","table":"t","id":"a"}]}`)
		_, err := upload.DecodeBatchWithin(body, 2)
		require.NoError(t, err)
		_, err = upload.DecodeBatchWithin(body, 1)
		require.ErrorAs(t, err, new(*upload.TooMany))
	})
}

// TestObjectsBesideAList has a body of a megabyte that is an empty list. What stands beside
// it takes no memory.
func TestObjectsBesideAList(t *testing.T) {
	t.Parallel()
	body := []byte(`{"batch":[],"x":[` + strings.Repeat("{},", 350_000) + `{}]}`)
	batch, err := upload.DecodeBatchWithin(body, 1)
	require.NoError(t, err)
	require.Zero(t, cap(batch.Transactions[0].Operations))
}

// TestOlderSpellings has each spelling that the refusal of an unknown member names.
func TestOlderSpellings(t *testing.T) {
	t.Parallel()
	_, err := upload.DecodeBatch([]byte(`{"batch":[{"values":{}}]}`))
	require.Error(t, err)
	_, list, _ := strings.Cut(err.Error(), "those are ")
	names := strings.FieldsFunc(strings.NewReplacer(" or ", ",", " and ", ",", " ", "").Replace(list), func(r rune) bool { return r == ',' })
	require.Len(t, names, 17)
	for _, name := range names {
		_, err := upload.DecodeBatch([]byte(`{"batch":[{"` + name + `":null}]}`))
		require.ErrorContains(t, err, "is required: send a string", name)
	}
}

// TestOlderRefuses lists older bodies that are refused.
func TestOlderRefuses(t *testing.T) {
	t.Parallel()
	const put1 = `{"op":"PUT","table":"t","id":"1"`
	for _, test := range []struct {
		name, body string
		method     upload.Op // empty for POST
		want       string
	}{
		{"TwoForms", `{"transactions":[{"crud":[]}],"batch":[]}`, "", "batch: is sent together with transactions: send one of them"},
		{"TwoFormsReversed", `{"crud":[],"transactions":[{"crud":[]}]}`, "", "transactions: is sent together with crud: send one of them"},
		{"TwoLists", `{"crud":[],"batch":[]}`, "", "batch: is sent together with crud: send one of them"},
		{"TwoTransactionIDs", `{"crud":[],"tx_id":1,"transactionId":1}`, "", "transactionId: is sent together with tx_id: send one of them"},
		{"BatchTwice", `{"batch":[],"batch":[]}`, "", "batch: appears twice in the same object"},
		{"BatchObject", `{"batch":{}}`, "", "batch: must be an array, not an object"},
		{"BatchNull", `{"batch":null}`, "", "batch: is required: send an array of operations, which may be empty"},
		{"BatchInCapitals", `{"Batch":[]}`, "", "Batch: is not known here: send it as batch"},
		{"UnknownMember", `{"batch":[` + put1 + `,"values":{}}]}`, "", "batch[0].values: is not a member of an operation: those are id, op, table or type, op_data, data or opData, "},
		{"TwoSpellings", `{"crud":[` + put1 + `},` + put1 + `,"type":"t"}]}`, "", "crud[1].type: is sent together with table: send one of them"},
		{"NoID", `{"batch":[{"op":"PUT","table":"t"}]}`, "", "batch[0].id: is required: send a string"},
		{"NoOp", `{"batch":[{"table":"t","id":"1"}]}`, "", "batch[0].op: is required: send a string"},
		{"AnOperation", `{"table":"t","data":{"id":"1"}}`, "", "transactions: is required"},

		{"SingleEmpty", ``, upload.Put, "the body is empty"},
		{"SingleNotJSON", `x=1`, upload.Put, "invalid character 'x' at start of value"},
		{"SingleArray", `[]`, upload.Put, "the body must be an object, not an array"},
		{"SingleTruncated", `{"table":"t","data":{"id":"1"`, upload.Put, "data: unexpected EOF"},
		{"SingleTrailing", `{"table":"t","id":"1"}{}`, upload.Put, "the body must be one object, and something follows it"},
		{"SingleNoTable", `{"data":{"id":"1"}}`, upload.Put, "table: is required: send a string"},
		{"SingleNoID", `{"table":"t","data":{}}`, upload.Patch, "id: is required: send a string"},
		{"SingleIDNumber", `{"table":"t","data":{"id":1}}`, upload.Patch, "data.id: must be a string, not a number"},
		{"SingleOfAnotherMethod", `{"op":"PUT","table":"t","data":{"id":"1"}}`, upload.Delete, "op: must be DELETE, as the request's method, not PUT"},
		{"SingleUnknownMember", `{"table":"t","id":"1","values":{}}`, upload.Put, "values: is not a member of an operation: those are id, op, table or type, op_data, data or opData, "},
		{"SingleTwoSpellings", `{"table":"t","id":"1","data":{},"op_data":{}}`, upload.Put, "op_data: is sent together with data: send one of them"},
		{"SingleBatch", `{"batch":[]}`, upload.Put, "batch: is not a member of an operation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			batch, err := upload.DecodeBatch([]byte(test.body))
			if test.method != "" {
				batch, err = upload.DecodeOperation([]byte(test.body), test.method)
			}
			require.Zero(t, batch)
			require.ErrorAs(t, err, new(*upload.Malformed))
			require.Equal(t, test.want, err.Error()[:min(len(test.want), len(err.Error()))])
		})
	}
}

// TestUnreadableInAList has a list of three transactions. The second is at fault by itself.
func TestUnreadableInAList(t *testing.T) {
	t.Parallel()
	batch, err := upload.DecodeBatch([]byte(`{"batch":[{"op":"PUT","table":"t","id":"a","tx_id":1,"data":{"x":1}},{"op":"PUT","table":"t","id":"b","tx_id":2},
		{"op":"PUT","table":"t","id":"c","tx_id":2,"data":{"x":"` + "\xff" + `"}}, {"op":"PUT","table":"t","id":"d","tx_id":1,"data":{"x":2}},{"op":"DELETE","table":"t","id":"e","tx_id":3}]}`))
	require.NoError(t, err)
	require.Len(t, batch.Transactions, 3)
	first, second, third := batch.Transactions[0], batch.Transactions[1], batch.Transactions[2]
	require.Equal(t, "1", first.ID)
	require.Nil(t, first.Unreadable)
	require.Len(t, first.Operations, 2)
	require.Equal(t, jsontext.Value("2"), first.Operations[1].Data[0].Value)
	require.Equal(t, "2", second.ID)
	require.Equal(t, 1, second.Unreadable.Rejection.Operation)
	require.Contains(t, second.Unreadable.Rejection.Message, "crud[1].data.x: invalid UTF-8")
	require.Equal(t, "{\"crud\":[{\"op\":\"PUT\",\"table\":\"t\",\"id\":\"b\",\"tx_id\":2},{\"op\":\"PUT\",\"table\":\"t\",\"id\":\"c\",\"tx_id\":2,\"data\":{\"x\":\"\xff\"}}]}", string(second.Unreadable.Sent))
	require.Equal(t, "3", third.ID)
	require.Nil(t, third.Unreadable)
}

// TestOlderUnreadable has older bodies that are at fault by themselves.
func TestOlderUnreadable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		method     upload.Op
		message    string
		operation  int
	}{
		{"Batch", `{"batch":[{"op":"DELETE","table":"t","id":"0"},{"op":"PUT","table":"t","data":{"a":"\ud800","id":"1"}}]}`, "", "batch[1].data.a: invalid surrogate pair", 1},
		{"Crud", `{"transaction_id":1.5,"crud":[{"op":"PUT","table":"t","data":{"id":"1"}}]}`, "", "transaction_id: must be an integer", -1},
		{"ColumnTwice", `{"crud":[{"op":"PUT","type":"t","data":{"id":"1","a":1,"a":2}}]}`, "", "crud[0].data.a: appears twice", 0},
		{"Single", `{"table":"t","data":{"a":"\ud800","id":"1"}}`, upload.Put, "data.a: invalid surrogate pair", 0},
		{"SingleMemberTwice", `{"table":"t","table":"t","data":{"id":"1"}}`, upload.Patch, "table: appears twice", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			batch, err := upload.DecodeBatch([]byte(test.body))
			if test.method != "" {
				batch, err = upload.DecodeOperation([]byte(test.body), test.method)
			}
			require.NoError(t, err)
			require.True(t, batch.StatusOnly)
			require.Len(t, batch.Transactions, 1)
			got := batch.Transactions[0]
			require.Equal(t, test.body, string(got.Unreadable.Sent))
			require.Contains(t, got.Unreadable.Rejection.Message, test.message)
			require.Equal(t, test.operation, got.Unreadable.Rejection.Operation)
			last := got.Operations[len(got.Operations)-1]
			require.Equal(t, "1", last.ID)
			require.Nil(t, last.Data)
		})
	}
}

// BenchmarkLists decodes lists in which each operation is a transaction, and one is
// unreadable; ns/operation says whether the time grows faster than the body.
func BenchmarkLists(b *testing.B) {
	for _, operations := range []int{100, 1_000, 10_000, 100_000} {
		list := []string{`{"op_id":0,"id":"\ud800","op":"PUT","type":"lists","tx_id":0}`}
		for i := range operations {
			list = append(list, fmt.Sprintf(`{"op_id":%[1]d,"id":"%[1]d","op":"PUT","type":"lists","tx_id":%[1]d,"data":{"name":"Groceries"}}`, i+1))
		}
		body := []byte(`{"batch":[` + strings.Join(list, ",") + `]}`)
		b.Run(strconv.Itoa(operations), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := upload.DecodeBatch(body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*operations), "ns/operation")
		})
	}
}
