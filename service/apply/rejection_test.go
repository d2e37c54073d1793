package apply

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/upload"
)

// TestRejectionOf has what a client receives for an error of Postgres.
func TestRejectionOf(t *testing.T) {
	t.Parallel()
	type details = map[string]any
	for _, test := range []struct {
		name    string
		err     pgconn.PgError
		code    upload.Code
		message string
		details any
	}{
		{"NotNull", pgconn.PgError{Code: "23502", Message: "null value", SchemaName: "public", TableName: "lists", ColumnName: "title", Detail: "Failing row contains (secret)."},
			upload.NotNullViolation, "lists.title must not be null", details{"sqlstate": "23502", "table": "lists", "column": "title"}},
		{"NoSuchParent", pgconn.PgError{Code: "23503", TableName: "todos", ConstraintName: "todos_list", Detail: `Key (list_id)=(l1) is not present in table "lists".`},
			upload.ForeignKeyViolation, "the row refers to one that does not exist (constraint todos_list of todos)", details{"sqlstate": "23503", "table": "todos", "constraint": "todos_list"}},
		{"StillReferenced", pgconn.PgError{Code: "23503", TableName: "todos", ConstraintName: "todos_list", Detail: `Key (id)=(l1) is still referenced from table "todos".`},
			upload.ForeignKeyViolation, "other rows still refer to this one (constraint todos_list)", details{"sqlstate": "23503", "table": "todos", "constraint": "todos_list"}},
		{"Unique", pgconn.PgError{Code: "23505", TableName: "lists", ConstraintName: "lists_title", Detail: "Key (title)=(secret) already exists."},
			upload.UniqueViolation, "another row of lists already has this value (constraint lists_title)", details{"sqlstate": "23505", "table": "lists", "constraint": "lists_title"}},
		{"Check", pgconn.PgError{Code: "23514", TableName: "lists", ConstraintName: "positive"},
			upload.CheckViolation, "the row does not meet constraint positive of lists", details{"sqlstate": "23514", "table": "lists", "constraint": "positive"}},
		{"CheckOfADomain", pgconn.PgError{Code: "23514", ConstraintName: "email_check"},
			upload.CheckViolation, "a value does not meet constraint email_check of its type", details{"sqlstate": "23514", "constraint": "email_check"}},
		{"Exclusion", pgconn.PgError{Code: "23P01", TableName: "lists", ConstraintName: "no_overlap"},
			upload.ConstraintViolation, "the row does not meet constraint no_overlap of lists", details{"sqlstate": "23P01", "table": "lists", "constraint": "no_overlap"}},
		{"Data", pgconn.PgError{Code: "22P02", Message: "invalid input", Hint: "a hint", Detail: "a detail"},
			upload.InvalidData, "invalid input", details{"sqlstate": "22P02"}},
		{"Schema", pgconn.PgError{Code: "42703", Message: `column "x" does not exist`},
			upload.SchemaMismatch, `column "x" does not exist`, details{"sqlstate": "42703"}},
		{"Privilege", pgconn.PgError{Code: "42501", Message: "permission denied for table lists"},
			upload.Unauthorized, "permission denied for table lists", details{"sqlstate": "42501"}},
		{"Raise", pgconn.PgError{Code: "P0001", Message: "no more lists", Detail: "you have 3", Hint: "delete one", TableName: "lists"},
			upload.RejectedByDatabase, "no more lists", details{"sqlstate": "P0001", "detail": "you have 3", "hint": "delete one", "table": "lists"}},
		{"RaiseForPostgREST", pgconn.PgError{Code: "PT402", Message: "pay first", Hint: "upgrade"},
			upload.RejectedByDatabase, "pay first", details{"sqlstate": "PT402", "hint": "upgrade"}},

		{"Conflict", pgconn.PgError{Code: "PN006", Message: "CONFLICT", Hint: `{"id": "l1", "title": "b"}`},
			upload.Conflict, "the row has changed since it was last synced", details{"row": jsontext.Value(`{"id": "l1", "title": "b"}`)}},
		{"Immutable", pgconn.PgError{Code: "PN006", Message: "IMMUTABLE_COLUMN"}, upload.ImmutableColumn, "a column of the row cannot change once it is set", nil},
		{"Deleted", pgconn.PgError{Code: "PN006", Message: "ROW_DELETED"}, upload.RowDeleted, "the row was deleted: give a new row another id", nil},
		{"NotFound", pgconn.PgError{Code: "PN006", Message: "ROW_NOT_FOUND"}, upload.RowNotFound, "the row does not exist", nil},
		{"Hidden", pgconn.PgError{Code: "PN006", Message: "UNAUTHORIZED"}, upload.Unauthorized, "the row exists and is not yours to change", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := classify(&failure{step: step{kind: operation, index: 3}, err: &test.err}, &catalog.Snapshot{})
			require.Equal(t, outcome{rejection: &upload.Rejection{Code: test.code, Message: test.message, Details: test.details, Operation: 3}}, out)
		})
	}
}

