package upload_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// one is a body with a single operation, which has these members.
func one(members string) string { return `{"transactions":[{"crud":[{` + members + `}]}]}` }

// columns are n columns of a row.
func columns(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"c%d":%d`, i, i)
	}
	return strings.Join(list, ",")
}

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
		{"MembersOfNewerClients", `{"on_fatal_error":"stop","transactions":[{"haveMore":false,"crud":[]}]}`, empty},
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
		{"TransactionIDAsDecimal", `{"transactions":[{"transaction_id":1.0,"crud":[]},{"transaction_id":-12.50e1,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "1", Operations: []upload.Operation{}}, {ID: "-125", Operations: []upload.Operation{}}},
		}},
		{"TransactionIDWithExponent", `{"transactions":[{"transaction_id":1e3,"crud":[]},{"transaction_id":1000E-3,"crud":[]}]}`, upload.Batch{
			Transactions: []upload.Transaction{{ID: "1000", Operations: []upload.Operation{}}, {ID: "1", Operations: []upload.Operation{}}},
		}},
		{"ByteOrderMark", "\ufeff" + `{"transactions":[{"crud":[]}]}`, empty},
		{"NumbersAsNames", `{"client_id":17,"user_id":4,"transactions":[{"crud":[]}]}`, upload.Batch{ClientID: "17", UserID: "4", Transactions: empty.Transactions}},
		{"UnknownMemberTwice", `{"transactions":[{"crud":[]}],"x":{"a":1,"a":"\ud800"}}`, empty},
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
		{"MemberOfAValueTwice", one(put1 + `,"op_data":{"j":[{"x":1,"x":1}]}`), data(member("j", `[{"x":1,"x":1}]`))},
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
		{"Empty", ``, "", "the body is empty"},
		{"NotJSON", `crud=[]`, "", "invalid character 'c' at start of value"},
		{"Null", `null`, "", "the body must be an object, not null"},
		{"Array", `[]`, "", "the body must be an object, not an array"},
		{"Text", `"x"`, "", "the body must be an object, not a string"},
		{"Number", `1`, "", "the body must be an object, not a number"},
		{"Trailing", `{"transactions":[{"crud":[]}]}{}`, "", "the body must be one object, and something follows it"},

		{"ClientIDTwice", `{"client_id":"a","client_id":"b","transactions":[{"crud":[]}]}`, "client_id", "appears twice in the same object"},
		{"UserIDBoolean", `{"user_id":true,"transactions":[{"crud":[]}]}`, "user_id", "must be a string, not a boolean"},
		{"TransactionsTwice", `{"transactions":[{"crud":[]}],"transactions":[{"crud":[]}]}`, "transactions", "appears twice in the same object"},
		{"NoTransactions", `{}`, "transactions", "is required"},
		{"TransactionsInCapitals", `{"Transactions":[{"crud":[]}]}`, "Transactions", "is not known here: send it as transactions"},
		{"ClientIDInCamelCase", `{"clientId":"a","transactions":[{"crud":[]}]}`, "clientId", "is not known here: send it as client_id"},
		{"CrudInCapitals", `{"transactions":[{"Crud":[]}]}`, "transactions[0].Crud", "is not known here: send it as crud"},
		{"TransactionIDInCapitals", `{"transactions":[{"TransactionId":1,"crud":[]}]}`, "transactions[0].TransactionId", "is not known here: send it as transaction_id"},
		{"NullTransactions", `{"transactions":null}`, "transactions", "is required"},
		{"TransactionsObject", `{"transactions":{}}`, "transactions", "must be an array, not an object"},
		{"TransactionsEmpty", `{"transactions":[]}`, "transactions", "must hold 1 to 50 transactions, not 0"},
		{"TooManyTransactions", `{"transactions":[` + strings.Repeat(`{"crud":[]},`, 50) + `{"crud":[]}]}`, "transactions", "must hold 1 to 50 transactions, not 51"},
		{"TransactionNumber", `{"transactions":[{"crud":[]},1]}`, "transactions[1]", "must be an object, not a number"},
		{"TransactionNull", `{"transactions":[null]}`, "transactions[0]", "must be an object, not null"},
		{"TransactionIDText", `{"transactions":[{"transaction_id":"1","crud":[]}]}`, "transactions[0].transaction_id", "must be an integer, not a string"},
		{"TransactionIDBoolean", `{"transactions":[{"transaction_id":true,"crud":[]}]}`, "transactions[0].transaction_id", "must be an integer, not a boolean"},
		{"NoCrud", `{"transactions":[{}]}`, "transactions[0].crud", "is required"},
		{"CrudNull", `{"transactions":[{"crud":null}]}`, "transactions[0].crud", "is required"},
		{"CrudText", `{"transactions":[{"crud":"x"}]}`, "transactions[0].crud", "must be an array, not a string"},

		{"OperationArray", `{"transactions":[{"crud":[[]]}]}`, op, "must be an object, not an array"},
		{"OperationNull", `{"transactions":[{"crud":[null]}]}`, op, "must be an object, not null"},
		{"NoID", `{"transactions":[{"crud":[]},{"crud":[{"op":"PUT","table":"t"}]}]}`, "transactions[1].crud[0].id", "is required: send a string"},
		{"IDNull", one(`"id":null,"op":"PUT","table":"t"`), op + ".id", "is required: send a string"},
		{"IDNumber", one(`"id":1,"op":"PUT","table":"t"`), op + ".id", "must be a string, not a number"},
		{"NoOp", one(`"id":"1","table":"t"`), op + ".op", "is required: send a string"},
		{"OpNumber", one(`"id":"1","op":1,"table":"t"`), op + ".op", "must be a string, not a number"},
		{"OpUnknown", one(`"id":"1","op":"put","table":"t"`), op + ".op", `must be PUT, PATCH or DELETE, not "put"`},
		{"OpLong", one(`"id":"1","op":"` + strings.Repeat("é", 50) + `","table":"t"`), op + ".op", `must be PUT, PATCH or DELETE, not "` + strings.Repeat("é", 40) + `…"`},
		{"UnknownMember", one(put1 + `,"kind":"t"`), op + ".kind", "is not a member of an operation: those are op_id"},
		{"UnknownSpelling", one(put1 + `,"opdata":{"a":1}`), op + ".opdata", "is not a member of an operation: those are op_id"},
		{"TwoTables", one(put1 + `,"type":"t"`), op + ".type", "is sent together with table: send one of them"},
		{"TwoOpIDs", one(put1 + `,"clientId":1,"op_id":1`), op + ".op_id", "is sent together with clientId: send one of them"},
		{"TwoOpData", one(put1 + `,"data":{"a":1},"opData":null`), op + ".opData", "is sent together with data: send one of them"},
		{"TwoPreviousValues", one(put1 + `,"old":{},"previous_values":{}`), op + ".previous_values", "is sent together with old: send one of them"},
		{"TwoTransactionIDs", `{"transactions":[{"transaction_id":1,"tx_id":1,"crud":[]}]}`, "transactions[0].tx_id", "is sent together with transaction_id: send one of them"},
		{"TwoTransactionIDsOfAnOperation", one(put1 + `,"tx_id":1,"transactionId":1`), op + ".transactionId", "is sent together with tx_id: send one of them"},
		{"OpIDOfADevice", one(put1 + `,"client_id":"a device"`), op + ".client_id", "must be an integer, not a string"},
		{"IDInTheDataNumber", one(`"op":"PUT","table":"t","opData":{"id":1}`), op + ".opData.id", "must be a string, not a number"},
		{"IDInTheDataNull", one(`"op":"PUT","table":"t","op_data":{"id":null}`), op + ".op_data.id", "must be a string, not null"},
		{"IDInPreviousValues", one(`"op":"PUT","table":"t","old":{"id":"1"}`), op + ".id", "is required: send a string"},
		{"Batch", `{"transactions":[{"batch":[]}]}`, "transactions[0].crud", "is required"},
		{"NoTable", one(`"id":"1","op":"PUT"`), op + ".table", "is required: send a string"},
		{"TableObject", one(`"id":"1","op":"PUT","table":{}`), op + ".table", "must be a string, not an object"},
		{"OpIDText", one(put1 + `,"op_id":"1"`), op + ".op_id", "must be an integer, not a string"},
		{"TransactionIDOfAnOperationText", one(put1 + `,"transaction_id":"x"`), op + ".transaction_id", "must be an integer, not a string"},
		{"MetadataObject", one(put1 + `,"metadata":{}`), op + ".metadata", "must be a string, not an object"},
		{"DataArray", one(put1 + `,"op_data":[1]`), op + ".op_data", "must be an object, not an array"},
		{"DataText", one(put1 + `,"op_data":"{}"`), op + ".op_data", "must be an object, not a string"},
		{"PreviousBoolean", one(put1 + `,"previous_values":true`), op + ".previous_values", "must be an object, not a boolean"},

		{"ValueNotANumber", one(put1 + `,"op_data":{"a":NaN}`), op + ".op_data.a", "invalid character 'N' at start of value"},
		{"LeadingZero", one(put1 + `,"op_data":{"a":01}`), op + ".op_data", "invalid character '1' after object value"},
		{"Truncated", `{"transactions":[{"crud":[{"id":"1"`, op, "unexpected EOF"},
		{"NothingButDepth", strings.Repeat("[", 1<<20), "", "the body must be an object, not an array"},
		{"DeeperThanJSONDecoders", one(put1 + `,"op_data":{"a":` + strings.Repeat("[", 1<<20)), op + ".op_data.a" + strings.Repeat("[0]", 6) + "…", "exceeded max depth"},
		{"QuoteInAText", one(put1 + `,"op_data":{"a":"b"c"}`), op + ".op_data", "invalid character 'c' after object value"},
		{"UnreadableAndOfAnotherForm", one(put1 + `,"op_data":{"a":"\ud800"},"kind":{}`), op + ".kind", "is not a member of an operation"},
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

