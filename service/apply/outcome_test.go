package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/catalog/catalogtest"
	"postern/service/identity"
	"postern/service/plan"
	"postern/service/upload"
)

// The tables and policies of the tests. The role may not update a log.
const (
	shopTables = `{"tables": [
		{"schema": "public", "name": "lists", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert", "update", "delete"]}, "columns": [
			{"name": "id", "type": "text", "is": "text", "not_null": true},
			{"name": "qty", "type": "smallint", "is": "int2"},
			{"name": "title", "type": "text", "is": "text"}]},
		{"schema": "public", "name": "todos", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert", "update", "delete"]}, "columns": [
			{"name": "id", "type": "text", "is": "text", "not_null": true},
			{"name": "list_id", "type": "text", "is": "text"}],
		 "foreign_keys": [{"name": "todos_list", "schema": "public", "references": "lists", "columns": ["list_id"], "targets": ["id"], "restricts": true}]},
		{"schema": "public", "name": "logs", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert"]}, "columns": [
			{"name": "id", "type": "text", "is": "text", "not_null": true},
			{"name": "title", "type": "text", "is": "text"}]}
	]}`
	seen   = `rules: [{name: r, check: old == null, code: C, message: m}]`
	shopOf = `tables:
  lists: {allow: all, client: [UNIQUE_VIOLATION]}
  todos: {allow: all}
  seen_lists: {table: public.lists, allow: all, ` + seen + `}
  logs: {allow: all, ` + seen + `}
  found_lists: {table: public.lists, allow: all, rules: [{name: r, check: lookup.l == null, code: C, message: m, lookup: {l: select 1 from lists where title = $new.title}}]}`
)

// testBundle is a catalogue with its policies.
type testBundle struct {
	set    *policies.Set
	tables *catalog.Snapshot
}

func setupShop(t *testing.T) testBundle {
	t.Helper()
	tables := catalogtest.Parse(t, []byte(shopTables))
	live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(shopOf)}}, "policies")
	require.NoError(t, err)
	set, err := live.For(tables)
	require.NoError(t, err)
	return testBundle{set, tables}
}

// transaction plans operations, each in the form of upload.Operation.
func (b testBundle) transaction(t *testing.T, operations ...upload.Operation) *transaction {
	t.Helper()
	p := &plan.Planner{Set: b.set, Tables: b.tables, Who: identity.Identity{Subject: "u1", Role: "authenticated"}}
	tx := &transaction{}
	tx.Transaction.Operations = operations
	orders, _, rejection, err := p.Transaction(t.Context(), tx.Transaction)
	require.NoError(t, err)
	require.Nil(t, rejection)
	tx.orders = orders
	return tx
}

// sentOf are the operations of a transaction as they are sent.
func sentOf(t *testing.T, tx *transaction) (operations []*plan.Operation) {
	t.Helper()
	for portion, err := range tx.toSend().Portions(t.Context()) {
		require.NoError(t, err)
		operations = append(operations, portion...)
	}
	return operations
}

// write is an operation. data are names and values in JSON.
func write(op upload.Op, table, id string, data ...string) upload.Operation {
	o := upload.Operation{Op: op, Table: table, ID: id}
	for pair := range slices.Chunk(data, 2) {
		o.Data = append(o.Data, upload.Member{Name: pair[0], Value: []byte(pair[1])})
	}
	return o
}

// steps are a step of each kind, by groups of those whose errors mean the same.
func steps(t *testing.T) map[string][]step {
	t.Helper()
	b := setupShop(t)
	readings := func(op upload.Operation) (list []step) {
		o := sentOf(t, b.transaction(t, op))[0]
		for _, q := range slices.Concat(o.Checks.Before(), o.Checks.After()) {
			list = append(list, step{kind: reading, operation: o, query: q})
		}
		return list
	}
	lookup := readings(write(upload.Put, "found_lists", "l1", "title", `"groceries"`))
	require.Len(t, lookup, 1)
	require.True(t, lookup[0].query.IsLookup())
	return map[string][]step{
		"ours":      {ours(receipts, ""), {kind: record}, ours(record, ""), ours(session, ""), {kind: rule, index: -1}},
		"write":     {{kind: operation, index: 2}, {kind: session, index: -1}, {kind: preRequest, index: -1}, {kind: constraints, index: -1}, ours(commit, "")},
		"row":       readings(write(upload.Patch, "seen_lists", "l1", "title", `"a"`)),
		"ungranted": readings(write(upload.Patch, "logs", "l1", "title", `"a"`)),
		"ahead":     {ours(reading, "")},
		"lookup":    lookup,
	}
}

