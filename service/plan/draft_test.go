package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog/catalogtest"
	"postern/service/upload"
)

// TestRejections has what rejects an operation before anything is sent.
func TestRejections(t *testing.T) {
	t.Parallel()
	unfit := func(table, column, typeName, value string) map[string]any {
		return map[string]any{"table": table, "column": column, "type": typeName, "value": value}
	}
	for _, test := range []struct {
		name      string
		table     string // the policy of table notes
		operation upload.Operation
		code      upload.Code
		message   string
		details   any
	}{
		{"UnknownTable", all, put("nothing", "n1", `{}`), upload.SchemaMismatch,
			`there is no table "nothing"`, nil},
		{"OperationThatIsNotAllowed", "{allow: [put, patch]}", remove("notes", "n1"), upload.Unauthorized,
			`deleting a row of table "notes" is not allowed`, because("notes", "this was a DELETE, and the table's policy allows PUT and PATCH")},

		{"UnknownColumn", all, put("notes", "n1", `{"body": "a"}`), upload.SchemaMismatch,
			`table notes has no column "body"`, nil},
		{"ColumnUnderItsDatabaseName", "{allow: all, columns: {heading: title}}", patch("notes", "n1", `{"title": "a"}`), upload.SchemaMismatch,
			`clients know column "title" of table notes as "heading": send it under that name`, nil},
		{"ColumnUnderAnotherName", "{table: public.notes, allow: all, columns: {body: title}, immutable: [title]}", patch("notes", "n1", `{"body": "a"}`), upload.ImmutableColumn,
			`notes.body cannot change once it is set: leave it out`, nil},
		{"ValueUnderAnotherName", "{allow: all, columns: {amount: qty}}", patch("notes", "n1", `{"amount": "many"}`), upload.InvalidData,
			`notes.amount cannot hold "many": send a whole number`, unfit("notes", "amount", "integer", `"many"`)},
		{"ColumnThatIsNotWritable", "{allow: all, writable: [title]}", patch("notes", "n1", `{"qty": 1}`), upload.Unauthorized,
			`notes.qty cannot be written by clients: leave it out`, nil},
		{"ColumnOfASoftDelete", "{allow: all, soft_delete: gone}", put("notes", "n1", `{"gone": 1}`), upload.Unauthorized,
			`notes.gone is set by a DELETE alone: leave it out, and send a DELETE`, nil},
		{"TimeOfASoftDelete", "{allow: all, soft_delete: gone_at}", patch("notes", "n1", `{"gone_at": "2026-11-24T12:00:00Z"}`), upload.Unauthorized,
			`notes.gone_at is set by a DELETE alone: leave it out, and send a DELETE`, nil},
		{"ColumnSentTwice", "{allow: all, columns: {heading: title}, unknown_columns: ignore}", patch("notes", "n1", `{"heading": "a", "heading": "b"}`), upload.InvalidData,
			`two of the columns sent are notes.heading: send it once`, nil},
		{"KeyWithAnotherValue", all, put("notes", "n1", `{"id": "n2"}`), upload.InvalidData,
			`notes.id is part of the row's id: leave it out, or send the id's value`, nil},

		{"ValueOfAnotherType", all, patch("notes", "n1", `{"qty": "many"}`), upload.InvalidData,
			`notes.qty cannot hold "many": send a whole number`, unfit("notes", "qty", "integer", `"many"`)},
		{"ValueThatIsLong", all, patch("notes", "n1", `{"qty": "0123456789012345678901234567890123456789x"}`), upload.InvalidData,
			`notes.qty cannot hold "012345678901234567890123456789012345678…: send a whole number`, unfit("notes", "qty", "integer", `"012345678901234567890123456789012345678…`)},
		{"ValueWithNUL", all, patch("notes", "n1", `{"title": "a\u0000"}`), upload.InvalidData,
			`notes.title cannot hold "a\u0000": Postgres cannot store the character \u0000: remove it`, unfit("notes", "title", "text", `"a\u0000"`)},
		{"PreviousValueOfAnotherType", "{allow: all, conflict: reject}", after(`{"qty": "many"}`, patch("notes", "n1", `{"title": "a"}`)), upload.InvalidData,
			`notes.qty cannot hold "many": send a whole number`, unfit("notes", "qty", "integer", `"many"`)},
		{"EpochTooLate", "{allow: all, epoch: {at: ms}}", patch("notes", "n1", `{"at": 1e30}`), upload.InvalidData,
			`notes.at cannot hold 1e30: send a time from the year 1 to the year 9999`, unfit("notes", "at", "timestamp(3) with time zone", `1e30`)},
		{"PreviousEpochTooLate", "{allow: all, epoch: {at: ms}, conflict: reject}", after(`{"at": 1e30}`, patch("notes", "n1", `{"title": "a"}`)), upload.InvalidData,
			`notes.at cannot hold 1e30: send a time from the year 1 to the year 9999`, unfit("notes", "at", "timestamp(3) with time zone", `1e30`)},

		{"IDOfAnotherType", all, put("counters", "seven", `{}`), upload.InvalidData,
			`counters.id cannot hold "seven": send a whole number`, unfit("counters", "id", "bigint", `"seven"`)},
		{"IDWithTooFewParts", "{table: public.members, allow: all, id: [list_id, user_id]}", remove("notes", "l1"), upload.InvalidData,
			`the id of a row of notes is made of list_id and user_id, with ":" between them`, nil},
		{"IDWithTooManyParts", "{table: public.members, allow: all, id: [list_id, user_id]}", remove("notes", "l1:7:8"), upload.InvalidData,
			`the id of a row of notes is made of list_id and user_id, with ":" between them`, nil},
		{"IDPartOfAnotherType", "{table: public.members, allow: all, id: [list_id, user_id]}", remove("notes", "l1:x"), upload.InvalidData,
			`notes.user_id cannot hold "x": send a whole number`, unfit("notes", "user_id", "integer", `"x"`)},
		{"IDThatIsRounded", all, remove("prices", "1.505"), upload.InvalidData,
			`prices.price cannot hold "1.505": the row would get another id: send one that numeric(10,2) keeps unchanged`, unfit("prices", "price", "numeric(10,2)", `"1.505"`)},
		{"KeyOfTwoColumns", all, remove("members", "l1"), upload.SchemaMismatch,
			`rows of members cannot be written`, because("members", "the table must have a primary key of one column, or a policy with id: [columns]")},
		{"TableWithoutAKey", all, remove("changes", "c1"), upload.SchemaMismatch,
			`rows of changes cannot be written`, because("changes", "the table must have a primary key of one column, or a policy with id: [columns]")},
		{"KeyThatIsNotUnique", all, put("events", "e1", `{}`), upload.SchemaMismatch,
			`rows of events cannot be written`, because("events", "the table has no unique index that tells whether a row exists: make its key not deferrable")},

		{"PutWithAnotherOwner", "{allow: all, owner: owner_id}", put("notes", "n1", `{"owner_id": "u2"}`), upload.Unauthorized,
			`notes.owner_id is set from your token: leave it out or send your own id`, nil},
		{"PatchWithAnotherOwner", "{allow: all, owner: owner_id}", patch("notes", "n1", `{"owner_id": "u2"}`), upload.Unauthorized,
			`notes.owner_id is set from your token: leave it out or send your own id`, nil},
		{"PatchWithoutOwner", "{allow: all, owner: owner_id}", patch("notes", "n1", `{"owner_id": null}`), upload.Unauthorized,
			`notes.owner_id is set from your token: leave it out or send your own id`, nil},

		{"ImmutableWithoutPrevious", "{allow: all, immutable: [title]}", patch("notes", "n1", `{"title": "a"}`), upload.ImmutableColumn,
			`notes.title cannot change once it is set: leave it out`, nil},
		{"ImmutableChanged", "{allow: all, immutable: [title]}", after(`{"title": "was"}`, patch("notes", "n1", `{"title": "a"}`)), upload.ImmutableColumn,
			`notes.title cannot change once it is set: leave it out`, nil},
		{"ImmutableFromNullToEmpty", "{allow: all, immutable: [title]}", after(`{"title": null}`, patch("notes", "n1", `{"title": ""}`)), upload.ImmutableColumn,
			`notes.title cannot change once it is set: leave it out`, nil},
		{"ImmutableFromEmptyToNull", "{allow: all, immutable: [title]}", after(`{"title": ""}`, patch("notes", "n1", `{"title": null}`)), upload.ImmutableColumn,
			`notes.title cannot change once it is set: leave it out`, nil},

		{"NewestPutWithoutTime", "{allow: all, conflict: {newest: at}}", put("notes", "n1", `{"title": "a"}`), upload.InvalidData,
			`notes.at decides which write of a row is the newest: send it with each change`, nil},
		{"NewestPatchWithoutTime", "{allow: all, conflict: {newest: at}}", patch("notes", "n1", `{"title": "a"}`), upload.InvalidData,
			`notes.at decides which write of a row is the newest: send it with each change`, nil},
		{"NewestWithNull", "{allow: all, conflict: {newest: at}}", patch("notes", "n1", `{"at": null}`), upload.InvalidData,
			`notes.at decides which write of a row is the newest: send a value, not null`, nil},
		{"VersionPatchWithoutVersion", "{allow: all, conflict: {version: rev}}", patch("notes", "n1", `{"title": "a"}`), upload.InvalidData,
			`notes.rev counts the changes of a row: count it up with each change, or track its previous value`, nil},
		{"VersionWithNull", "{allow: all, conflict: {version: rev}}", patch("notes", "n1", `{"rev": null}`), upload.InvalidData,
			`notes.rev counts the changes of a row: send a number, not null`, nil},
		{"FieldsWithoutPrevious", "{allow: all, conflict: fields}", after(`{"qty": 1}`, patch("notes", "n1", `{"qty": 2, "title": "a"}`)), upload.InvalidData,
			`this change of notes.title cannot be compared with the stored row`, withoutPrevious("title")},
		{"ServerWithoutPrevious", "{allow: all, conflict: server}", patch("notes", "n1", `{"title": "a"}`), upload.InvalidData,
			`this change of notes.title cannot be compared with the stored row`, withoutPrevious("title")},
		{"RejectWithoutPrevious", "{allow: all, conflict: reject}", patch("notes", "n1", `{"title": "a"}`), upload.InvalidData,
			`this change of notes.title cannot be compared with the stored row`, withoutPrevious("title")},
		{"IncrementWithoutPrevious", "{allow: all, conflict: {increment: [qty]}}", after(`{"title": "was"}`, patch("notes", "n1", `{"qty": 2}`)), upload.InvalidData,
			`this change of notes.qty cannot be compared with the stored row`, withoutPrevious("qty")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanner(t, shop, `tables: {notes: `+test.table+`, "*": {allow: all, because: RLS decides}}`)
			rejection := rejected(t, p, remove("counters", "1"), test.operation)
			require.Equal(t, &upload.Rejection{Code: test.code, Message: test.message, Details: test.details, Operation: 1}, rejection)
		})
	}
}