// TestOperationOf has the operation that caused an error at the end of a transaction,
// by the table that the error names.
func TestOperationOf(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	list, todo := write(upload.Put, "lists", "l1"), write(upload.Put, "todos", "t1", "list_id", `"l1"`)
	pg := func(table, detail string) *pgconn.PgError {
		return &pgconn.PgError{Code: "23503", SchemaName: "public", TableName: table, ConstraintName: "todos_list", Detail: detail}
	}
	const referenced = `Key (id)=(l1) is still referenced from table "todos".`
	for _, test := range []struct {
		name       string
		operations []upload.Operation
		err        *pgconn.PgError
		want       int
	}{
		{"OneOfTwo", []upload.Operation{list, todo}, pg("todos", ""), 1},
		{"MovedByForeignKeys", []upload.Operation{todo, list}, pg("todos", ""), 0},
		{"TwoOfThree", []upload.Operation{todo, todo, list}, pg("todos", ""), -1},
		{"NoneOfTwo", []upload.Operation{list, todo}, pg("logs", ""), -1},
		{"UnknownTable", []upload.Operation{list, todo}, pg("elsewhere", ""), -1},
		{"NoTable", []upload.Operation{list, todo}, &pgconn.PgError{Code: "P0001"}, -1},
		{"StillReferenced", []upload.Operation{todo, list}, pg("todos", referenced), 1},
		{"StillReferencedByAnUnknownKey", []upload.Operation{list, todo}, &pgconn.PgError{Code: "23503", SchemaName: "public", TableName: "todos", ConstraintName: "other", Detail: referenced}, 1},
		{"NoOperation", nil, pg("todos", ""), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			order := b.transaction(t, test.operations...).orders[0]
			require.Equal(t, test.want, operationOf(b.tables, order, test.err))
		})
	}
}

