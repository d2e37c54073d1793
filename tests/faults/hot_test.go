package faults_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// What a device writes for a row, an id of its own, and another row.
const (
	increment = `"op":"PATCH","table":"stock","id":"row%[1]d","op_data":{"n":1},"previous_values":{"n":0},"metadata":"%[2]s"`
	sale      = `"op":"PUT","table":"sales","id":"%[2]s","op_data":{"stock_id":"row%[1]d"}`
	line      = `"op":"PUT","table":"lines","id":"%[2]s","op_data":{"stock_id":"row%[3]d"}`
)

// TestHotRows has 20 devices count up five rows that they share, in any order. Requests
// that took the rows' locks crosswise would wait for each other, and end in deadlocks.
// Before a trigger or a foreign key takes locks, nobody knows which: the first deadlocks
// tell that, and others do not follow.
func TestHotRows(t *testing.T) {
	t.Parallel()
	const devices, requests, increments, rows, deadlocks = 20, 5, 10, 5, 20
	for _, test := range []struct {
		name     string
		each     int // increments of a transaction
		policies string
		write    string // increments the row of a number
	}{
		{"TransactionsOfARequest", 1, `tables: {stock: {allow: all, conflict: {increment: [n]}}}`, increment},
		{"OperationsOfATransaction", increments, `tables: {stock: {allow: all, conflict: {increment: [n]}}}`, increment},
		{"UnderARule", 2, `tables: {stock: {allow: all, conflict: {increment: [n]}, rules: [{name: r, check: old.n <= new.n, code: R, message: No}]}}`, increment},
		{"ThroughATrigger", 1, `tables: {sales: {allow: all}}`, sale},
		{"ThroughATriggerInATransaction", increments, `tables: {sales: {allow: all}}`, sale},
		{"WithAForeignKey", 2, `tables: {stock: {allow: all, conflict: {increment: [n]}}, lines: {allow: all}}`, increment + `},{` + line},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := rig.NewDatabase(t)
			db.Exec(t, `create table stock (id text primary key, n int not null);
				create table sales (id uuid primary key, stock_id text);
				create table lines (id uuid primary key, stock_id text references stock);
				grant select, insert, update, delete on stock, sales, lines to authenticated;
				create function sell() returns trigger language plpgsql as 'begin update public.stock set n = n + 1 where id = new.stock_id; return new; end';
				create trigger sell after insert on sales for each row execute function sell()`)
			db.Exec(t, `insert into stock select 'row' || i, 0 from generate_series(0, $1::int - 1) i`, rows)
			s := rig.NewServiceOn(t, db, rig.Policies(t, test.policies))
			w := newWorld(seed(t), func(user string) string { return s.Token(t, user) }, names("device", devices), devices, 0)
			counted := map[string]int{}
			for _, d := range w.devices {
				d.most, d.exactly = increments/test.each, true
				for range requests * increments / test.each {
					d.lastTx++
					crud := make([]string, test.each)
					for i := range crud {
						d.lastOp++
						row := d.random.IntN(rows)
						counted[fmt.Sprint("row", row)]++
						crud[i] = fmt.Sprintf(`{"op_id":%d,%s}`, d.lastOp, fmt.Sprintf(test.write, row, d.uuid(), d.random.IntN(rows)))
					}
					d.written = append(d.written, &transaction{id: d.lastTx, rejected: -1, body: fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, d.lastTx, strings.Join(crud, ","))})
				}
				d.queue = d.written
			}
			w.upload(t.Context(), func() string { return s.URL })
			w.await(t)
			a := w.account()
			compare(a, "increment of", counted, counts(t, db, `select id, n from stock`))
			a.applied, a.rejected = receipts(t, db, "applied"), receipts(t, db, "rejected")
			a.report(t)
			require.Less(t, counts(t, db, `select 'deadlocks', deadlocks::int from pg_stat_database where datname = current_database()`)["deadlocks"], deadlocks)

			slow, err := db.Owner.Begin(t.Context()) // a request that takes long, if they run one at a time by now
			require.NoError(t, err)
			defer slow.Rollback(t.Context())
			_, err = slow.Exec(t.Context(), `select pg_advisory_xact_lock(hashtextextended('postern entangled', 0))`)
			require.NoError(t, err)
			d := w.devices[0]
			require.Equal(t, "success", s.One(t, d.user, "{"+fmt.Sprintf(test.write, 0, d.uuid(), 1)+"}").Status)
		})
	}
}

func names(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}