// TestClassify has what each SQLSTATE means, by what failed: a statement of Postern's
// own around the write, the write, a query for the stored row, or a lookup.
func TestClassify(t *testing.T) {
	t.Parallel()
	type want struct{ ours, write, row, lookup string }
	same := func(word string) want { return want{word, word, word, word} }
	ofWrite := func(code upload.Code) want { return want{"retry", string(code), "retry", "retry"} }
	value := want{"retry", string(upload.InvalidData), string(upload.InvalidData), "retry"}
	groups := steps(t)
	for _, test := range []struct {
		class  string
		states []string
		want   want
	}{
		{"NotNull", []string{"23502"}, ofWrite(upload.NotNullViolation)},
		{"ForeignKey", []string{"23503"}, ofWrite(upload.ForeignKeyViolation)},
		{"Unique", []string{"23505"}, ofWrite(upload.UniqueViolation)},
		{"Check", []string{"23514"}, ofWrite(upload.CheckViolation)},
		{"OtherConstraint", []string{"23000", "23001", "23P01"}, ofWrite(upload.ConstraintViolation)},
		{"Data", []string{"22000", "22001", "22003", "22007", "22P02", "22P05"}, value},
		{"Schema", []string{"42P01", "42703", "42804"}, ofWrite(upload.SchemaMismatch)},
		{"Privilege", []string{"42501"}, ofWrite(upload.Unauthorized)},
		{"Raise", []string{"P0001", "PT400", "PT403", "PT409"}, ofWrite(upload.RejectedByDatabase)},

		{"OtherSyntax", []string{"42601", "42702", "42883", "42P02", "42P10", "42P17"}, same("retry")},
		{"OtherPLpgSQL", []string{"P0000", "P0002", "P0003", "P0004"}, same("retry")},
		{"Ours", []string{"PN001", "PN004", "PN999"}, same("retry")},

		{"Clash", []string{"40001", "40P01"}, same("again")},
		{"ServerGoesAway", []string{"57P01", "57P02", "57P03"}, same("again")},
		{"Connection", []string{"08000", "08003", "08006", "08P01"}, same("again")},

		{"OtherRollback", []string{"40000", "40002", "40003"}, same("retry")},
		{"Intervention", []string{"57000", "57014", "57P04", "57P05"}, same("retry")},
		{"TransactionState", []string{"25000", "25001", "25006", "25P02", "25P03"}, same("retry")},
		{"Login", []string{"28000", "28P01"}, same("retry")},
		{"Database", []string{"3D000", "3F000"}, same("retry")},
		{"Resources", []string{"53000", "53100", "53200", "53300", "53400"}, same("retry")},
		{"Limits", []string{"54000", "54001", "54011", "54023"}, same("retry")},
		{"State", []string{"55000", "55006", "55P02", "55P03"}, same("retry")},
		{"System", []string{"58000", "58030", "58P01"}, same("retry")},
		{"Internal", []string{"XX000", "XX001", "XX002"}, same("retry")},
		{"Unknown", []string{"", "0A000", "0B000", "21000", "2F003", "38000", "39000", "44000", "F0000", "HV000", "ZZ999"}, same("retry")},
	} {
		for group, want := range map[string]string{"ours": test.want.ours, "write": test.want.write, "row": test.want.row, "lookup": test.want.lookup} {
			t.Run(test.class+"/"+group, func(t *testing.T) {
				t.Parallel()
				require.NotEmpty(t, groups[group])
				for _, state := range test.states {
					for _, s := range groups[group] {
						err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: state, Message: "why"})
						requireOutcome(t, want, &failure{step: s, err: err})
					}
				}
			})
		}
	}
}

