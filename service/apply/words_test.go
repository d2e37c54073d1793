package apply

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog/catalogtest"
	"postern/service/upload"
)

// setupNames is the shop under other names: clients know its lists as baskets, with
// other names of columns, and do not know its logs.
func setupNames(t *testing.T) testBundle {
	t.Helper()
	tables := catalogtest.Parse(t, []byte(shopTables))
	lists := tables.Table("public", "lists")
	lists.Constrained = map[string][]string{"lists_title": {"title"}, "lists_both": {"title", "qty"}, "lists_qty": {"qty"}, "lists_lower": nil}
	live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(`tables:
  baskets: {table: public.lists, allow: all, columns: {name: title, amount: qty}}
  plain_lists: {table: public.lists, allow: all}
  todos: {allow: all, columns: {basket_id: list_id}}`)}}, "policies")
	require.NoError(t, err)
	set, err := live.For(tables)
	require.NoError(t, err)
	return testBundle{set, tables}
}

// TestWords has what a client receives for an error of Postgres' own.
func TestWords(t *testing.T) {
	t.Parallel()
	b := setupNames(t)
	type details = map[string]any
	basket, todo := write(upload.Put, "baskets", "l1", "name", `"abc"`, "amount", `7`), write(upload.Put, "todos", "t1", "basket_id", `"l1"`)
	of := func(table string, pg pgconn.PgError) pgconn.PgError {
		pg.SchemaName, pg.TableName = "public", table
		return pg
	}
	const (
		referenced = `Key (id)=(l1) is still referenced from table "todos".`
		trigger    = `PL/pgSQL function public.check_it() line 3 at assignment`
	)
	for _, test := range []struct {
		name      string
		operation upload.Operation
		err       pgconn.PgError
		message   string
		details   any
	}{
		{"NotNull", basket, of("lists", pgconn.PgError{Code: "23502", Message: "null value", ColumnName: "title", Detail: "Failing row contains (secret)."}),
			"baskets.name must have a value", details{"sqlstate": "23502", "table": "baskets", "column": "name"}},
		{"NotNullOfADomain", basket, pgconn.PgError{Code: "23502", SchemaName: "public", DataTypeName: "smallint"},
			"baskets.amount must have a value", details{"sqlstate": "23502", "table": "baskets"}},
		{"NotNullOfATableThatClientsDoNotKnow", basket, of("logs", pgconn.PgError{Code: "23502", ColumnName: "title", Where: trigger}),
			"title must have a value", details{"sqlstate": "23502", "table": "logs", "column": "title"}},
		{"NoSuchParent", todo, of("todos", pgconn.PgError{Code: "23503", ConstraintName: "todos_list", Detail: `Key (list_id)=(l1) is not present in table "lists".`}),
			"todos.basket_id refers to a row of baskets that does not exist", details{"sqlstate": "23503", "table": "todos", "constraint": "todos_list"}},
		{"NoSuchParentOfAnUnknownKey", todo, of("todos", pgconn.PgError{Code: "23503", ConstraintName: "other"}),
			"this row of todos refers to a row that does not exist", details{"sqlstate": "23503", "table": "todos", "constraint": "other"}},
		{"StillReferenced", basket, of("todos", pgconn.PgError{Code: "23503", ConstraintName: "todos_list", Detail: referenced}),
			"other rows of todos still refer to this one: change or delete them first", details{"sqlstate": "23503", "table": "todos", "constraint": "todos_list"}},
		{"Restricted", basket, of("logs", pgconn.PgError{Code: "23001", ConstraintName: "logs_list"}),
			"other rows still refer to this one: change or delete them first", details{"sqlstate": "23001", "table": "logs", "constraint": "logs_list"}},
		{"Unique", basket, of("lists", pgconn.PgError{Code: "23505", ConstraintName: "lists_title", Detail: "Key (title)=(secret) already exists."}),
			"another row of baskets already has this name", details{"sqlstate": "23505", "table": "baskets", "constraint": "lists_title"}},
		{"UniqueOfTwo", basket, of("lists", pgconn.PgError{Code: "23505", ConstraintName: "lists_both"}),
			"another row of baskets already has this name and amount", details{"sqlstate": "23505", "table": "baskets", "constraint": "lists_both"}},
		{"UniqueOfAnExpression", basket, of("lists", pgconn.PgError{Code: "23505", ConstraintName: "lists_lower"}),
			"another row of baskets already has the same value", details{"sqlstate": "23505", "table": "baskets", "constraint": "lists_lower"}},
		{"UniqueInATrigger", basket, of("logs", pgconn.PgError{Code: "23505", ConstraintName: "logs_pkey", Where: trigger}),
			"another row already has the same value", details{"sqlstate": "23505", "table": "logs", "constraint": "logs_pkey"}},
		{"UniqueOfAPartition", basket, of("lists_2026", pgconn.PgError{Code: "23505", ConstraintName: "lists_2026_title"}),
			"another row of baskets already has the same value", details{"sqlstate": "23505", "table": "baskets", "constraint": "lists_2026_title"}},
		{"Check", basket, of("lists", pgconn.PgError{Code: "23514", ConstraintName: "lists_qty"}),
			"baskets.amount has a value that is not allowed", details{"sqlstate": "23514", "table": "baskets", "constraint": "lists_qty"}},
		{"CheckOfTwo", basket, of("lists", pgconn.PgError{Code: "23514", ConstraintName: "lists_both"}),
			"this row of baskets has values of name and amount that are not allowed together", details{"sqlstate": "23514", "table": "baskets", "constraint": "lists_both"}},
		{"CheckOfNone", basket, of("lists", pgconn.PgError{Code: "23514", ConstraintName: "other"}),
			"this row of baskets has a value that is not allowed", details{"sqlstate": "23514", "table": "baskets", "constraint": "other"}},
		{"CheckOfADomain", basket, pgconn.PgError{Code: "23514", DataTypeName: "smallint", ConstraintName: "few"},
			"baskets.amount has a value that is not allowed", details{"sqlstate": "23514", "table": "baskets", "constraint": "few"}},
		{"CheckOfADomainOfTwo", basket, pgconn.PgError{Code: "23514", DataTypeName: "text", ConstraintName: "short"},
			"a column has a value that is not allowed", details{"sqlstate": "23514", "table": "baskets", "constraint": "short"}},
		{"Exclusion", basket, of("lists", pgconn.PgError{Code: "23P01", ConstraintName: "lists_qty"}),
			"this row of baskets conflicts with another one in its amount", details{"sqlstate": "23P01", "table": "baskets", "constraint": "lists_qty"}},
		{"OtherConstraint", basket, of("lists", pgconn.PgError{Code: "23000", ConstraintName: "x"}),
			"this row of baskets conflicts with a constraint of the database", details{"sqlstate": "23000", "table": "baskets", "constraint": "x"}},

		{"Hidden", basket, pgconn.PgError{Code: "PN006", Message: "UNAUTHORIZED", Where: "PL/pgSQL function postern.explain_no_row(text) line 3 at RAISE", Routine: "exec_stmt_raise"},
			"the row exists and is not yours to change", details{"table": "baskets"}},
		{"Security", basket, pgconn.PgError{Code: "42501", Message: `new row violates row-level security policy for table "lists"`},
			"you are not allowed to write this row of baskets", details{"sqlstate": "42501", "table": "baskets"}},
		{"SecurityByName", basket, pgconn.PgError{Code: "42501", Message: `new row violates row-level security policy "no archive" for table "lists"`},
			"you are not allowed to write this row of baskets", details{"sqlstate": "42501", "table": "baskets", "rule": "no archive"}},
		{"Privilege", basket, pgconn.PgError{Code: "42501", Message: "permission denied for table lists", Routine: "aclcheck_error"},
			"you are not allowed to write this to baskets", details{"sqlstate": "42501", "table": "baskets"}},
		{"Schema", basket, pgconn.PgError{Code: "42703", Message: `column "x" does not exist`},
			"the write does not fit the tables of the database", details{"sqlstate": "42703", "table": "baskets", "reason": `column "x" does not exist`}},

		{"TooLong", basket, pgconn.PgError{Code: "22001", Message: "value too long for type character varying(5)"},
			"a value cannot be stored: it is longer than 5 characters", details{"sqlstate": "22001", "table": "baskets", "reason": "value too long for type character varying(5)"}},
		{"TooLarge", basket, pgconn.PgError{Code: "22003", Message: "integer out of range"},
			"a value cannot be stored: it is too large or too small", details{"sqlstate": "22003", "table": "baskets", "reason": "integer out of range"}},
		{"OtherData", basket, pgconn.PgError{Code: "22000", Message: "range lower bound must be less than or equal to range upper bound", Hint: "a hint", Detail: "a detail"},
			"a value cannot be stored: range lower bound must be less than or equal to range upper bound",
			details{"sqlstate": "22000", "table": "baskets", "reason": "range lower bound must be less than or equal to range upper bound"}},
		{"LongWords", basket, pgconn.PgError{Code: "22000", Message: strings.Repeat("x", 400)},
			"a value cannot be stored: " + strings.Repeat("x", 300) + "…", details{"sqlstate": "22000", "table": "baskets", "reason": strings.Repeat("x", 300) + "…"}},
		{"OfAColumn", basket, pgconn.PgError{Code: "22P02", Message: `malformed literal: "abc"`},
			`baskets.name cannot hold "abc": it is not of the column's type`,
			details{"sqlstate": "22P02", "table": "baskets", "column": "name", "type": "text", "value": `"abc"`, "reason": `malformed literal: "abc"`}},
		{"OfTheKey", write(upload.Delete, "baskets", "l1"), pgconn.PgError{Code: "22P02", Message: `invalid input: "l1"`},
			`baskets.id cannot hold "l1": it is not of the column's type`,
			details{"sqlstate": "22P02", "table": "baskets", "column": "id", "type": "text", "value": `"l1"`, "reason": `invalid input: "l1"`}},
		{"OfTwoColumns", write(upload.Put, "baskets", "abc", "name", `"abc"`), pgconn.PgError{Code: "22P02", Message: `invalid input: "abc"`},
			"a value cannot be stored: it is not of the column's type", details{"sqlstate": "22P02", "table": "baskets"}},
		{"OfNoColumn", write(upload.Put, "baskets", "l1", "name", `null`), pgconn.PgError{Code: "22P02", Message: `invalid input: ""`},
			"a value cannot be stored: it is not of the column's type", details{"sqlstate": "22P02", "table": "baskets"}},
		{"OfAnotherRow", basket, pgconn.PgError{Code: "2201E", Message: `cannot work with "secret"`},
			"a value cannot be stored: it is not valid", details{"sqlstate": "2201E", "table": "baskets"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tx := b.transaction(t, test.operation)
			f := &failure{step: step{kind: operation, index: 0, operation: sentOf(t, tx)[0]}, err: &test.err}
			r := rejectionOf(f, b.tables, &test.err)
			require.NotNil(t, r)
			require.Empty(t, r.Message)
			complete(r, b.set, b.tables, tx, f)
			require.Equal(t, test.message, r.Message)
			require.Equal(t, test.details, r.Details)
		})
	}
}

