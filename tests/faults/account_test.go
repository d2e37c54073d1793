package faults_test

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// account is what became of a test's transactions. Each test ends with one.
type account struct {
	sent, acknowledged int           // transactions of the devices
	applied, rejected  int           // transactions, as the database has them
	lost, doubled      int           // effects and records that are missing, and those that are there too often
	stall              time.Duration // the longest that a device waited until more of its queue was answered for good

	wrong []string
}

// compare counts what is lost and doubled: how often each key should be there, and is.
func compare[K comparable](a *account, what string, want, got map[K]int) {
	differ := func(k K) {
		a.lost += max(0, want[k]-got[k])
		a.doubled += max(0, got[k]-want[k])
		if want[k] != got[k] {
			a.wrong = append(a.wrong, fmt.Sprintf("%s %v: %d times, not %d", what, k, got[k], want[k]))
		}
	}
	for k := range want {
		differ(k)
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			differ(k)
		}
	}
}

// report logs the account as a table, and requires that nothing is lost or doubled. It
// names a few of the differences; all would fill the screen.
func (a *account) report(t *testing.T) {
	t.Helper()
	var table bytes.Buffer
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(columns, "sent\tacknowledged\tapplied\trejected\tlost\tdoubled\tlongest stall\t")
	fmt.Fprintf(columns, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", a.sent, a.acknowledged, a.applied, a.rejected, a.lost, a.doubled, a.stall.Round(time.Millisecond))
	require.NoError(t, columns.Flush())
	t.Logf("\n%s", table.String())
	require.Empty(t, a.wrong[:min(10, len(a.wrong))], "%d are wrong", len(a.wrong))
	require.Zero(t, a.lost, "lost")
	require.Zero(t, a.doubled, "doubled")
}

// account is the devices' side of it.
func (w *world) account() *account {
	a := &account{sent: w.transactions(), acknowledged: int(w.done.Load())}
	for _, d := range w.devices {
		a.stall = max(a.stall, d.stall)
	}
	return a
}

// receipts is how many transactions were applied, or rejected, as the receipts say. Those
// that changed nothing have none.
func receipts(t *testing.T, db *rig.Database, outcome string) int {
	t.Helper()
	n, err := strconv.Atoi(db.Text(t, `select count(*) from postern.receipts where outcome = $1`, outcome))
	require.NoError(t, err)
	return n
}

// effect is a line of the table effects.
type effect struct{ marker, op string }

// expected is what the devices wrote.
type expected struct {
	effects   map[effect]int
	rows      map[string]string
	counters  map[string]int
	rejected  map[string]int
	effective int // transactions that a receipt must exist for; for the others it may
}

func (w *world) expected() expected {
	x := expected{map[effect]int{}, map[string]string{}, map[string]int{}, map[string]int{}, 0}
	for _, d := range w.devices {
		for _, tx := range d.written {
			if tx.rejected >= 0 || len(tx.effects) > 0 {
				x.effective++
			}
			if tx.rejected >= 0 {
				x.rejected[fmt.Sprintf("%s %d %d", d.clientID, tx.id, tx.rejected)]++
				continue
			}
			for _, e := range tx.effects {
				x.effects[e]++
			}
			for id, n := range tx.counted {
				x.counters[id] += n
			}
		}
		for id, e := range d.rows.entries {
			x.rows[id] = e.String()
		}
	}
	return x
}

// applied counts the transactions whose effects are all there.
func (w *world) applied(effects map[effect]int) (n int) {
	for _, d := range w.devices {
	transactions:
		for _, tx := range d.written {
			if tx.rejected >= 0 {
				continue
			}
			for _, e := range tx.effects {
				if effects[e] == 0 {
					continue transactions
				}
			}
			n++
		}
	}
	return n
}

// verify holds what is in the database against what the devices wrote: every
// effect of every transaction once and no other, every row as it should be, every
// rejection stored once.
func (w *world) verify(t *testing.T, db *rig.Database) {
	t.Helper()
	want, a := w.expected(), w.account()
	effects := map[effect]int{}
	collect(t, db, `select marker, op, count(*)::integer from effects group by 1, 2`, func(row pgx.CollectableRow) error {
		var (
			e effect
			n int
		)
		err := row.Scan(&e.marker, &e.op, &n)
		effects[e] = n
		return err
	})
	compare(a, "effect", want.effects, effects)
	compare(a, "counter", want.counters, counts(t, db, `select id::text, n from counters where n <> 0`))
	rejected := counts(t, db, `select concat_ws(' ', client_id, transaction ->> 'transaction_id', operation_index), count(*)::integer from postern.rejected_writes group by 1`)
	compare(a, "rejected write", want.rejected, rejected)
	a.applied, a.rejected = w.applied(effects), len(rejected)
	a.report(t)

	require.Equal(t, "0", db.Text(t, `select count(*) from postern.rejected_writes where code <> 'CHECK_VIOLATION'`))
	rows := map[string]string{}
	collect(t, db, `select id::text, amount, marker from entries`, func(row pgx.CollectableRow) error {
		var (
			id string
			e  entry
		)
		err := row.Scan(&id, &e.amount, &e.marker)
		rows[id] = e.String()
		return err
	})
	require.Equal(t, len(want.rows), len(rows), "entries")
	for id, row := range want.rows {
		require.Equal(t, row, rows[id], "entry %s", id)
	}
	made := receipts(t, db, "applied") + receipts(t, db, "rejected")
	require.GreaterOrEqual(t, made, want.effective, "receipts")
	require.LessOrEqual(t, made, a.sent, "receipts")
}

// counts reads how often each key is there.
func counts(t *testing.T, db *rig.Database, sql string) map[string]int {
	t.Helper()
	found := map[string]int{}
	collect(t, db, sql, func(row pgx.CollectableRow) error {
		var (
			key string
			n   int
		)
		err := row.Scan(&key, &n)
		found[key] = n
		return err
	})
	return found
}

func collect(t *testing.T, db *rig.Database, sql string, scan func(pgx.CollectableRow) error) {
	t.Helper()
	rows, err := db.Owner.Query(t.Context(), sql)
	require.NoError(t, err)
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, scan(row) })
	require.NoError(t, err)
}
