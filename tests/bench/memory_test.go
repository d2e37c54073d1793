package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

const memoryTables = `
create table many (id text primary key, name text, n int not null default 0, at timestamptz, tags int[], extra jsonb);
create table longs (id text primary key, name text);
insert into longs select n, repeat('a', 200000) from generate_series(0, 200) n;
create table parts (id text primary key, many_id text references many, name text);
create table items (id text primary key, order_id text, n int);
create table changes (row_id text, field text, previous jsonb, value jsonb);
grant select, insert, update, delete on many, parts, items, changes, longs to authenticated`

const memoryPolicies = `
tables:
  plain: {table: many, allow: all}
  parts: {allow: all}
  old: {table: many, allow: all, rules: [{name: r, check: "old == null || old.name != 'x'", code: R, message: m}]}
  old_parts: {table: parts, allow: all, rules: [{name: r, check: "old == null || old.name != 'x'", code: R, message: m}]}
  new: {table: many, allow: all, rules: [{name: r, check: "old == null || old.n < new.n || new.name == 'a' ", code: R, message: m}]}
  looked_up: {table: many, allow: all, rules: [{name: r, check: "lookup.l == null || lookup.l.n < 5", code: R, message: m, lookup: {l: "select n from parts p, many m where p.id = $id and m.id = p.many_id"}}]}
  counted: {table: many, allow: all, rules: [{name: r, check: lookup.l.n < 2, code: R, message: m, lookup: {l: "select count(*) as n from many where id = $id"}}]}
  related: {table: many, allow: all, rules: [{name: r, check: "tx.of('related', 'name', id).size() < 2", code: R, message: m}]}
  whole: {table: many, allow: all}
  items: {allow: all}
  set_by_old: {table: many, allow: all, set: {name: {when: "old == null || old.n != new.n", value: "'set ' + new.name"}}}
  observed: {table: many, allow: all, mode: observe, rules: [{name: r, check: "old == null || old.name == 'x'", code: R, message: m}]}
  historic: {table: many, allow: all, history: changes}
  fields: {table: many, allow: all, conflict: fields}
  increments: {table: many, allow: all, conflict: {increment: [n]}}
  newest: {table: many, allow: all, conflict: {newest: at}}
  columns: {table: many, allow: all, conflict: {columns: {name: fields, n: increment}}}
  everything:
    table: many
    allow: all
    conflict: fields
    immutable: [n]
    history: changes
    set: {tags: "'{1}'"}
    rules: [{name: r, check: "old == null || old.name != 'x' && new.name != 'x' && data != null", code: R, message: m}]
  long: {table: longs, allow: all, rules: [{name: r, check: "old.name != 'x'", code: R, message: m}]}
  rejected: {table: many, allow: all, rules: [{name: r, check: "id != 'row-004999' || old == null && new.n == 5", code: R, message: m}]}
transaction:
  rules:
    - {name: r, check: "tx.all(o, o.table != 'whole' || o.data.name != 'x')", code: R, message: m}
    - {name: sums, each: {items: order_id}, lookup: {items: {rows: select n from items where order_id = $each}}, check: "sum(lookup.items.map(item, item.n)) < 5", code: R, message: m}`