// TestRowOfAConflict has the stored row as the client names its columns. Values keep their
// digits.
func TestRowOfAConflict(t *testing.T) {
	t.Parallel()
	b := setupNames(t)
	const stored = `{"id": "l1", "qty": 12345678901234567890.10, "title": null}`
	for _, test := range []struct{ table, want string }{
		{"baskets", `{"amount":12345678901234567890.10,"id":"l1","name":null}`},
		{"plain_lists", stored},
	} {
		t.Run(test.table, func(t *testing.T) {
			t.Parallel()
			tx := b.transaction(t, write(upload.Delete, test.table, "l1"))
			pg := &pgconn.PgError{Code: "PN006", Message: "CONFLICT", Hint: stored, Where: "PL/pgSQL function postern.explain_no_row(text) line 3 at RAISE"}
			f := &failure{step: step{kind: operation, index: 0, operation: sentOf(t, tx)[0]}, err: pg}
			r := rejectionOf(f, b.tables, pg)
			complete(r, b.set, b.tables, tx, f)
			require.Equal(t, "the row has changed since it was last synced", r.Message)
			require.Equal(t, test.want, string(r.Details.(map[string]any)["row"].(jsontext.Value)))
		})
	}
}

// TestWordsOfATrigger has an error in a trigger, which may quote rows of other users.
func TestWordsOfATrigger(t *testing.T) {
	t.Parallel()
	b := setupNames(t)
	tx := b.transaction(t, write(upload.Put, "baskets", "l1"))
	pg := &pgconn.PgError{Code: "22P02", Message: `invalid input: "secret"`, Where: `PL/pgSQL function public.check_it() line 3 at assignment`}
	r := &upload.Rejection{Code: upload.RejectedByDatabase, Operation: 0}
	complete(r, b.set, b.tables, tx, &failure{step: step{kind: operation, index: 0, operation: sentOf(t, tx)[0]}, err: pg})
	require.Equal(t, "the database cannot work with a value of this write", r.Message)
	require.Equal(t, map[string]any{"sqlstate": "22P02"}, r.Details)
}

// TestWordsAtTheEnd has errors that come when a transaction ends: then it is not known
// which statement caused them.
func TestWordsAtTheEnd(t *testing.T) {
	t.Parallel()
	b := setupNames(t)
	tx := b.transaction(t, write(upload.Put, "baskets", "l1"), write(upload.Put, "todos", "t1"))
	pg := &pgconn.PgError{Code: "23503", SchemaName: "public", TableName: "todos", ConstraintName: "todos_list"}
	for _, operation := range []int{-1, 1} {
		t.Run(map[bool]string{true: "Known", false: "Unknown"}[operation >= 0], func(t *testing.T) {
			t.Parallel()
			tx := *tx
			if operation < 0 {
				tx.orders = b.transaction(t, write(upload.Put, "todos", "t1"), write(upload.Put, "todos", "t2")).orders
			}
			r := &upload.Rejection{Code: upload.ForeignKeyViolation, Operation: -1}
			complete(r, b.set, b.tables, &tx, &failure{step: ours(commit, ""), err: pg})
			require.Equal(t, operation, r.Operation)
			require.Equal(t, "todos.basket_id refers to a row of baskets that does not exist", r.Message)
		})
	}
}