// requireOutcome expects a word: answered, again, retry, or the code of a rejection.
func requireOutcome(t *testing.T, want string, f *failure) {
	t.Helper()
	expected := outcome{}
	out := classify(f, &catalog.Snapshot{})
	switch want {
	case "answered":
		expected.answered = true
	case "again":
		expected.again = f.err
	case "retry":
		expected.retry = f.err
	default:
		require.NotNil(t, out.rejection, "step %v, error %v", f.kind, f.err)
		require.Equal(t, want, string(out.rejection.Code))
		require.Equal(t, f.index, out.rejection.Operation)
		expected.rejection = out.rejection
	}
	require.Equal(t, expected, out, "step %v, error %v", f.kind, f.err)
}

// TestClassifyAtAStep has errors that mean something else at one step.
func TestClassifyAtAStep(t *testing.T) {
	t.Parallel()
	groups := steps(t)
	pg := func(state, message string) error { return &pgconn.PgError{Code: state, Message: message} }
	receipt := &pgconn.PgError{Code: "23505", ConstraintName: "receipts_pkey"}
	for _, test := range []struct {
		name  string
		steps []step
		err   error
		want  string
	}{
		{"ReceiptExists", []step{ours(receipts, "")}, receipt, "answered"},
		{"OtherConstraintOfReceipts", []step{ours(receipts, "")}, &pgconn.PgError{Code: "23505", ConstraintName: "receipts_other"}, "retry"},
		{"ConstraintOfTheSameName", groups["write"], receipt, "UNIQUE_VIOLATION"},
		{"RecordOfTheSameName", []step{ours(record, "")}, receipt, "retry"},

		{"RowThatTheRoleMayNotUpdate", groups["ungranted"], pg("42501", "permission denied"), "UNAUTHORIZED"},
		{"OtherErrorOfSuchARow", groups["ungranted"], pg("42P01", "no table"), "retry"},
		{"LookupThatTheRoleMayNotRead", groups["lookup"], pg("42501", "permission denied"), "retry"},
		{"LookupQuotesAValue", groups["lookup"], pg("22P02", `invalid input syntax for type uuid: "groceries"`), "INVALID_DATA"},
		{"LookupQuotesAnotherValue", groups["lookup"], pg("22P02", `invalid input syntax for type uuid: "other"`), "retry"},
		{"LookupRaises", groups["lookup"], pg("P0001", `"groceries"`), "retry"},
		{"LockAheadReadsAValue", groups["ahead"], pg("22P02", "invalid input"), "INVALID_DATA"},
		{"LockAheadIsNotAllowed", groups["ahead"], pg("42501", "permission denied"), "retry"},
		{"LockAheadClashes", groups["ahead"], pg("40P01", "deadlock detected"), "again"},

		{"ConnectionLost", slices.Concat(groups["write"], groups["row"], groups["lookup"], groups["ahead"]), io.ErrUnexpectedEOF, "again"},
		{"ConnectionLostBeforeTheWrite", []step{ours(receipts, ""), ours(session, ""), {kind: record}}, errors.New("connection reset"), "again"},
		{"ConnectionLostWithinARule", []step{{kind: rule, index: -1}}, io.ErrUnexpectedEOF, "retry"},
		{"RuleFails", []step{{kind: rule, index: 1}}, &policies.RuleError{Rule: "r", Err: errors.New("division by zero")}, "retry"},
		{"DeadlineOfTheRequest", slices.Concat(groups["ours"], groups["write"], groups["row"], groups["lookup"]), fmt.Errorf("timeout: %w", context.DeadlineExceeded), "retry"},
		{"ClientIsGone", slices.Concat(groups["ours"], groups["write"], groups["row"], groups["lookup"]), fmt.Errorf("timeout: %w", context.Canceled), "retry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range test.steps {
				requireOutcome(t, test.want, &failure{step: s, err: test.err})
			}
		})
	}
}

// TestClassifyWithoutError has a batch that is committed, and a rule that rejects.
func TestClassifyWithoutError(t *testing.T) {
	t.Parallel()
	require.Equal(t, outcome{}, classify(nil, &catalog.Snapshot{}))
	rejection := &upload.Rejection{Code: "C"}
	require.Equal(t, outcome{rejection: rejection}, classify(&failure{step: step{kind: rule}, rejection: rejection}, &catalog.Snapshot{}))
}
