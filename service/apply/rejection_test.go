package apply

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/upload"
)

// TestRejectionOf has what a client receives for an error that the application or Postern
// has worded.
func TestRejectionOf(t *testing.T) {
	t.Parallel()
	type details = map[string]any
	const raise = "exec_stmt_raise"
	trigger := "PL/pgSQL function public.check_it() line 3 at RAISE"
	for _, test := range []struct {
		name    string
		err     pgconn.PgError
		code    upload.Code
		message string
		details any
	}{
		{"Raise", pgconn.PgError{Code: "P0001", Message: "no more lists", Detail: "you have 3", Hint: "delete one", TableName: "lists"},
			upload.RejectedByDatabase, "no more lists", details{"sqlstate": "P0001", "detail": "you have 3", "hint": "delete one", "table": "lists"}},
		{"RaiseForPostgREST", pgconn.PgError{Code: "PT402", Message: "pay first", Hint: "upgrade"},
			upload.RejectedByDatabase, "pay first", details{"sqlstate": "PT402", "hint": "upgrade"}},
		{"RaiseAsUnique", pgconn.PgError{Code: "23505", Message: "That seat is taken", Routine: raise, Where: trigger},
			upload.UniqueViolation, "That seat is taken", details{"sqlstate": "23505"}},
		{"RaiseAsCheckWithNames", pgconn.PgError{Code: "23514", Message: "Too many", Detail: "At most 3", TableName: "lists", ColumnName: "qty", ConstraintName: "few", Routine: raise, Where: trigger},
			upload.CheckViolation, "Too many", details{"sqlstate": "23514", "detail": "At most 3", "table": "lists", "column": "qty", "constraint": "few"}},
		{"RaiseAsForeignKey", pgconn.PgError{Code: "23503", Message: "No such list", Routine: raise, Where: trigger},
			upload.ForeignKeyViolation, "No such list", details{"sqlstate": "23503"}},
		{"RaiseAsNotNull", pgconn.PgError{Code: "23502", Message: "Give it a name", Routine: raise, Where: trigger},
			upload.NotNullViolation, "Give it a name", details{"sqlstate": "23502"}},
		{"RaiseAsExclusion", pgconn.PgError{Code: "23P01", Message: "The room is booked", Routine: raise, Where: trigger},
			upload.ConstraintViolation, "The room is booked", details{"sqlstate": "23P01"}},
		{"RaiseAsPrivilege", pgconn.PgError{Code: "42501", Message: "Only managers may", Routine: raise, Where: trigger},
			upload.Unauthorized, "Only managers may", details{"sqlstate": "42501"}},
		{"RaiseInAnotherLanguage", pgconn.PgError{Code: "23505", Message: "That seat is taken", Routine: "PLy_elog_impl"},
			upload.UniqueViolation, "That seat is taken", details{"sqlstate": "23505"}},

		{"Conflict", pgconn.PgError{Code: "PN006", Message: "CONFLICT", Hint: `{"id": "l1", "title": "b"}`},
			upload.Conflict, "the row has changed since it was last synced", nil},
		{"Immutable", pgconn.PgError{Code: "PN006", Message: "IMMUTABLE_COLUMN"}, upload.ImmutableColumn, "a column of the row cannot change once it is set", nil},
		{"Deleted", pgconn.PgError{Code: "PN006", Message: "ROW_DELETED"}, upload.RowDeleted, "the row was deleted: give a new row another id", nil},
		{"NotFound", pgconn.PgError{Code: "PN006", Message: "ROW_NOT_FOUND"}, upload.RowNotFound, "the row does not exist", nil},
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

// TestComplete has when the operation is looked for, and when a rejection gets words.
func TestComplete(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	tx := b.transaction(t, write(upload.Put, "lists", "l1", "title", `"abc"`), write(upload.Put, "todos", "t1"))
	key := &pgconn.PgError{Code: "23503", Message: `"abc"`, SchemaName: "public", TableName: "todos", ConstraintName: "todos_list"}
	for _, test := range []struct {
		name      string
		step      step
		err       error
		rejection upload.Rejection
		operation int
		worded    bool
	}{
		{"EndOfTheTransaction", step{kind: constraints, index: -1}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, 1, true},
		{"Commit", ours(commit, ""), key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, 1, true},
		{"OperationIsKnown", step{kind: constraints, index: 0}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: 0}, 0, true},
		{"OperationOfARuleInGo", step{kind: operation, index: -1}, key, upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}, -1, true},
		{"HasWords", ours(commit, ""), key, upload.Rejection{Code: upload.ForeignKeyViolation, Message: "No such list", Operation: -1}, 1, false},
		{"NoErrorOfPostgres", step{kind: rule, index: -1}, errors.New("no"), upload.Rejection{Code: "C", Operation: -1}, -1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := test.rejection
			complete(&r, b.set, b.tables, tx, &failure{step: test.step, err: test.err})
			require.Equal(t, test.operation, r.Operation)
			require.Equal(t, test.worded, r.Details != nil)
			if !test.worded {
				require.Equal(t, test.rejection.Message, r.Message)
			}
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