// TestUnreadable decodes a transaction that is at fault by itself, after a good one. Its
// bytes survive, and the good one does not suffer.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	const put1 = `"id":"1","op":"PUT","table":"t"`
	operation := func(members string) string {
		return `{"transaction_id":5,"crud":[{"id":"0","op":"DELETE","table":"t"},{` + members + `}]}`
	}
	for _, test := range []struct {
		name, sent, message string
		operation           int
		id                  string
	}{
		{"LoneSurrogate", operation(put1 + `,"op_data":{"a":"\ud800"}`), `crud[1].op_data.a: invalid surrogate pair`, 1, "5"},
		{"InvalidUTF8", operation("\"id\":\"\xff\",\"op\":\"PUT\",\"table\":\"t\""), "crud[1].id: invalid UTF-8", 1, "5"},
		{"ControlCharacter", operation(put1 + ",\"op_data\":{\"a\":\"b\nc\"}"), "crud[1].op_data.a: invalid character '\\n' in string", 1, "5"},
		{"UnknownEscape", operation(put1 + `,"op_data":{"a":"\x41\"\u12"}`), "crud[1].op_data.a: invalid escape sequence", 1, "5"},
		{"MemberTwice", operation(`"id":"1",` + put1), "crud[1].id: appears twice in the same object", 1, "5"},
		{"MemberTwiceOnceEscaped", operation(`"\u0069d":"1",` + put1), "crud[1].id: appears twice", 1, "5"},
		{"ColumnTwice", operation(put1 + `,"op_data":{"a":1,"a":2}`), "crud[1].op_data.a: appears twice", 1, "5"},
		{"PreviousColumnTwice", operation(put1 + `,"previous_values":{"a":1,"a":2}`), "crud[1].previous_values.a: appears twice", 1, "5"},
		{"LongName", operation(put1 + `,"op_data":{"` + strings.Repeat("n", 200) + `":"\ud800"}`), "crud[1].op_data." + strings.Repeat("n", 100) + "…: invalid", 1, "5"},
		{"TooDeep", operation(put1 + `,"op_data":{"a":` + strings.Repeat("[", 59) + strings.Repeat("]", 59) + `}`), "crud[1].op_data.a" + strings.Repeat("[0]", 8) + "…: arrays and objects nest deeper than 64 levels", 1, "5"},
		{"MuchTooDeep", operation(put1 + `,"op_data":{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`), "crud[1].op_data.a" + strings.Repeat("[0]", 8) + "…: arrays and objects nest deeper", 1, "5"},
		{"DeeperThanJSONDecoders", operation(put1 + `,"op_data":{"a":` + strings.Repeat(`[{"\"b]":`, 20_000) + `"\u005d"` + strings.Repeat("}]", 20_000) + `,"c":1}`), "crud[1].op_data.a[0]." + strings.Repeat(`"b][0].`, 3) + `"b]…: arrays and objects nest deeper`, 1, "5"},
		{"TooManyColumns", operation(put1 + `,"op_data":{` + columns(1601) + `}`), "crud[1].op_data: has more than 1600 members", 1, "5"},
		{"OpIDFraction", operation(put1 + `,"op_id":1.5`), `crud[1].op_id: must be an integer from -9223372036854775808 to 9223372036854775807, not "1.5"`, 1, "5"},
		{"TransactionIDTooLarge", `{"transaction_id":9223372036854775808,"crud":[]}`, `transaction_id: must be an integer`, -1, ""},
		{"TransactionIDFraction", `{"transaction_id":1.5,"crud":[]}`, `transaction_id: must be an integer`, -1, ""},
		{"TransactionIDSmallFraction", `{"transaction_id":1e-1,"crud":[]}`, `transaction_id: must be an integer`, -1, ""},
		{"TransactionIDEnormous", `{"transaction_id":1e999999999999999999999,"crud":[]}`, `transaction_id: must be an integer`, -1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			batch, err := upload.DecodeBatch([]byte(`{"transactions":[{"transaction_id":4,"crud":[` + `{"id":"1","op":"PUT","table":"t","op_data":{"a":1}}]}, ` + test.sent + `]}`))
			require.NoError(t, err)
			require.Len(t, batch.Transactions, 2)
			require.Nil(t, batch.Transactions[0].Unreadable)
			require.Len(t, batch.Transactions[0].Operations[0].Data, 1)
			got := batch.Transactions[1]
			require.NotNil(t, got.Unreadable)
			require.Equal(t, test.sent, string(got.Unreadable.Sent))
			rejection := got.Unreadable.Rejection
			require.Equal(t, upload.InvalidData, rejection.Code)
			require.Equal(t, test.message, rejection.Message[:min(len(test.message), len(rejection.Message))])
			require.Equal(t, test.operation, rejection.Operation)
			require.Equal(t, test.id, got.ID)
			for _, op := range got.Operations {
				require.Equal(t, "t", op.Table)
				require.Nil(t, op.Data)
			}
		})
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"transactions":[{"transaction_id":1,"crud":[{"op_id":1,"id":"a","op":"PUT","table":"lists","op_data":{"n":1e5,"j":{"a":[1]}}}]}]}`))
	f.Add([]byte(`{"client_id":null,"transactions":[{"crud":[{"id":"a","op":"DELETE","table":"lists"}]}]}`))
	f.Add([]byte(`{"transactions":[{"crud":[{"id":"\u0000","op":"PATCH","table":"","op_data":{"":null}}]}]}`))
	f.Add([]byte(`{"transactions":[{"transaction_id":1.5,"crud":[{"id":"\ud800","op":"PATCH","table":"t","op_data":{"a":1,"a":"\x"}}]}]}`))
	f.Add([]byte("{\"transactions\":[{\"crud\":[{\"id\":\"a\",\"op\":\"PUT\",\"table\":\"\xff\",\"op_data\":{\"\xff\":1,\"\xff\":[[\"\xff\"]]},\"metadata\":\"\xff\"}]}]}"))
	f.Add([]byte(`{"batch":[{"op":"PUT","type":"t","data":{"id":"a","n":1.0},"tx_id":1},{"op":"PATCH","table":"t","opData":{"id":"\ud800"},"tx_id":2}],"x":[{}]}`))
	f.Add([]byte(`{"crud":[{"clientId":1,"op":"DELETE","table":"t","id":"a","old":{"a":1}}],"transactionId":1}`))
	f.Add([]byte(`{"table":"t","data":{"id":"a","n":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if batch, err := upload.DecodeOperation(body, upload.Put); err == nil {
			require.Len(t, batch.Transactions, 1)
			require.Len(t, batch.Transactions[0].Operations, 1)
		} else {
			require.ErrorAs(t, err, new(*upload.Malformed))
		}
		batch, err := upload.DecodeBatch(body)
		if err != nil {
			var malformed *upload.Malformed
			require.ErrorAs(t, err, &malformed)
			return
		}
		require.NotEmpty(t, batch.Transactions)
		require.True(t, batch.StatusOnly || len(batch.Transactions) <= upload.MaxTransactions)
		operations := 0
		for _, transaction := range batch.Transactions {
			operations += len(transaction.Operations)
		}
		_, err = upload.DecodeBatchWithin(body, operations)
		require.NoError(t, err)
		_, err = upload.DecodeBatchWithin(body, operations-1)
		require.Error(t, err)
		for _, transaction := range batch.Transactions {
			if u := transaction.Unreadable; u != nil {
				require.True(t, batch.StatusOnly || bytes.Contains(body, u.Sent))
				require.Less(t, u.Rejection.Operation, len(transaction.Operations))
				require.True(t, utf8.ValidString(u.Rejection.Message), "Postgres can store it")
			}
			for _, op := range transaction.Operations {
				require.True(t, utf8.ValidString(op.Table+op.ID+op.Metadata), "likewise")
				require.Contains(t, []upload.Op{upload.Put, upload.Patch, upload.Delete}, op.Op)
				for _, member := range op.Data {
					require.True(t, member.Value.IsValid(), "%s", member.Value)
				}
			}
		}
	})
}

// BenchmarkDecodeBatch decodes bodies of one transaction; ns/operation says whether the
// time grows faster than the body.
func BenchmarkDecodeBatch(b *testing.B) {
	for _, shape := range []struct{ name, operation string }{
		{"Puts", `{"op_id":%[1]d,"id":"%[1]d","op":"PUT","table":"lists","op_data":{"name":"Groceries","n":%[1]d}}`},
		{"DistinctTables", `{"id":"1","op":"DELETE","table":"t%d"}`},
		{"DistinctColumns", `{"id":"1","op":"PUT","table":"t","op_data":{"c%d":1}}`},
		{"Unreadable", `{"id":"%d","op":"PUT","table":"t","op_data":{"c":"\ud800"}}`},
	} {
		for _, operations := range []int{1, 1_000, 10_000, 100_000} {
			var crud []string
			for i := range operations {
				crud = append(crud, fmt.Sprintf(shape.operation, i))
			}
			body := []byte(`{"transactions":[{"transaction_id":1,"crud":[` + strings.Join(crud, ",") + `]}]}`)
			b.Run(fmt.Sprintf("%s/%d", shape.name, operations), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
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
}
