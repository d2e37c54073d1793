package upload_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// one is a body with a single operation, which has these members.
func one(members string) string { return `{"transactions":[{"crud":[{` + members + `}]}]}` }

// TestDecodeBatch lists the spellings that are accepted, and what they become.
func TestDecodeBatch(t *testing.T) {
	t.Parallel()
	put := func(change func(*upload.Operation)) upload.Batch {
		op := upload.Operation{Op: upload.Put, Table: "t", ID: "1"}
		change(&op)
		return upload.Batch{Transactions: []upload.Transaction{{Operations: []upload.Operation{op}}}}
	}
	data := func(members ...upload.Member) upload.Batch {
		return put(func(op *upload.Operation) { op.Data = members })
	}
	member := func(name, value string) upload.Member {
		return upload.Member{Name: name, Value: jsontext.Value(value)}
	}
	same := func(*upload.Operation) {}
	empty := upload.Batch{Transactions: []upload.Transaction{{Operations: []upload.Operation{}}}}
	const put1 = `"id":"1","op":"PUT","table":"t"`

	for _, test := range []struct {
		name, body string
		want       upload.Batch
	}{
		{"NoOperations", `{"transactions":[{"crud":[]}]}`, empty},
		{"SpaceAround", " \r\n\t{ \"transactions\" : [ { \"crud\" : [ ] } ] } \n", empty},
		{"EscapedMember", `{"transactions":[{"\u0063rud":[]}]}`, empty},
		{"NullClientID", `{"client_id":null,"transactions":[{"crud":[]}]}`, empty},
		{"NullTransactionID", `{"transactions":[{"transaction_id":null,"crud":[]}]}`, empty},
		{"UnknownMembers", `{"a":1,"transactions":[{"b":{"c":[]},"crud":[]}]}`, empty},
		{"UnknownMembersOfAnOperation", one(put1 + `,"kind":"t"`), put(same)},
		{"MembersOfAnyCaseAreUnknown", `{"Transactions":1,"transactions":[{"Crud":1,"crud":[]}]}`, empty},
		{"UserID", `{"user_id":"alice","transactions":[{"crud":[]}]}`, upload.Batch{UserID: "alice", Transactions: empty.Transactions}},
		{"ClientID", `{"client_id":"é","transactions":[{"crud":[]}]}`, upload.Batch{ClientID: "é", Transactions: empty.Transactions}},
		{"SeveralTransactions", `{"transactions":[{"transaction_id":2,"crud":[]},{"transaction_id":1,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "2", Operations: []upload.Operation{}}, {ID: "1", Operations: []upload.Operation{}}},
		}},
		{"LargestTransactionID", `{"transactions":[{"transaction_id":9223372036854775807,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "9223372036854775807", Operations: []upload.Operation{}}},
		}},
		{"SmallestTransactionID", `{"transactions":[{"transaction_id":-9223372036854775808,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "-9223372036854775808", Operations: []upload.Operation{}}},
		}},
		{"NegativeZero", `{"transactions":[{"transaction_id":-0,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "0", Operations: []upload.Operation{}}},
		}},
		{"Put", one(put1), put(same)},
		{"Patch", one(`"id":"1","op":"PATCH","table":"t"`), put(func(op *upload.Operation) { op.Op = upload.Patch })},
		{"Delete", one(`"id":"1","op":"DELETE","table":"t"`), put(func(op *upload.Operation) { op.Op = upload.Delete })},
		{"OpID", one(put1 + `,"op_id":9`), put(func(op *upload.Operation) { op.OpID = "9" })},
		{"TransactionIDOfAnOperation", one(put1 + `,"transaction_id":7`), put(same)},
		{"Nulls", one(put1 + `,"op_id":null,"transaction_id":null,"op_data":null,"previous_values":null,"metadata":null`), put(same)},
		{"EmptyTexts", one(`"id":"","op":"PUT","table":"","metadata":""`), put(func(op *upload.Operation) { op.ID, op.Table = "", "" })},
		{"NULInTexts", one(`"id":"\u0000","op":"PUT","table":"t"`), put(func(op *upload.Operation) { op.ID = "\x00" })},
		{"Metadata", one(put1 + `,"metadata":"{}"`), put(func(op *upload.Operation) { op.Metadata = "{}" })},
		{"NoColumns", one(put1 + `,"op_data":{}`), data([]upload.Member{}...)},
		{"PreviousValues", one(put1 + `,"previous_values":{"a":1}`), put(func(op *upload.Operation) { op.Previous = []upload.Member{member("a", "1")} })},
		{"ColumnsInOrder", one(put1 + `,"op_data":{"b":1,"a":2,"":3}`), data(member("b", "1"), member("a", "2"), member("", "3"))},
		{"EscapedColumn", one(put1 + `,"op_data":{"\u0061":1}`), data(member("a", "1"))},
		{"NumbersAsSpelled", one(put1 + `,"op_data":{"a":9007199254740993,"b":1.10,"c":-0,"d":1E400}`), data(member("a", "9007199254740993"), member("b", "1.10"), member("c", "-0"), member("d", "1E400"))},
		{"TextsAsSpelled", one(put1 + `,"op_data":{"a":"\u0041\u0000"}`), data(member("a", `"\u0041\u0000"`))},
		{"OtherValuesAsSpelled", one(put1 + `,"op_data":{"a":null,"b":true,"c":{"x": [1 ,2]}}`), data(member("a", "null"), member("b", "true"), member("c", `{"x": [1 ,2]}`))},
		{"Deepest", one(put1 + `,"op_data":{"a":` + strings.Repeat("[", 58) + strings.Repeat("]", 58) + `}`), data(member("a", strings.Repeat("[", 58)+strings.Repeat("]", 58)))},
		{"BracketsInTexts", one(put1 + `,"op_data":{"a":"` + strings.Repeat(`[{\"`, 100) + `"}`), data(member("a", `"`+strings.Repeat(`[{\"`, 100)+`"`))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := upload.DecodeBatch([]byte(test.body))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}

	t.Run("MostTransactions", func(t *testing.T) {
		t.Parallel()
		batch, err := upload.DecodeBatch([]byte(`{"transactions":[` + strings.Repeat(`{"crud":[]},`, 49) + `{"crud":[]}]}`))
		require.NoError(t, err)
		require.Len(t, batch.Transactions, upload.MaxTransactions)
	})
}

// TestDecodeBatchRefuses lists the bodies that are refused, with the path and the
// beginning of the problem.
func TestDecodeBatchRefuses(t *testing.T) {
	t.Parallel()
	const (
		op   = "transactions[0].crud[0]"
		put1 = `"id":"1","op":"PUT","table":"t"`
	)
	for _, test := range []struct{ name, body, path, problem string }{
		{"Empty", ``, "", "unexpected EOF (byte 0 of the body)"},
		{"NotJSON", `crud=[]`, "", "invalid character 'c' at start of value"},
		{"ByteOrderMark", "\ufeff" + `{"transactions":[{"crud":[]}]}`, "", `invalid character '\ufeff' at start of value`},
		{"Null", `null`, "", "the body must be an object, not null"},
		{"Array", `[]`, "", "the body must be an object, not an array"},
		{"Text", `"x"`, "", "the body must be an object, not a string"},
		{"Number", `1`, "", "the body must be an object, not a number"},
		{"Trailing", `{"transactions":[{"crud":[]}]}{}`, "", "invalid character '{' after top-level value"},

		{"ClientIDNumber", `{"client_id":1,"transactions":[{"crud":[]}]}`, "client_id", "must be a string, not a number"},
		{"ClientIDWithNUL", `{"client_id":"a\u0000","transactions":[{"crud":[]}]}`, "client_id", "must not contain U+0000"},
		{"NoTransactions", `{}`, "transactions", "is required"},
		{"TransactionsInCapitals", `{"Transactions":[{"crud":[]}]}`, "transactions", "is required"},
		{"NullTransactions", `{"transactions":null}`, "transactions", "is required"},
		{"TransactionsObject", `{"transactions":{}}`, "transactions", "must be an array, not an object"},
		{"TransactionsEmpty", `{"transactions":[]}`, "transactions", "must hold 1 to 50 transactions, not 0"},
		{"TooManyTransactions", `{"transactions":[` + strings.Repeat(`{"crud":[]},`, 50) + `{"crud":[]}]}`, "transactions", "must hold 1 to 50 transactions, not 51"},
		{"TransactionNumber", `{"transactions":[{"crud":[]},1]}`, "transactions[1]", "must be an object, not a number"},
		{"TransactionNull", `{"transactions":[null]}`, "transactions[0].crud", "is required"},
		{"TransactionIDFraction", `{"transactions":[{"transaction_id":1.5,"crud":[]}]}`, "transactions[0].transaction_id", `must be an integer, not "1.5"`},
		{"TransactionIDExponent", `{"transactions":[{"transaction_id":1e0,"crud":[]}]}`, "transactions[0].transaction_id", `must be an integer, not "1e0"`},
		{"TransactionIDTooLarge", `{"transactions":[{"transaction_id":9223372036854775808,"crud":[]}]}`, "transactions[0].transaction_id", `must be an integer, not "9223372036854775808"`},
		{"TransactionIDText", `{"transactions":[{"transaction_id":"1","crud":[]}]}`, "transactions[0].transaction_id", "must be an integer, not a string"},
		{"TransactionIDBoolean", `{"transactions":[{"transaction_id":true,"crud":[]}]}`, "transactions[0].transaction_id", "must be an integer, not a boolean"},
		{"NoCrud", `{"transactions":[{}]}`, "transactions[0].crud", "is required"},
		{"CrudNull", `{"transactions":[{"crud":null}]}`, "transactions[0].crud", "is required"},
		{"CrudText", `{"transactions":[{"crud":"x"}]}`, "transactions[0].crud", "must be an array, not a string"},

		{"OperationArray", `{"transactions":[{"crud":[[]]}]}`, op, "must be an object, not an array"},
		{"OperationNull", `{"transactions":[{"crud":[null]}]}`, op + ".id", "is required"},
		{"NoID", `{"transactions":[{"crud":[]},{"crud":[{"op":"PUT","table":"t"}]}]}`, "transactions[1].crud[0].id", "is required: send a string"},
		{"IDNull", one(`"id":null,"op":"PUT","table":"t"`), op + ".id", "is required: send a string"},
		{"IDNumber", one(`"id":1,"op":"PUT","table":"t"`), op + ".id", "must be a string, not a number"},
		{"NoOp", one(`"id":"1","table":"t"`), op + ".op", "is required: send a string"},
		{"OpNumber", one(`"id":"1","op":1,"table":"t"`), op + ".op", "must be a string, not a number"},
		{"OpUnknown", one(`"id":"1","op":"put","table":"t"`), op + ".op", `must be PUT, PATCH or DELETE, not "put"`},
		{"OpLong", one(`"id":"1","op":"` + strings.Repeat("é", 50) + `","table":"t"`), op + ".op", `must be PUT, PATCH or DELETE, not "` + strings.Repeat("é", 40) + `…"`},
		{"SDKType", one(`"id":"1","op":"PUT","type":"t"`), op + ".type", "is not a member of the write API: send it as table"},
		{"SDKData", one(`"id":"1","op":"PUT","table":"t","data":{"a":1}`), op + ".data", "is not a member of the write API: send it as op_data"},
		{"SDKOpData", one(`"id":"1","op":"PUT","table":"t","opData":{"a":1}`), op + ".opData", "is not a member of the write API: send it as op_data"},
		{"SDKOld", one(`"id":"1","op":"PATCH","table":"t","old":{"a":1}`), op + ".old", "is not a member of the write API: send it as previous_values"},
		{"SDKPreviousValues", one(`"id":"1","op":"PATCH","table":"t","previousValues":{"a":1}`), op + ".previousValues", "is not a member of the write API: send it as previous_values"},
		{"NoTable", one(`"id":"1","op":"PUT"`), op + ".table", "is required: send a string"},
		{"TableObject", one(`"id":"1","op":"PUT","table":{}`), op + ".table", "must be a string, not an object"},
		{"OpIDText", one(put1 + `,"op_id":"1"`), op + ".op_id", "must be an integer, not a string"},
		{"OpIDFraction", one(put1 + `,"op_id":1.5`), op + ".op_id", `must be an integer, not "1.5"`},
		{"TransactionIDOfAnOperationText", one(put1 + `,"transaction_id":"x"`), op + ".transaction_id", "must be an integer, not a string"},
		{"MetadataObject", one(put1 + `,"metadata":{}`), op + ".metadata", "must be a string, not an object"},
		{"DataArray", one(put1 + `,"op_data":[1]`), op + ".op_data", "must be an object, not an array"},
		{"DataText", one(put1 + `,"op_data":"{}"`), op + ".op_data", "must be an object, not a string"},
		{"PreviousBoolean", one(put1 + `,"previous_values":true`), op + ".previous_values", "must be an object, not a boolean"},

		{"MemberTwice", one(`"id":"1",` + put1), op + ".id", "appears twice in the same object (byte "},
		{"MemberTwiceOnceEscaped", one(`"\u0069d":"1",` + put1), op + ".id", "appears twice in the same object"},
		{"UnknownMemberTwice", `{"transactions":[{"crud":[]}],"x":{"a":1,"a":2}}`, "x.a", "appears twice in the same object"},
		{"ColumnTwice", one(put1 + `,"op_data":{"a":1,"a":2}`), op + ".op_data.a", "appears twice in the same object"},
		{"PreviousColumnTwice", one(put1 + `,"previous_values":{"a":1,"a":2}`), op + ".previous_values.a", "appears twice in the same object"},
		{"MemberOfAValueTwice", one(put1 + `,"op_data":{"j":[{"x":1,"x":1}]}`), op + ".op_data.j[0].x", "appears twice in the same object"},
		{"InvalidUTF8", one("\"id\":\"\xff\",\"op\":\"PUT\",\"table\":\"t\""), op + ".id", "invalid UTF-8"},
		{"LoneSurrogate", one(put1 + `,"op_data":{"a":"\ud800"}`), op + ".op_data.a", "invalid surrogate pair"},
		{"ValueNotANumber", one(put1 + `,"op_data":{"a":NaN}`), op + ".op_data.a", "invalid character 'N' at start of value"},
		{"LeadingZero", one(put1 + `,"op_data":{"a":01}`), op + ".op_data", "invalid character '1' after object value"},
		{"Truncated", `{"transactions":[{"crud":[{"id":"1"`, op, "unexpected EOF"},
		{"TooDeep", one(put1 + `,"op_data":{"a":` + strings.Repeat("[", 59) + strings.Repeat("]", 59) + `}`), op + ".op_data.a", "arrays and objects nest deeper than 64 levels"},
		{"NothingButDepth", strings.Repeat("[", 1<<20), "[0][0][0][0][0][0]", "arrays and objects nest deeper than 64 levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			batch, err := upload.DecodeBatch([]byte(test.body))
			require.Zero(t, batch)
			var malformed *upload.Malformed
			require.ErrorAs(t, err, &malformed)
			require.Equal(t, test.path, malformed.Path, err.Error())
			require.Equal(t, test.problem, malformed.Problem[:min(len(test.problem), len(malformed.Problem))])
			require.Equal(t, strings.TrimPrefix(malformed.Path+": "+malformed.Problem, ": "), err.Error())
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
		operations := 0
		for _, transaction := range batch.Transactions {
			operations += len(transaction.Operations)
		}
		_, err = upload.DecodeBatchWithin(body, operations)
		require.NoError(t, err)
		_, err = upload.DecodeBatchWithin(body, operations-1)
		require.Error(t, err)
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
