package ledger

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

func column(name, value string) upload.Member {
	return upload.Member{Name: name, Value: jsontext.Value(value)}
}

// TestTransactionRoundTrip encodes transactions as rejected_writes stores them, and
// decodes them again.
func TestTransactionRoundTrip(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		transaction upload.Transaction
		stored      string
	}{
		{"Empty", upload.Transaction{Operations: []upload.Operation{}}, `{"crud":[]}`},
		{
			"EverythingSet",
			upload.Transaction{ID: "7", Operations: []upload.Operation{{
				OpID: "9", Op: upload.Patch, Table: "lists", ID: "a", Metadata: "note",
				Data: []upload.Member{column("name", `"x"`)}, Previous: []upload.Member{column("name", `"y"`)},
			}}},
			`{"transaction_id":7,"crud":[{"op_id":9,"id":"a","op":"PATCH","table":"lists","op_data":{"name":"x"},"previous_values":{"name":"y"},"metadata":"note"}]}`,
		},
		{
			"NothingSet",
			upload.Transaction{Operations: []upload.Operation{{Op: upload.Delete}}},
			`{"crud":[{"id":"","op":"DELETE","table":""}]}`,
		},
		{
			"NoColumns",
			upload.Transaction{Operations: []upload.Operation{{Op: upload.Put, Table: "lists", ID: "a", Data: []upload.Member{}}}},
			`{"crud":[{"id":"a","op":"PUT","table":"lists","op_data":{}}]}`,
		},
		{
			"LargestIDs",
			upload.Transaction{ID: "9223372036854775807", Operations: []upload.Operation{{OpID: "-9223372036854775808", Op: upload.Delete, ID: "a"}}},
			`{"transaction_id":9223372036854775807,"crud":[{"op_id":-9223372036854775808,"id":"a","op":"DELETE","table":""}]}`,
		},
		{
			"ValuesAsSpelled",
			upload.Transaction{Operations: []upload.Operation{{Op: upload.Put, ID: "a", Data: []upload.Member{
				column("integer", `9007199254740993`), column("decimal", `1.10`), column("exponent", `1E2`), column("null", `null`),
				column("escaped", `"A\u0000"`), column("nested", `{"b":[1,{"a":true}],"a":"","a":1}`),
			}}}},
			`{"crud":[{"id":"a","op":"PUT","table":"","op_data":{"integer":9007199254740993,"decimal":1.10,"exponent":1E2,"null":null,"escaped":"A\u0000","nested":{"b":[1,{"a":true}],"a":"","a":1}}}]}`,
		},
		{
			"TextsThatNeedEscapes",
			upload.Transaction{Operations: []upload.Operation{{
				Op: upload.Put, Table: `a"b\`, ID: "\x00\n", Metadata: "é 🙂", Data: []upload.Member{column(`"; drop`, `1`), column("", `2`)},
			}}},
			`{"crud":[{"id":"\u0000\n","op":"PUT","table":"a\"b\\","op_data":{"\"; drop":1,"":2},"metadata":"é 🙂"}]}`,
		},
		{
			"ColumnsAndOperationsInOrder",
			upload.Transaction{Operations: []upload.Operation{
				{Op: upload.Put, ID: "b", Data: []upload.Member{column("z", `1`), column("a", `2`)}},
				{Op: upload.Delete, ID: "b"},
				{Op: upload.Put, ID: "a"},
			}},
			`{"crud":[{"id":"b","op":"PUT","table":"","op_data":{"z":1,"a":2}},{"id":"b","op":"DELETE","table":""},{"id":"a","op":"PUT","table":""}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stored, err := EncodeTransaction(test.transaction)
			require.NoError(t, err)
			require.Equal(t, test.stored, string(stored))
			decoded, err := DecodeTransaction(stored)
			require.NoError(t, err)
			require.Equal(t, test.transaction, decoded)
		})
	}

	t.Run("EscapesThatAreNotNeeded", func(t *testing.T) {
		t.Parallel()
		stored, err := EncodeTransaction(upload.Transaction{Operations: []upload.Operation{{Op: upload.Put, Data: []upload.Member{column("a", `"\u0041"`)}}}})
		require.NoError(t, err)
		require.Equal(t, `{"crud":[{"id":"","op":"PUT","table":"","op_data":{"a":"A"}}]}`, string(stored))
	})

	t.Run("NotATransaction", func(t *testing.T) {
		t.Parallel()
		_, err := DecodeTransaction([]byte(`{}`))
		require.ErrorContains(t, err, "decoding the transaction of a rejected write: transactions[0].crud: is required")
	})
}

func TestRecordDecoded(t *testing.T) {
	t.Parallel()
	for _, identified := range []bool{true, false} {
		sum := [32]byte{1, 2, 3}
		transaction := jsontext.Value(`{"transaction_id":7,"crud":[{"id":"a","op":"DELETE","table":"lists"}]}`)
		digest, decoded, err := Record{Transaction: transaction, digest: sum[:], identified: identified}.Decoded()
		require.NoError(t, err)
		require.Equal(t, Digest{Sum: sum, Receipt: identified}, digest, "the digest is the stored one")
		require.Equal(t, "a", decoded.Operations[0].ID)
	}
}
