package conformance_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// cell is one of the table of strategies and verbs: what 20 devices send at the same time.
// All have seen the row with title first, qty 1000 and rev 1.
type cell struct {
	strategy, verb string
	crud           func(table, id string, i int) string
	want           map[string]string // an SQL condition on the row by the outcomes: several if it matters which write is the first
}

const (
	writers   = 20
	succeed   = "20 success"
	firstWins = "1 success, 19 CONFLICT"
	ofOne     = "title = qty::text" // all values are those of one device
	gone      = "id is null"
	changed   = "(select count(*) from changes where doc = id) = " // how often the values were changed
)

// TestConflictStrategiesUnderManyWriters is the table in policies/README.md. For create, the
// devices insert one row. For DELETE, half of them delete the row that the others change.
func TestConflictStrategiesUnderManyWriters(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table docs (id text primary key, title text, qty int, rev int not null default 1, updated_at timestamptz);
		create table changes (doc text);
		create function count_change() returns trigger language plpgsql security definer as 'begin insert into changes values (new.id); return null; end';
		create trigger count_change after update on docs for each row when ((old.title, old.qty) is distinct from (new.title, new.qty)) execute function count_change();
		grant select, insert, update, delete on docs to authenticated;`, `
tables:
  newest: {table: docs, allow: all, conflict: {newest: updated_at}}
  version: {table: docs, allow: all, conflict: {version: rev}}
  fields: {table: docs, allow: all, conflict: fields}
  increment: {table: docs, allow: all, conflict: {increment: [qty]}}
  server: {table: docs, allow: all, conflict: server}
  reject: {table: docs, allow: all, conflict: reject}
  columnNewest: {table: docs, allow: all, conflict: {columns: {title: {newest: updated_at}}}}
  columnFields: {table: docs, allow: all, conflict: {columns: {title: fields, qty: fields}}}
  columnIncrement: {table: docs, allow: all, conflict: {columns: {qty: increment}}}
  columnReject: {table: docs, allow: all, conflict: {columns: {title: reject, qty: reject}}}`)
	for _, cell := range slices.Concat(ofNewest("newest"), ofNewest("columnNewest"), ofVersion(), ofFields("fields"), ofFields("columnFields"),
		ofIncrement("increment"), ofIncrement("columnIncrement"), ofServer(), ofReject("reject"), ofReject("columnReject")) {
		t.Run(cell.strategy+"/"+cell.verb, func(t *testing.T) {
			t.Parallel()
			for round := range 3 {
				id := fmt.Sprint(cell.strategy, cell.verb, round)
				if cell.verb != "create" {
					b.db.Exec(t, `insert into docs (id, title, qty, updated_at) values ($1, 'first', 1000, '2026-11-23')`, id)
				}
				outcomes := summary(atOnce(t, b, writers, func(i int) string { return cell.crud(cell.strategy, id, i) }))
				require.Contains(t, cell.want, outcomes)
				require.Equal(t, "true", b.db.Text(t, `select `+cell.want[outcomes]+` from (select) as one left join docs on id = $1`, id),
					"%s: %s", cell.want[outcomes], b.db.Text(t, `select docs::text from (select) as one left join docs on id = $1`, id))
			}
		})
	}
}

// summary is outcomes as a text.
func summary(outcomes map[string]int) string {
	if conflicts := outcomes["CONFLICT"]; conflicts > 0 {
		return fmt.Sprintf("%d success, %d CONFLICT", outcomes["success"], conflicts)
	}
	return fmt.Sprintf("%d success", outcomes["success"])
}

// or has each second device send something else.
func or(even, odd func(table, id string, i int) string) func(table, id string, i int) string {
	return func(table, id string, i int) string {
		if i%2 == 0 {
			return even(table, id, i)
		}
		return odd(table, id, i)
	}
}

// What the devices send: both values with or without the previous ones, and deletions.
var (
	both      = func(i int) string { return fmt.Sprintf(`"title":"%d","qty":%[1]d`, i) }
	seen      = `"title":"first","qty":1000`
	patchBoth = func(table, id string, i int) string { return patch(table, id, both(i), seen) }
	putBoth   = func(table, id string, i int) string { return put(table, id, both(i), seen) }
	putBlind  = func(table, id string, i int) string { return op("PUT", table, id, both(i)) }
	deletes   = func(table, id string, _ int) string { return op("DELETE", table, id, "") }
	deleteOld = func(table, id string, _ int) string { return deletion(table, id, seen+`,"rev":1`) }
)

func ofNewest(strategy string) []cell {
	timed := func(verb string) func(table, id string, i int) string {
		return func(table, id string, i int) string {
			return op(verb, table, id, fmt.Sprintf(`"title":"%d","updated_at":"2026-11-24T00:00:%02[1]dZ"`, i))
		}
	}
	latest := map[string]string{succeed: `title = '19' and updated_at = '2026-11-24 00:00:19Z'`}
	return []cell{
		{strategy, "create", timed("PUT"), latest},
		{strategy, "PUT", timed("PUT"), latest},
		{strategy, "PATCH", timed("PATCH"), latest},
		{strategy, "DELETE", or(deletes, timed("PATCH")), map[string]string{succeed: gone}},
	}
}

func ofVersion() []cell {
	rev := func(verb string, rev int) func(table, id string, i int) string {
		return func(table, id string, i int) string {
			return op(verb, table, id, fmt.Sprintf(`"title":"%d","qty":%[1]d,"rev":%d`, i, rev))
		}
	}
	one := map[string]string{firstWins: ofOne + " and rev = 2"}
	return []cell{
		{"version", "create", rev("PUT", 1), map[string]string{firstWins: ofOne + " and rev = 1"}},
		{"version", "PUT", rev("PUT", 2), one},
		{"version", "PATCH", rev("PATCH", 2), one},
		{"version", "DELETE", or(deleteOld, rev("PATCH", 2)), map[string]string{succeed: gone, firstWins: ofOne + " and rev = 2"}},
	}
}

func ofFields(strategy string) []cell {
	halves := func(send func(table, id, data, previous string) string) func(table, id string, i int) string {
		return or(
			func(table, id string, i int) string {
				return send(table, id, fmt.Sprintf(`"title":"%d"`, i), `"title":"first"`)
			},
			func(table, id string, i int) string { return send(table, id, fmt.Sprintf(`"qty":%d`, i), `"qty":1000`) })
	}
	firsts := map[string]string{succeed: `title::int % 2 = 0 and qty % 2 = 1 and ` + changed + "2"}
	return []cell{
		{strategy, "create", putBlind, map[string]string{succeed: ofOne}},
		{strategy, "PUT", halves(put), firsts},
		{strategy, "PATCH", halves(patch), firsts},
		{strategy, "DELETE", or(deleteOld, patchBoth), map[string]string{succeed: gone}},
	}
}

func ofIncrement(strategy string) []cell {
	add := func(send func(table, id, data, previous string) string) func(table, id string, i int) string {
		return func(table, id string, i int) string {
			return send(table, id, fmt.Sprintf(`"qty":%d`, 1000+i), `"qty":1000`)
		}
	}
	qty := func(table, id string, i int) string { return op("PUT", table, id, fmt.Sprintf(`"qty":%d`, i)) }
	return []cell{
		{strategy, "create", qty, map[string]string{succeed: changed + "0"}},
		{strategy, "PUT", or(add(put), qty), map[string]string{succeed: `qty = 1000 + 90`}},
		{strategy, "PATCH", add(patch), map[string]string{succeed: `qty = 1000 + 190`}},
		{strategy, "DELETE", or(deletes, add(patch)), map[string]string{succeed: gone}},
	}
}

func ofServer() []cell {
	return []cell{
		{"server", "create", putBlind, map[string]string{succeed: ofOne + " and " + changed + "0"}},
		{"server", "PUT", or(putBoth, putBlind), map[string]string{succeed: ofOne + " and qty % 2 = 0 and " + changed + "1"}},
		{"server", "PATCH", patchBoth, map[string]string{succeed: ofOne + " and " + changed + "1"}},
		{"server", "DELETE", or(deleteOld, patchBoth), map[string]string{succeed: gone + " or " + ofOne + " and " + changed + "1"}},
	}
}

func ofReject(strategy string) []cell {
	one := map[string]string{firstWins: ofOne}
	return []cell{
		{strategy, "create", putBlind, one},
		{strategy, "PUT", or(putBoth, putBlind), map[string]string{firstWins: ofOne + " and qty % 2 = 0"}},
		{strategy, "PATCH", patchBoth, one},
		{strategy, "DELETE", or(deleteOld, patchBoth), map[string]string{succeed: gone, firstWins: ofOne}},
	}
}

// TestDeletesThatATriggerKeeps has 20 devices delete a row at the same time that a trigger
// keeps, with a savepoint whose changes have a transaction id of their own.
func TestDeletesThatATriggerKeeps(t *testing.T) {
	t.Parallel()
	b := setupStrategies(t)
	b.db.Exec(t, `
		create function keep_deleted() returns trigger language plpgsql as $$
		begin
			begin
				update docs set title = 'gone', rev = rev + 1 where id = old.id and title is distinct from 'gone';
			exception when division_by_zero then null;
			end;
			return null;
		end $$;
		create trigger keep_deleted before delete on docs for each row execute function keep_deleted()`)
	for round := range 5 {
		id := fmt.Sprint("kept ", round)
		b.db.Exec(t, `insert into docs (id, title, rev) values ($1, 'first', 1)`, id)
		outcomes := atOnce(t, b, writers, func(i int) string {
			return deletion("version", id, fmt.Sprintf(`"rev":1,"qty":%d`, i))
		})
		require.Equal(t, firstWins, summary(outcomes))
		require.Equal(t, "gone 2", b.db.Text(t, `select concat_ws(' ', title, rev) from docs where id = $1`, id), "by the trigger, once")
	}
}

// atOnce has devices send what crud gives for each at the same time, until it is answered
// for good. It returns the outcomes, counted.
func atOnce(t *testing.T, b *testBundle, devices int, crud func(i int) string) map[string]int {
	t.Helper()
	return requestsAtOnce(t, b, devices, func(i int) string { return `{"transactions":[{"crud":[` + crud(i) + `]}]}` })
}

// requestsAtOnce is atOnce for whole requests.
func requestsAtOnce(t *testing.T, b *testBundle, devices int, body func(i int) string) map[string]int {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	start := make(chan struct{})
	for i := range devices {
		all.Go(func() {
			<-start
			results := b.Upload(t, "alice", body(i)).Results(t)
			for slices.ContainsFunc(results, func(r rig.Result) bool { return r.Status == "retryable_error" }) {
				results = b.Upload(t, "alice", body(i)).Results(t)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, result := range results {
				outcomes[outcome(result)]++
			}
		})
	}
	close(start)
	all.Wait()
	return outcomes
}