// because are details with a reason for the app's developer.
func because(table, reason string) map[string]any {
	return map[string]any{"table": table, "reason": reason}
}

func withoutPrevious(column string) map[string]any {
	return map[string]any{"table": "notes", "column": column, "reason": "the previous value is missing: let the client's table track it (trackPrevious)"}
}

// TestTableWithoutPolicy has a table that no policy names.
func TestTableWithoutPolicy(t *testing.T) {
	t.Parallel()
	rejection := rejected(t, newPlanner(t, shop, "tables: {notes: {allow: all}}"), put("small", "s1", `{}`))
	require.Equal(t, &upload.Rejection{Code: upload.Unauthorized, Message: `writes to table "small" are not allowed`, Details: because("small", "no policy names the table")}, rejection)
}

// TestClientHandling has rejections that the policy leaves to the app.
func TestClientHandling(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {notes: {allow: all, immutable: [title], client: [IMMUTABLE_COLUMN]}}")
	require.True(t, rejected(t, p, patch("notes", "n1", `{"title": "a"}`)).ClientHandling)
	require.False(t, rejected(t, p, patch("notes", "n1", `{"body": "a"}`)).ClientHandling)
}

// TestTableLostAColumn has policies in force that need a column that is gone.
func TestTableLostAColumn(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {small: {allow: all, immutable: [b]}}")
	p.Tables = catalogtest.Parse(t, []byte(strings.Replace(shop, `"name": "b"`, `"name": "c"`, 1)))
	orders, _, rejection, err := p.Transaction(t.Context(), upload.Transaction{Operations: []upload.Operation{patch("small", "s1", `{"a": "x"}`)}})
	var failed *policies.RuleError
	require.ErrorAs(t, err, &failed)
	require.EqualError(t, failed.Err, `public.small no longer has column "b": restore it, or change the policy`)
	require.Nil(t, rejection)
	require.Empty(t, orders)
}

