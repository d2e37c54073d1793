package policies_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// passes reports whether a rule over a whole transaction passes.
func passes(t testing.TB, check string, operations ...upload.Operation) (bool, error) {
	t.Helper()
	set := compile(t, "tables: {todos: {allow: all}, lists: {allow: all, unknown_columns: ignore}, nothing: {allow: all, table: lists}}\ntransaction:\n  rules:\n    - {name: r, check: \""+check+"\", code: NO, message: No}\n")
	who := identity.Identity{Subject: "u", Claims: []byte(`{"large": 1e400}`)}
	rejection, err := set.Transaction(t.Context(), &policies.TransactionInput{Who: who, Now: time.Now(), Tx: operations})
	return rejection == nil, err
}

func sent(name, value string) upload.Operation {
	return upload.Operation{Op: upload.Put, Table: "todos", ID: "1", Data: []upload.Member{{Name: name, Value: jsontext.Value(value)}}}
}

// TestBeyondCEL has values that CEL cannot hold. None is treated as a missing value.
func TestBeyondCEL(t *testing.T) {
	t.Parallel()
	for check, want := range map[string]bool{
		"tx.all(o, !has(o.data.price) || o.data.price <= 100)": false,
		"tx.all(o, o.data.price > 100)":                        true,
		"auth.claims.large > 1":                                true,
	} {
		passed, err := passes(t, check, sent("price", "1e400"))
		require.NoError(t, err, check)
		require.Equal(t, want, passed, check)
	}
	_, err := passes(t, "tx.all(o, !has(o.data.price) || o.data.price <= 100)", sent("price", "{"))
	var failed *policies.RuleError
	require.ErrorAs(t, err, &failed)

	row, err := policies.RowFromJSON([]byte(`{"large":-1e400,"whole":7,"nested":{"a":1e999}}`))
	require.NoError(t, err)
	require.Equal(t, "-Inf", row["large"].ConvertToType(types.StringType).Value())
	require.Equal(t, types.Int(7), row["whole"])
	require.False(t, types.IsError(row["nested"]))
}

// TestNameTwice has stored JSON in which names appear twice. Expressions see the last
// value, as the functions of jsonb do.
func TestNameTwice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ json, want string }{
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`{"a":{"x":1},"a":{"y":2}}`, `{"a":{"y":2}}`},
		{`[{"a":[1,2],"a":[3]}]`, `[{"a":[3]}]`},
	} {
		got, err := policies.FromJSON(&catalog.Type{Name: "json", Kind: catalog.Base}, jsontext.Value(test.json))
		require.NoError(t, err)
		want, err := policies.FromJSON(&catalog.Type{Name: "json", Kind: catalog.Base}, jsontext.Value(test.want))
		require.NoError(t, err)
		require.Equal(t, types.True, got.Equal(want), test.json)
	}
}

func TestArrays(t *testing.T) {
	t.Parallel()
	base := func(name string) *catalog.Type { return &catalog.Type{Name: name, Kind: catalog.Base} }
	for _, c := range []struct{ of, sent, want string }{
		{"text", `["a","b"]`, `["a","b"]`},
		{"text", `"[\"a\"]"`, `["a"]`},
		{"text", `"{}"`, `[]`},
		{"text", `" { a , \"b, \\\"c\" ,NULL,\"null\"} "`, `["a","b, \"c",null,"null"]`},
		{"text", `"{ad\\min,x y}"`, `["admin","x y"]`},
		{"text", `"{{a,b},{c,d}}"`, `[["a","b"],["c","d"]]`},
		{"text", `"[1:2]={a,b}"`, `["a","b"]`},
		{"int4", `"{1,2}"`, `[1,2]`},
		{"int4", `["1",2]`, `[1,2]`},
		{"bool", `"{t,f}"`, `[true,false]`},
		{"bool", `[1,0]`, `[true,false]`},
		{"numeric", `"{1.5,NULL}"`, `[1.5,null]`},
		{"uuid", `"{9A1F0F4E-0B1D-4C59-8F0E-2F1F2F0A0001}"`, `["9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001"]`},
		{"jsonb", `"{\"{\\\"a\\\": 1}\"}"`, `[{"a":1}]`},
		{"box", `"{(1,1),(0,0);(2,2),(0,0)}"`, `["(1,1),(0,0)","(2,2),(0,0)"]`},
		{"text", `"{a"`, ``}, {"text", `"{a,}"`, ``}, {"text", `"{\"a\"b}"`, ``}, {"text", `"{a}b"`, ``}, {"text", `"{a\\ }"`, ``}, {"text", `"a"`, ``},
		{"int4", `"{a}"`, ``},
	} {
		list, err := policies.FromSent(&catalog.Type{Name: "_" + c.of, Kind: catalog.Array, Of: base(c.of)}, jsontext.Value(c.sent))
		if c.want == "" {
			require.Error(t, err, c.sent)
			continue
		}
		require.NoError(t, err, c.sent)
		json, err := list.ConvertToNative(types.JSONValueType)
		require.NoError(t, err)
		require.JSONEq(t, c.want, marshalled(t, json), c.sent)
	}
}

