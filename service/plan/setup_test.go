package plan_test

import (
	"bytes"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog/catalogtest"
	"postern/service/identity"
	"postern/service/plan"
	"postern/service/upload"
)

// shop has the tables of most tests. rank is generated, and the id of counters is an
// identity.
const shop = `{"tables": [
	{"schema": "public", "name": "notes", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert", "update", "delete"]}, "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "title", "type": "text", "is": "text", "not_null": true},
		{"name": "qty", "type": "integer", "is": "int4", "has_default": true},
		{"name": "price", "type": "numeric(10,2)", "is": "numeric", "modifier": 655366},
		{"name": "raw", "type": "json", "is": "json"},
		{"name": "rev", "type": "bigint", "is": "int8", "not_null": true, "has_default": true},
		{"name": "at", "type": "timestamp(3) with time zone", "is": "timestamptz", "modifier": 3},
		{"name": "owner_id", "type": "text", "is": "text"},
		{"name": "gone", "type": "boolean", "is": "bool"},
		{"name": "gone_at", "type": "timestamp with time zone", "is": "timestamptz"},
		{"name": "gone_on", "type": "timestamp without time zone", "is": "timestamp"},
		{"name": "rank", "type": "integer", "is": "int4", "has_default": true, "generated": true}]},
	{"schema": "public", "name": "small", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert", "delete"]}, "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "a", "type": "text", "is": "text"},
		{"name": "b", "type": "text", "is": "text"},
		{"name": "rank", "type": "integer", "is": "int4", "has_default": true, "generated": true}]},
	{"schema": "public", "name": "members", "primary_key": ["list_id", "user_id"], "grants": {"authenticated": ["select", "insert", "update", "delete"]}, "columns": [
		{"name": "list_id", "type": "text", "is": "text", "not_null": true},
		{"name": "user_id", "type": "integer", "is": "int4", "not_null": true},
		{"name": "role", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "counters", "primary_key": ["id"], "columns": [
		{"name": "id", "type": "bigint", "is": "int8", "not_null": true, "has_default": true, "identity": true},
		{"name": "label", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "numbers", "primary_key": ["id"], "columns": [
		{"name": "id", "type": "bigint", "is": "int8", "not_null": true, "has_default": true, "identity": true}]},
	{"schema": "public", "name": "secrets", "primary_key": ["id"], "row_security": true, "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "title", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "events", "primary_key": ["id"], "uniques": [["title", "id"]], "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "title", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "triggered", "primary_key": ["id"], "triggers": ["UPDATE"], "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "title", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "audited", "primary_key": ["id"], "other_triggers": true, "columns": [
		{"name": "id", "type": "text", "is": "text", "not_null": true},
		{"name": "title", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "prices", "primary_key": ["price"], "columns": [
		{"name": "price", "type": "numeric(10,2)", "is": "numeric", "modifier": 655366, "not_null": true}]},
	{"schema": "public", "name": "odd \" name", "primary_key": ["the id"], "columns": [
		{"name": "the id", "type": "text", "is": "text", "not_null": true},
		{"name": "a\"b", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "changes", "columns": [
		{"name": "row_id", "type": "text", "is": "text"},
		{"name": "field", "type": "text", "is": "text"},
		{"name": "previous", "type": "jsonb", "is": "jsonb"},
		{"name": "value", "type": "text", "is": "text"},
		{"name": "metadata", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "changes_in_json", "columns": [
		{"name": "row_id", "type": "text", "is": "text"},
		{"name": "field", "type": "text", "is": "text"},
		{"name": "previous", "type": "json", "is": "json"},
		{"name": "value", "type": "jsonb", "is": "jsonb"}]}
]}`

// newPlanner plans for the user u1. tables is a catalogue as catalogtest reads it;
// yaml is a policy file.
func newPlanner(t testing.TB, tables, yaml string) *plan.Planner {
	t.Helper()
	snapshot := catalogtest.Parse(t, []byte(tables))
	live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(yaml)}}, "policies")
	require.NoError(t, err)
	set, err := live.For(snapshot)
	require.NoError(t, err)
	return &plan.Planner{
		Set: set, Tables: snapshot,
		Who: identity.Identity{Subject: "u1", Role: "authenticated", Claims: jsontext.Value(`{}`)},
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// planned plans a transaction that nothing rejects.
func planned(t *testing.T, p *plan.Planner, operations ...upload.Operation) []*plan.Order {
	t.Helper()
	orders, _, rejection, err := p.Transaction(t.Context(), upload.Transaction{Operations: operations})
	require.NoError(t, err)
	require.Nil(t, rejection)
	return orders
}

// sent are the operations of a transaction's first order that nothing rejects.
func sent(t *testing.T, p *plan.Planner, operations ...upload.Operation) []*plan.Operation {
	t.Helper()
	return inOrder(t, planned(t, p, operations...)[0])
}

// inOrder are the operations of an order.
func inOrder(t *testing.T, order *plan.Order) (operations []*plan.Operation) {
	t.Helper()
	for portion, err := range order.Portions(t.Context()) {
		require.NoError(t, err)
		operations = append(operations, portion...)
	}
	return operations
}

// locks are what is locked before the operations of an order.
func locks(t *testing.T, order *plan.Order, contended map[uint32]bool) plan.Locks {
	t.Helper()
	locks, err := plan.LocksOf(t.Context(), []*plan.Order{order}, nil, contended)
	require.NoError(t, err)
	return locks
}

// rejected plans a transaction that is rejected.
func rejected(t *testing.T, p *plan.Planner, operations ...upload.Operation) *upload.Rejection {
	t.Helper()
	orders, _, rejection, err := p.Transaction(t.Context(), upload.Transaction{Operations: operations})
	require.NoError(t, err)
	require.NotNil(t, rejection)
	require.Empty(t, orders)
	return rejection
}

// put, patch and remove are operations. data is a JSON object.
func put(table, id, data string) upload.Operation {
	return upload.Operation{Op: upload.Put, Table: table, ID: id, Data: members(data)}
}

func patch(table, id, data string) upload.Operation {
	return upload.Operation{Op: upload.Patch, Table: table, ID: id, Data: members(data)}
}

func remove(table, id string) upload.Operation {
	return upload.Operation{Op: upload.Delete, Table: table, ID: id}
}

// after is the operation with the values that its client saw before.
func after(previous string, op upload.Operation) upload.Operation {
	op.Previous = members(previous)
	return op
}

// noted is the operation with metadata.
func noted(metadata string, op upload.Operation) upload.Operation {
	op.Metadata = metadata
	return op
}

// members keeps the order of a JSON object, and names that occur twice.
func members(object string) []upload.Member {
	d := jsontext.NewDecoder(bytes.NewReader([]byte(object)), jsontext.AllowDuplicateNames(true))
	list := []upload.Member{}
	must(d.ReadToken())
	for d.PeekKind() == '"' {
		name := must(d.ReadToken()).String()
		list = append(list, upload.Member{Name: name, Value: must(d.ReadValue()).Clone()})
	}
	return list
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// args are a statement's arguments as texts. NULL is "<null>".
func args(s plan.Statement) []string {
	list := make([]string, len(s.Args))
	for i, arg := range s.Args {
		if list[i] = string(arg); arg == nil {
			list[i] = "<null>"
		}
	}
	return list
}