// TestMemory bounds how much memory a request takes, from its first byte to its answer: 8
// times its body, and 1.5 MiB for a portion of its operations. It does not run beside other
// tests, because they share the heap.
func TestMemory(t *testing.T) {
	const operations, most, portion = 5_000, 8, 3 << 19
	const attempts = 3 // because what is allocated while garbage is collected counts as used
	db := rig.NewDatabase(t)
	db.Exec(t, memoryTables)
	s := rig.NewServiceOn(t, db, rig.Policies(t, memoryPolicies))
	send := func(body *body) (answer string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/data", body)
		require.NoError(t, err)
		request.ContentLength = body.length()
		request.Header.Set("Authorization", "Bearer "+s.Token(t, "alice"))
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		sent, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(sent)
	}
	const (
		put    = `{"op":"PUT","table":"%s","id":"row-%%06d","op_data":{"name":"a","n":1}}`
		patch  = `{"op":"PATCH","table":"%s","id":"row-%%06d","op_data":{"name":"b","n":2},"previous_values":{"name":"a","n":1}}`
		remove = `{"op":"DELETE","table":"%s","id":"row-%%06d"}`
		link   = `{"op":"PUT","table":"%s","id":"row-%%06[1]d","op_data":{"many_id":"row-%%06[1]d"}}`
		same   = `{"op":"PATCH","table":"%s","id":"row-%%06d","op_data":{"name":"b","n":2},"previous_values":{"name":"a","n":2}}`
		short  = `{"op":"PUT","table":"%s","id":"%%d","op_data":{}}`
		gone   = `{"op":"DELETE","table":"%s","id":"%%d"}`
		dated  = `{"op":"PUT","table":"%s","id":"row-%%06d","op_data":{"name":"a","at":"2026-01-01T00:00:00Z"}}`
		twice  = `{"op":"PUT","table":"%s","id":"row-%%06d","op_data":{"n":1,"n":2}}`
		item   = `{"op":"PUT","table":"%s","id":"row-%%06[1]d","op_data":{"order_id":"order-%%06[1]d","n":1}}`
		family = `{"op":"PUT","table":"parts","id":"new-%%06[1]d","op_data":{"many_id":"new-%%06[1]d"}},{"op":"PUT","table":"%s","id":"new-%%06[1]d","op_data":{}}`
	)
	send(&body{operation: fmt.Sprintf(put, "plain"), n: 1})
	s.AwaitTidy(t)
	for _, test := range []struct {
		name, operation, table string
		n                      int // operations, if not the usual number
		rejected               bool
		rows                   int // bytes for the rows of some operations
	}{
		{name: "Put", operation: put, table: "plain"},
		{name: "Patch", operation: patch, table: "plain"},
		{name: "PutOfAChild", operation: link, table: "parts"},
		{name: "PutOfAChildBeforeItsParent", operation: family, table: "plain"},
		{name: "PutUnderARuleOverTheOldRow", operation: put, table: "old"},
		{name: "PatchUnderARuleOverTheOldRow", operation: patch, table: "old"},
		{name: "PutUnderARuleOverTheNewRow", operation: put, table: "new"},
		{name: "PatchUnderARuleOverTheNewRow", operation: patch, table: "new"},
		{name: "Lookup", operation: put, table: "looked_up"},
		{name: "Quota", operation: put, table: "counted"},
		{name: "RuleOverRelatedOperations", operation: put, table: "related"},
		{name: "RuleOverTheTransaction", operation: put, table: "whole"},
		{name: "RuleOverRowsAsTheyWillBe", operation: item, table: "items"},
		{name: "SetByTheOldRow", operation: put, table: "set_by_old"},
		{name: "PatchThatSetsByTheOldRow", operation: patch, table: "set_by_old"},
		{name: "RuleThatObserves", operation: patch, table: "observed"},
		{name: "History", operation: patch, table: "historic"},
		{name: "Fields", operation: patch, table: "fields"},
		{name: "Increments", operation: patch, table: "increments"},
		{name: "Newest", operation: dated, table: "newest"},
		{name: "Columns", operation: patch, table: "columns"},
		{name: "Everything", operation: same, table: "everything"},
		{name: "Short", operation: short, table: "plain"},
		{name: "ShortUnderARule", operation: short, table: "old"},
		{name: "ShortDeleteUnderARule", operation: gone, table: "old", n: 2_000},
		{name: "RejectedByARule", operation: put, table: "rejected", rejected: true},
		{name: "Unreadable", operation: twice, table: "plain", rejected: true},
		{name: "DeleteOfAChildUnderARule", operation: remove, table: "old_parts", n: 2_000},
		{name: "DeleteUnderARule", operation: remove, table: "old", n: 2_000},
		{name: "Delete", operation: remove, table: "plain", n: 2_000},

		{name: "LongText", operation: strings.Replace(put, `"a"`, `"`+strings.Repeat("a", 1<<20)+`"`, 1), table: "plain", n: 1},
		{name: "LongArray", operation: strings.Replace(put, `"n":1`, `"tags":[`+strings.Repeat("1,", 1<<19)+`1]`, 1), table: "plain", n: 1},
		{name: "LongJSON", operation: strings.Replace(put, `"n":1`, `"extra":[`+strings.Repeat("1,", 1<<19)+`1]`, 1), table: "plain", n: 1},
		{name: "LongTextUnderARule", operation: strings.Replace(put, `"a"`, `"`+strings.Repeat("a", 10_000)+`"`, 1), table: "old", n: 500},
		{name: "RuleOverLongRows", operation: short, table: "long", n: 200, rows: 16 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, want := cmp.Or(test.n, operations), `"status":"success"`
			if test.rejected {
				want = `"status":"fatal_error"`
			}
			for attempt := 1; ; attempt++ {
				body := &body{operation: fmt.Sprintf(test.operation, test.table), n: n}
				var answer string
				taken, length := peak(func() { answer = send(body) }), int(body.length())
				t.Logf("%d bytes take %.1f times as much", length, float64(taken)/float64(length))
				require.Contains(t, answer, want, "%s", s.Logs)
				if bound := most*length + portion + test.rows; taken < bound || attempt == attempts {
					require.Less(t, taken, bound)
					return
				}
			}
		})
	}
}

// body is a request of a transaction that is made while it is read, so that its client
// takes no memory.
type body struct {
	operation string // a format, of its number
	n         int    // how many there are
	made      int    // how many have been read
	rest      []byte // of the one that is read
}

const bodyStart, bodyEnd = `{"transactions":[{"crud":[`, `]}]}`

func (b *body) Read(p []byte) (n int, err error) {
	if len(b.rest) == 0 {
		if b.made > b.n {
			return 0, io.EOF
		}
		b.rest = b.part(b.made)
		b.made++
	}
	n = copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// part is the operation of a number, or the end.
func (b *body) part(i int) []byte {
	switch i {
	case 0:
		return fmt.Appendf([]byte(bodyStart), b.operation, i)
	case b.n:
		return []byte(bodyEnd)
	}
	return fmt.Appendf([]byte(","), b.operation, i)
}

func (b *body) length() (length int64) {
	for i := range b.n + 1 {
		length += int64(len(b.part(i)))
	}
	return length
}

// peak returns by how many bytes the live heap and the stacks grow at most while f runs.
// Garbage is collected all the time.
func peak(f func()) (most int) {
	runtime.GC()
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(2))
	used := func() int {
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(samples)
		return int(samples[0].Value.Uint64() + samples[1].Value.Uint64())
	}
	before, ended, measured := used(), make(chan bool), make(chan bool)
	go func() {
		defer close(measured)
		ticks := time.NewTicker(time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticks.C:
				most = max(most, used()-before)
			}
		}
	}()
	f()
	close(ended)
	<-measured
	return most
}