func marshalled(t testing.TB, value any) string {
	t.Helper()
	text, err := value.(interface{ MarshalJSON() ([]byte, error) }).MarshalJSON()
	require.NoError(t, err)
	return string(text)
}

// TestMoments has times that Postgres accepts and time.Parse does not.
func TestMoments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-11-23 24:00:00+00": "2026-11-24T00:00:00Z", "2016-12-31 23:59:60+00": "2017-01-01T00:00:00Z", "2026-11-23": "2026-11-23T00:00:00Z",
		"10000-01-01T00:00:00+00:00": "9999-12-31T23:59:59Z", "infinity": "9999-12-31T23:59:59Z", "0044-03-15T00:00:00+00:00 BC": "0001-01-01T00:00:00Z",
	} {
		at, err := policies.ParseMoment(text)
		require.NoError(t, err, text)
		require.Equal(t, want, at.UTC().Format(time.RFC3339), text)
	}
}

// TestOf has the operations that tx.of finds.
func TestOf(t *testing.T) {
	t.Parallel()
	operations := []upload.Operation{
		{Op: upload.Put, Table: "todos", ID: "1", Data: []upload.Member{{Name: "list_id", Value: jsontext.Value(`"a"`)}, {Name: "qty", Value: jsontext.Value(`1.0`)}, {Name: "done", Value: jsontext.Value(`true`)}}},
		{Op: upload.Patch, Table: "todos", ID: "2", Data: []upload.Member{{Name: "list_id", Value: jsontext.Value(`"a"`)}, {Name: "qty", Value: jsontext.Value(`"1"`)}, {Name: "tags", Value: jsontext.Value(`[1]`)}}},
		{Op: upload.Delete, Table: "todos", ID: "3"},
		{Op: upload.Put, Table: "lists", ID: "a", Data: []upload.Member{{Name: "id", Value: jsontext.Value(`"b"`)}, {Name: "list_id", Value: jsontext.Value(`null`)}}},
	}
	for check, want := range map[string]string{
		"tx.of('todos')":                                            "1 2 3",
		"tx.of('lists')":                                            "a",
		"tx.of('nothing')":                                          "",
		"tx.of('todos', 'list_id', 'a')":                            "1 2",
		"tx.of('todos', 'list_id', 'b')":                            "",
		"tx.of('todos', 'id', '2')":                                 "2",
		"tx.of('lists', 'id', 'b')":                                 "", // the row's id, not what was sent as a column
		"tx.of('todos', 'qty', 1)":                                  "1",
		"tx.of('todos', 'qty', 1.0)":                                "1",
		"tx.of('todos', 'qty', '1')":                                "2",
		"tx.of('todos', 'done', true)":                              "1",
		"tx.of('lists', 'list_id', null)":                           "a",
		"tx.of('todos', 'list_id', null)":                           "", // not sent is not null
		"tx.of('todos', 'list_id', 'a').filter(o, o.op == 'patch')": "2",
	} {
		ids := strings.Fields(want)
		passed, err := passes(t, fmt.Sprintf("%s.size() == %d && %s.all(o, o.id in '%s'.split(' '))", check, len(ids), check, want), operations...)
		require.NoError(t, err, check)
		require.True(t, passed, check)
	}
	for check, problem := range map[string]string{
		"tx.of('todos', 'tags', [1]).size() == 0":           "tx.of compares texts, numbers, booleans and null, and not a list",
		"tx.filter(o, true).of('todos').size() == 0":        "of belongs to tx alone",
		"tx.of('todos').of('todos', 'id', '1').size() == 0": "of belongs to tx alone",
	} {
		_, err := passes(t, check, operations...)
		require.ErrorContains(t, err, problem, check)
	}
}

// TestSum adds numbers as they were sent.
func TestSum(t *testing.T) {
	t.Parallel()
	for check, want := range map[string]bool{
		"sum([]) == 0.0":                        true,
		"sum([1, 2]) == 3.0":                    true,
		"sum([0.1, 0.2]) == 0.3":                true,
		"sum(['2.70', 30.1, null]) == 32.8":     true,
		"sum([-1.5, 1.5]) == 0.0":               true,
		"sum(tx.map(o, o.data.price)) == 12.34": true,
	} {
		passed, err := passes(t, check, sent("price", `"12.34"`))
		require.NoError(t, err, check)
		require.Equal(t, want, passed, check)
	}
	for _, check := range []string{"sum([true]) == 1.0", "sum(['a']) == 1.0", "sum(['1/3']) == 1.0", "sum(['1e400']) == 1.0", "sum(['Inf']) == 1.0", "sum(['0x10']) == 16.0", "sum([['1']]) == 1.0"} {
		_, err := passes(t, check, sent("price", `1`))
		require.ErrorContains(t, err, "sum adds numbers", check)
	}
}