// TestValues has the columns of a write and their values.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		table     string // the policy of table notes
		operation upload.Operation
		want      string
	}{
		{"AsSent", all, put("notes", "n1", `{"title": "a", "qty": "3", "price": 1.50, "gone": 1, "raw": null}`), `id=n1 title=a qty=3 price=1.50 gone=true raw=<null>`},
		{"EmptyID", all, put("notes", "", `{"title": ""}`), `id= title=`},
		{"IgnoredColumn", "{allow: all, unknown_columns: ignore}", put("notes", "n1", `{"title": "a", "body": "b"}`), `id=n1 title=a`},
		{"IgnoredDatabaseName", "{allow: all, unknown_columns: ignore, columns: {heading: title}}", put("notes", "n1", `{"heading": "a", "title": "b"}`), `id=n1 title=a`},
		{"IgnoredGeneratedColumn", all, put("notes", "n1", `{"title": "a", "rank": 1}`), `id=n1 title=a`},
		{"WritableAndTheKey", "{allow: all, writable: [title]}", put("notes", "n1", `{"id": "n1", "title": "a"}`), `id=n1 title=a`},
		{"DeleteWithData", all, upload.Operation{Op: upload.Delete, Table: "notes", ID: "n1", Data: members(`{"body": "a"}`)}, `id=n1`},

		{"Owner", "{allow: all, owner: owner_id}", put("notes", "n1", `{"title": "a"}`), `id=n1 title=a owner_id=u1`},
		{"OwnerOfAPatch", "{allow: all, owner: owner_id}", patch("notes", "n1", `{"title": "a", "owner_id": "u1"}`), `id=n1 title=a`},
		{"OwnerOfADelete", "{allow: all, owner: owner_id}", remove("notes", "n1"), `id=n1`},
		{"ImmutableUnchanged", "{allow: all, immutable: [qty]}", after(`{"qty": "3"}`, patch("notes", "n1", `{"title": "a", "qty": 3.0}`)), `id=n1 title=a`},
		{"ImmutableStaysNull", "{allow: all, immutable: [qty]}", after(`{"qty": null}`, patch("notes", "n1", `{"title": "a", "qty": null}`)), `id=n1 title=a`},
		{"ImmutableIsTheKey", "{allow: all, immutable: [id]}", patch("notes", "n1", `{"id": "n1", "title": "a"}`), `id=n1 title=a`},

		{"SetByAPut", "{allow: all, set: {gone_at: now}}", put("notes", "n1", `{"title": "a"}`), `id=n1 title=a gone_at=2026-01-02 03:04:05+00`},
		{"SetByAPatch", "{allow: all, set: {gone_at: now}}", patch("notes", "n1", `{"title": "a"}`), `id=n1 title=a gone_at=2026-01-02 03:04:05+00`},
		{"SetByNoEmptyPatch", "{allow: all, on_missing: reject, set: {gone_at: now}}", patch("notes", "n1", `{}`), ``},
		{"SetByNoDelete", "{allow: all, set: {gone_at: now}}", remove("notes", "n1"), `id=n1`},
		{"SetByOneOperationAlone", "{allow: all, set: {title: {value: op, on: [patch]}}}", put("notes", "n1", `{"qty": 1}`), `id=n1 qty=1`},
		{"SetWhateverIsSent", "{allow: all, set: {title: auth.sub}}", put("notes", "n1", `{"title": "a", "qty": 1}`), `id=n1 qty=1 title=u1`},
		{"SetWhatIsNotWritable", "{allow: all, writable: [qty], set: {title: auth.sub}}", patch("notes", "n1", `{"qty": 1}`), `id=n1 qty=1 title=u1`},
		{"SetToWhatWasSent", "{allow: all, set: {title: \"data.title + '!' + id\"}}", patch("notes", "n1", `{"title": "a"}`), `id=n1 title=a!n1`},
		{"SetByName", "{allow: all, set: {title: op, owner_id: metadata}}", noted("why", put("notes", "n1", `{}`)), `id=n1 owner_id=why title=put`},

		{"Default", "{allow: all, defaults: {title: \"'none'\"}}", put("notes", "n1", `{}`), `id=n1 title=none`},
		{"DefaultIsSent", "{allow: all, defaults: {title: \"'none'\"}}", put("notes", "n1", `{"title": "a"}`), `id=n1 title=a`},
		{"DefaultIsSentAsNull", "{allow: all, defaults: {qty: \"1\"}}", put("notes", "n1", `{"qty": null}`), `id=n1 qty=<null>`},
		{"DefaultOfNoPatch", "{allow: all, defaults: {title: \"'none'\"}}", patch("notes", "n1", `{"qty": 1}`), `id=n1 qty=1`},

		{"VersionOfAPatchIsCounted", "{allow: all, conflict: {version: rev}}", patch("notes", "n1", `{"rev": 5, "title": "a"}`), `id=n1 title=a`},
		{"VersionOfAPut", "{allow: all, conflict: {version: rev}}", put("notes", "n1", `{"rev": 5, "title": "a"}`), `id=n1 rev=5 title=a`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := sent(t, newPlanner(t, shop, "tables: {notes: "+test.table+"}"), test.operation)[0]
			var got []string
			for i, c := range o.Columns {
				got = append(got, c.Name+"="+args(o.Statement)[i])
			}
			require.Equal(t, test.want, strings.Join(got, " "))
		})
	}
}

