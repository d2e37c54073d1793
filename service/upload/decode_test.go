package upload_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

func TestDecodeBatch(t *testing.T) {
	t.Parallel()

	t.Run("Whole", func(t *testing.T) {
		t.Parallel()
		batch, err := upload.DecodeBatch([]byte(`{"client_id":"c","transactions":[
			{"transaction_id":7,"crud":[
				{"op_id":9,"id":"a","op":"PUT","table":"lists","transaction_id":7,"op_data":{"n":9007199254740993,"s":"x","j":{"a":[1]}},"metadata":"why"},
				{"id":"","op":"PATCH","table":"lists","op_data":{"s":null},"previous_values":{"s":"x"}},
				{"id":"b","op":"DELETE","table":"lists","op_data":null}]},
			{"crud":[],"transaction_id":null,"later":{"members":"are ignored"}}]}`))
		require.NoError(t, err)
		require.Equal(t, "c", batch.ClientID)
		require.Len(t, batch.Transactions, 2)
		first := batch.Transactions[0]
		require.Equal(t, "7", first.ID)
		require.Equal(t, "9", first.Operations[0].OpID)
		require.Equal(t, "9007199254740993", string(first.Operations[0].Data[0].Value))
		require.Equal(t, `{"a":[1]}`, string(first.Operations[0].Data[2].Value))
		require.Equal(t, "why", first.Operations[0].Metadata)
		require.Equal(t, "null", string(first.Operations[1].Data[0].Value))
		require.Equal(t, `"x"`, string(first.Operations[1].Previous[0].Value))
		require.Nil(t, first.Operations[2].Data)
		require.Empty(t, batch.Transactions[1].ID)
		require.Empty(t, batch.Transactions[1].Operations)
	})

	for _, test := range []struct{ name, body, want string }{
		{"Empty", ``, "unexpected EOF"},
		{"NotJSON", `transactions=1`, "invalid character"},
		{"Null", `null`, "the body must be an object, not null"},
		{"Array", `[]`, "must be an object, not an array"},
		{"NoTransactions", `{}`, "transactions: is required"},
		{"NullTransactions", `{"transactions":null}`, "transactions: is required"},
		{"TransactionsObject", `{"transactions":{}}`, "transactions: must be an array, not an object"},
		{"None", `{"transactions":[]}`, "transactions: must hold 1 to 50 transactions, not 0"},
		{"TooMany", `{"transactions":[` + strings.Repeat(`{"crud":[]},`, 50) + `{"crud":[]}]}`, "not 51"},
		{"NoCrud", `{"transactions":[{}]}`, "transactions[0].crud: is required"},
		{"CrudString", `{"transactions":[{"crud":"x"}]}`, "transactions[0].crud: must be an array, not a string"},
		{"NoID", `{"transactions":[{"crud":[]},{"crud":[{"op":"PUT","table":"t"}]}]}`, "transactions[1].crud[0].id: is required"},
		{"NumericID", `{"transactions":[{"crud":[{"id":1,"op":"PUT","table":"t"}]}]}`, "transactions[0].crud[0].id: must be a string, not a number"},
		{"NoOp", `{"transactions":[{"crud":[{"id":"1","table":"t"}]}]}`, "transactions[0].crud[0].op: is required"},
		{"UnknownOp", `{"transactions":[{"crud":[{"id":"1","op":"put","table":"t"}]}]}`, `transactions[0].crud[0].op: must be PUT, PATCH or DELETE, not "put"`},
		{"NoTable", `{"transactions":[{"crud":[{"id":"1","op":"PUT"}]}]}`, "transactions[0].crud[0].table: is required"},
		{"DataArray", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"t","op_data":[1]}]}]}`, "transactions[0].crud[0].op_data: must be an object, not an array"},
		{"FractionalTransactionID", `{"transactions":[{"transaction_id":1.5,"crud":[]}]}`, `transactions[0].transaction_id: must be an integer, not "1.5"`},
		{"HugeTransactionID", `{"transactions":[{"transaction_id":9223372036854775808,"crud":[]}]}`, "transactions[0].transaction_id: must be an integer"},
		{"MetadataObject", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"t","metadata":{}}]}]}`, "transactions[0].crud[0].metadata: must be a string, not an object"},
		{"DuplicateKey", `{"transactions":[{"crud":[{"id":"1","id":"2","op":"PUT","table":"t"}]}]}`, "transactions[0].crud[0].id: appears twice"},
		{"DuplicateColumn", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"t","op_data":{"a":1,"a":2}}]}]}`, "transactions[0].crud[0].op_data.a: appears twice"},
		{"InvalidUTF8", "{\"transactions\":[{\"crud\":[{\"id\":\"\xff\",\"op\":\"PUT\",\"table\":\"t\"}]}]}", "transactions[0].crud[0].id: invalid UTF-8"},
		{"LoneSurrogate", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"t","op_data":{"a":"\ud800"}}]}]}`, "transactions[0].crud[0].op_data.a: "},
		{"Trailing", `{"transactions":[{"crud":[]}]}{}`, "after top-level value"},
		{"Truncated", `{"transactions":[{"crud":[{"id":"1"`, "transactions[0].crud[0]"},
		{"Deep", `{"transactions":[{"crud":[{"id":"1","op":"PUT","table":"t","op_data":{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}]}]}`, "transactions[0].crud[0].op_data.a"},
		{"ClientIDWithNUL", `{"client_id":"a\u0000","transactions":[{"crud":[]}]}`, "client_id: must not contain U+0000"},
		{"Deepest", strings.Repeat("[", 1<<20), "nest deeper than 64 levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := upload.DecodeBatch([]byte(test.body))
			var malformed *upload.Malformed
			require.ErrorAs(t, err, &malformed)
			require.Contains(t, err.Error(), test.want)
		})
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"transactions":[{"transaction_id":1,"crud":[{"op_id":1,"id":"a","op":"PUT","table":"lists","op_data":{"n":1e5,"j":{"a":[1]}}}]}]}`))
	f.Add([]byte(`{"client_id":null,"transactions":[{"crud":[{"id":"a","op":"DELETE","table":"lists"}]}]}`))
	f.Add([]byte(`{"transactions":[{"crud":[{"id":"\u0000","op":"PATCH","table":"","op_data":{"":null}}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		batch, err := upload.DecodeBatch(body)
		if err != nil {
			var malformed *upload.Malformed
			require.ErrorAs(t, err, &malformed)
			return
		}
		require.NotEmpty(t, batch.Transactions)
		require.LessOrEqual(t, len(batch.Transactions), upload.MaxTransactions)
		for _, transaction := range batch.Transactions {
			for _, op := range transaction.Operations {
				require.Contains(t, []upload.Op{upload.Put, upload.Patch, upload.Delete}, op.Op)
				for _, member := range op.Data {
					require.True(t, member.Value.IsValid(), "%s", member.Value)
				}
			}
		}
	})
}

func BenchmarkDecodeBatch(b *testing.B) {
	for _, operations := range []int{1, 100, 1000} {
		var crud []string
		for i := range operations {
			crud = append(crud, fmt.Sprintf(`{"op_id":%d,"id":"%d","op":"PUT","table":"lists","op_data":{"name":"Groceries","n":%d}}`, i, i, i))
		}
		body := []byte(`{"transactions":[{"transaction_id":1,"crud":[` + strings.Join(crud, ",") + `]}]}`)
		b.Run(fmt.Sprint(operations), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := upload.DecodeBatch(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
