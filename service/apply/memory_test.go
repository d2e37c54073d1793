package apply

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog/catalogtest"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

const memoryTables = `{"tables": [{"schema": "public", "name": "lists", "primary_key": ["id"], "grants": {"authenticated": ["select", "insert", "update", "delete"]}, "columns": [
	{"name": "id", "type": "uuid", "is": "uuid", "not_null": true}, {"name": "name", "type": "text", "is": "text"}, {"name": "n", "type": "integer", "is": "int4"},
	{"name": "tags", "type": "integer[]", "is": {"name": "_int4", "kind": "a", "of": "int4"}}, {"name": "extra", "type": "jsonb", "is": "jsonb"}]}]}`

// TestMemory measures what is live when a request is about to be sent to the database: its
// body, its operations, their plans and the steps. It is at most 8 times the body, of
// which an operation counts as 100 bytes or more, and as 400 if its table has rules or
// guards, as in the service's budget of bodies.
//
// The test does not run beside others, because they share the heap.
func TestMemory(t *testing.T) {
	const most, plain, guarded, operations = 8, 100, 400, 10_000
	const open = `tables: {"*": {allow: all, because: x}}`
	for _, test := range []struct {
		name, policies, operation string
		n, counts                 int // operations, and the bytes that each counts as
	}{
		{"Puts", open, `{"op":"PUT","table":"lists","id":"%s","op_data":{"name":"a","n":1}}`, operations, plain},
		{"Deletes", open, `{"op":"DELETE","table":"lists","id":"%s"}`, operations, plain},
		{"Rule", `tables: {lists: {allow: all, rules: [{name: r, check: old.name != new.name, code: R, message: m}]}}`, `{"op":"PATCH","table":"lists","id":"%s","op_data":{"name":"a","n":1}}`, operations, guarded},
		{"Lookup", `tables: {lists: {allow: all, rules: [{name: r, lookup: {l: select name from lists where name = $new.name}, check: lookup.l == null, code: R, message: m}]}}`, `{"op":"PUT","table":"lists","id":"%s","op_data":{"name":"a","n":1}}`, operations, guarded},
		{
			"Everything", `tables: {lists: {allow: all, conflict: fields, immutable: [n], set: {name: auth.sub}, rules: [{name: r, check: old == null || old.name != new.name && data != null, code: R, message: m}]}}`,
			`{"op":"PUT","table":"lists","id":"%s","op_data":{"name":"a","n":1},"previous_values":{"name":"a"}}`, operations, guarded,
		},
		{"LongText", open, `{"op":"PUT","table":"lists","id":"%s","op_data":{"name":"` + strings.Repeat("a", 1<<20) + `"}}`, 1, plain},
		{"LongArray", open, `{"op":"PUT","table":"lists","id":"%s","op_data":{"tags":[` + strings.Repeat("1,", 1<<19) + `1]}}`, 1, plain},
		{"LongJSON", open, `{"op":"PUT","table":"lists","id":"%s","op_data":{"extra":[` + strings.Repeat("1,", 1<<19) + `1]}}`, 1, plain},
	} {
		t.Run(test.name, func(t *testing.T) {
			snapshot := catalogtest.Parse(t, []byte(memoryTables))
			live, err := policies.LoadFS(fstest.MapFS{"app.yaml": {Data: []byte(test.policies)}}, "policies")
			require.NoError(t, err)
			set, err := live.For(snapshot)
			require.NoError(t, err)
			who := identity.Identity{Subject: "u", Role: "authenticated", Claims: jsontext.Value(`{}`)}

			before := heap()
			var crud strings.Builder
			for i := range test.n {
				if i > 0 {
					crud.WriteByte(',')
				}
				fmt.Fprintf(&crud, test.operation, fmt.Sprintf("8d2ad2f5-5a5b-4c52-9e5e-%012d", i))
			}
			body := []byte(`{"transactions":[{"transaction_id":1,"crud":[` + crud.String() + `]}]}`)
			crud.Reset()
			batch, err := upload.DecodeBatch(body)
			require.NoError(t, err)
			all := []*transaction{{Entry: ledger.NewEntry(who, "device", batch.Transactions[0])}}
			r := &request{Applier: &Applier{}, snapshot: snapshot, set: set, who: who, now: time.Now()}
			r.plan(t.Context(), all)
			require.Nil(t, all[0].Rejection)
			require.Nil(t, all[0].failed)
			steps, err := prologue(t.Context(), r, all, lockTimeout)
			require.NoError(t, err)
			a := &attempt{request: r, transactions: all}
			steps = a.transactionSteps(append(steps, a.lockSteps(all)...), 0, all[0])

			taken, counted := heap()-before, max(len(body), test.n*test.counts)
			t.Logf("%d bytes of %d operations: %.1f times the body", len(body), test.n, float64(taken)/float64(len(body)))
			require.Less(t, taken, most*counted)
			for _, used := range []any{body, batch, all, steps} {
				runtime.KeepAlive(used)
			}
		})
	}
}

// heap is how many bytes are live.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