// TestStoredRow has the query for the row of a rejected operation.
func TestStoredRow(t *testing.T) {
	t.Parallel()
	p := newPlanner(t, shop, "tables: {notes: {allow: all, unknown_columns: ignore, columns: {heading: title}, epoch: {at: s}}, small: {allow: all}}")
	row, rejection := p.StoredRow(patch("notes", "n1", `{"heading": "a", "raw": {}, "at": 0, "body": 1}`))
	require.Nil(t, rejection)
	require.Equal(t, []string{"title", "raw", "at"}, row.Names)
	require.Equal(t, `select to_jsonb(t.*), (t."title" is not distinct from $2), (t."raw"::text is not distinct from $3::json::text), `+
		`(t."at" is not distinct from $4::timestamp(3) with time zone) from "public"."notes" as t where t."id" = $1`, row.SQL)
	require.Equal(t, []string{"n1", "a", "{}", "1970-01-01 00:00:00+00"}, args(row.Statement))
	sent, rejection := p.SentRow(patch("notes", "n1", `{"heading": "a", "raw": {}, "at": 0, "body": 1, "qty": "many"}`))
	require.Nil(t, rejection)
	require.Equal(t, []string{"heading", "raw", "at"}, sent.Names)
	require.Equal(t, `select to_jsonb($1::text), to_jsonb($2::json), to_jsonb($3::timestamp(3) with time zone)`, sent.SQL)
	require.Equal(t, []string{"a", "{}", "1970-01-01 00:00:00+00"}, args(sent.Statement))
	for _, test := range []struct {
		name      string
		operation upload.Operation
		code      upload.Code
	}{
		{"UnknownColumn", patch("small", "s1", `{"body": 1}`), upload.SchemaMismatch},
		{"ValueOfAnotherType", patch("notes", "n1", `{"qty": "many"}`), upload.InvalidData},
		{"EpochTooLate", patch("notes", "n1", `{"at": 1e30}`), upload.InvalidData},
		{"TableWithoutPolicy", remove("secrets", "s1"), upload.Unauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, rejection := p.StoredRow(test.operation)
			require.NotNil(t, rejection)
			require.Equal(t, test.code, rejection.Code)
		})
	}
}