// TestNameColumn has the column that is found for a value that Postgres could not read.
func TestNameColumn(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	for _, test := range []struct {
		name      string
		operation upload.Operation
		message   string
		want      string // empty if no column is found
		value     string
	}{
		{"Quoted", write(upload.Put, "lists", "l1", "title", `"\\x"`), `invalid escape in "\\x"`, "title", `"\\x"`},
		{"OfTheKey", write(upload.Delete, "lists", "l1"), `invalid input: "l1"`, "id", `"l1"`},
		{"NotQuoted", write(upload.Put, "lists", "l1", "title", `"abc"`), "invalid input: abc", "", ""},
		{"OtherValue", write(upload.Put, "lists", "l1", "title", `"abc"`), `invalid input: "abcd"`, "", ""},
		{"TwoColumns", write(upload.Put, "lists", "abc", "title", `"abc"`), `invalid input: "abc"`, "", ""},
		{"NullIsNoText", write(upload.Put, "lists", "l1", "title", `null`), `invalid input: ""`, "", ""},
		{"EmptyText", write(upload.Put, "lists", "l1", "title", `""`), `invalid input: ""`, "title", `""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := b.transaction(t, test.operation).orders[0][0]
			r := &upload.Rejection{Code: upload.InvalidData, Message: test.message, Details: map[string]any{"sqlstate": "22P02"}}
			nameColumn(r, o)
			if test.want == "" {
				require.Equal(t, &upload.Rejection{Code: upload.InvalidData, Message: test.message, Details: map[string]any{"sqlstate": "22P02"}}, r)
				return
			}
			require.Equal(t, "public.lists."+test.want+" (text) cannot hold "+test.value+": "+test.message, r.Message)
			require.Equal(t, map[string]any{"table": "public.lists", "column": test.want, "type": "text", "value": test.value}, r.Details)
		})
	}
}

// TestComplete has when the operation and the column are looked for.
func TestComplete(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	tx := b.transaction(t, write(upload.Put, "lists", "l1", "title", `"abc"`), write(upload.Put, "todos", "t1"))
	first := tx.orders[0][0]
	key := &pgconn.PgError{Code: "23503", Message: `"abc"`, SchemaName: "public", TableName: "todos", ConstraintName: "todos_list"}
	data := &pgconn.PgError{Code: "22P02", Message: `invalid input: "abc"`}
	for _, test := range []struct {
		name      string
		step      step
		err       error
		rejection upload.Rejection
		operation int
		named     bool
	}{
		{"EndOfTheTransaction", step{kind: constraints, index: -1}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, 1, false},
		{"Commit", ours(commit, ""), key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, 1, false},
		{"OperationIsKnown", step{kind: constraints, index: 0}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: 0}, 0, false},
		{"OperationOfARuleInGo", step{kind: operation, index: -1}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, -1, false},
		{"NoErrorOfPostgres", step{kind: rule, index: -1}, errors.New("no"), upload.Rejection{Code: "C", Operation: -1}, -1, false},
		{"Value", step{kind: operation, index: 0, operation: first}, data, upload.Rejection{Code: upload.InvalidData, Message: data.Message, Operation: 0}, 0, true},
		{"ValueOfAnotherKind", step{kind: constraints, index: 0, operation: first}, data, upload.Rejection{Code: upload.InvalidData, Message: data.Message, Operation: 0}, 0, false},
		{"OtherCode", step{kind: operation, index: 0, operation: first}, data, upload.Rejection{Code: upload.CheckViolation, Message: data.Message, Operation: 0}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := test.rejection
			complete(&r, b.tables, tx, &failure{step: test.step, err: test.err})
			require.Equal(t, test.operation, r.Operation)
			require.Equal(t, test.named, r.Details != nil)
		})
	}
}

// TestClientHandles has the rejections that are left to the client's app.
func TestClientHandles(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	tx := upload.Transaction{Operations: []upload.Operation{write(upload.Put, "todos", "t1"), write(upload.Put, "lists", "l1"), write(upload.Put, "nothing", "n1")}}
	for _, test := range []struct {
		name      string
		rejection upload.Rejection
		want      bool
	}{
		{"CodeOfTheTable", upload.Rejection{Code: upload.UniqueViolation, Operation: 1}, true},
		{"OtherCode", upload.Rejection{Code: upload.CheckViolation, Operation: 1}, false},
		{"OtherTable", upload.Rejection{Code: upload.UniqueViolation, Operation: 0}, false},
		{"UnknownTable", upload.Rejection{Code: upload.UniqueViolation, Operation: 2}, false},
		{"NoOperation", upload.Rejection{Code: upload.UniqueViolation, Operation: -1}, false},
		{"ByItsRule", upload.Rejection{Code: "C", Operation: -1, ClientHandling: true}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, clientHandles(b.set, &test.rejection, tx))
		})
	}
}
