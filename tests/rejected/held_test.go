package rejected_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/service/upload"
)

// device is one whose transactions are rejected for its app to decide about, as
// the ledger sees it.
type device struct {
	*testBundle
	l          *ledger.Ledger
	pool       *pgxpool.Pool
	user, name string
}

func (b *testBundle) device(t *testing.T, user, name string) *device {
	t.Helper()
	l, pool := b.ledger(t)
	return &device{b, l, pool, user, name}
}

func clientHandling() *upload.Rejection {
	return &upload.Rejection{Code: "LIST_ARCHIVED", Message: "the list is archived", Rule: "open-list", Operation: 0, ClientHandling: true}
}

// send is what a request with one transaction leaves in the ledger.
func (d *device) send(t *testing.T, id int, rejection *upload.Rejection) error {
	t.Helper()
	e := d.entry(d.user, d.name, id, rejection)
	who := d.who(d.user)
	settle, ok := ledger.Settle(who, d.name, []*ledger.Entry{&e})
	require.True(t, ok)
	statements := []ledger.Statement{settle}
	if rejection != nil {
		rejected, err := d.l.Rejected(who, d.name, "sha", e)
		require.NoError(t, err)
		statements = append(statements, rejected)
	}
	return in(t, d.pool, statements...)
}

// record is the id of the record of one of the device's transactions.
func (d *device) record(t *testing.T, id int) string {
	t.Helper()
	sum := d.entry(d.user, d.name, id, nil).Digest.Sum
	return d.db.Text(t, `select id::text from postern.rejected_writes where digest = $1`, sum[:])
}

func TestHeldWrites(t *testing.T) {
	b := setup(t)

	t.Run("OneRowHoweverOftenItIsRetried", func(t *testing.T) {
		d := b.device(t, "alice", "tablet")
		for range 3 {
			require.NoError(t, d.send(t, 1, clientHandling()))
		}
		record := d.record(t, 1)
		require.Equal(t, "held", d.status(t, record))
		require.Equal(t, "3", d.db.Text(t, `select attempts from postern.rejected_writes where id = $1::uuid`, record))
		require.Equal(t, "open-list", d.db.Text(t, `select rule from postern.rejected_writes where id = $1::uuid`, record))
		require.Equal(t, "0", d.db.Text(t, `select count(*) from postern.receipts`))
	})

	t.Run("ResolvedByItsSuccess", func(t *testing.T) {
		d := b.device(t, "alice", "resolving")
		require.NoError(t, d.send(t, 1, clientHandling()))
		require.NoError(t, d.send(t, 1, nil))
		require.Equal(t, "resolved", d.status(t, d.record(t, 1)))
		require.Equal(t, "resolved by postern", d.actions(t, d.record(t, 1)))
	})

	t.Run("ReleasedByALaterOne", func(t *testing.T) {
		d, other := b.device(t, "alice", "releasing"), b.device(t, "alice", "other")
		require.NoError(t, d.send(t, 4, clientHandling()))
		require.NoError(t, other.send(t, 9, nil))
		require.Equal(t, "held", d.status(t, d.record(t, 4)), "another device's queue says nothing")
		require.NoError(t, d.send(t, 5, clientHandling()))
		require.Equal(t, "released", d.status(t, d.record(t, 4)))
		require.Equal(t, "held", d.status(t, d.record(t, 5)))
	})

	// A late duplicate of it, which was on its way when the device went on, changes nothing.
	t.Run("ReleasedForGood", func(t *testing.T) {
		d := b.device(t, "alice", "late")
		require.NoError(t, d.send(t, 1, clientHandling()))
		require.NoError(t, d.send(t, 2, nil))
		for _, late := range []*upload.Rejection{clientHandling(), nil} {
			var pg *pgconn.PgError
			require.ErrorAs(t, d.send(t, 1, late), &pg)
			require.Equal(t, ledger.ReceiptConstraint, pg.ConstraintName)
		}
		e := d.entry("alice", "late", 1, nil)
		answers, err := d.l.Answers(t.Context(), []ledger.Entry{e})
		require.NoError(t, err)
		require.Equal(t, upload.FatalError, answers[e.Digest].Status)
		require.Equal(t, "released", d.status(t, d.record(t, 1)))
	})

	// An open record whose transaction is applied after all, because the policy changed
	// or its receipt is gone, is closed. A replay of it is refused.
	t.Run("AppliedAfterAll", func(t *testing.T) {
		d := b.device(t, "alice", "applied")
		rejection := clientHandling()
		rejection.ClientHandling = false
		require.NoError(t, d.send(t, 1, rejection))
		record := d.record(t, 1)
		d.db.Exec(t, `delete from postern.receipts where digest = (select digest from postern.rejected_writes where id = $1::uuid)`, record)
		require.NoError(t, d.send(t, 1, nil))
		require.Equal(t, "resolved", d.status(t, record))
		stored, err := d.l.Record(t.Context(), record)
		require.NoError(t, err)
		digest, _, err := stored.Decoded()
		require.NoError(t, err)
		var pg *pgconn.PgError
		require.ErrorAs(t, in(t, d.pool, ledger.Replaying(stored, digest, ledger.By{Who: "ann"}, nil)...), &pg)
		require.Equal(t, ledger.StateClosed, pg.Code)
	})

	t.Run("OpenOnceItIsNoLongerTheClientsToDecide", func(t *testing.T) {
		d := b.device(t, "alice", "opening")
		require.NoError(t, d.send(t, 1, clientHandling()))
		rejection := clientHandling()
		rejection.ClientHandling = false
		require.NoError(t, d.send(t, 1, rejection))
		require.Equal(t, "open", d.status(t, d.record(t, 1)))
	})
}

func TestHeldWriteDismissedForGood(t *testing.T) {
	b := setup(t)
	d := b.device(t, "alice", "dismissing")
	require.NoError(t, d.send(t, 1, clientHandling()))
	closed, err := d.l.Close(t.Context(), []string{d.record(t, 1)}, ledger.Dismissed, ledger.By{Who: "ann", Note: "a test"}, ledger.Own{})
	require.NoError(t, err)
	require.Equal(t, []string{d.record(t, 1)}, closed)
	// Its device comes again, and is to be told that it may drop it.
	var pg *pgconn.PgError
	require.ErrorAs(t, d.send(t, 1, clientHandling()), &pg)
	require.Equal(t, ledger.ReceiptConstraint, pg.ConstraintName)
	e := d.entry("alice", "dismissing", 1, nil)
	answers, err := d.l.Answers(t.Context(), []ledger.Entry{e})
	require.NoError(t, err)
	require.Equal(t, upload.FatalError, answers[e.Digest].Status)
	require.False(t, *answers[e.Digest].RequiresClientHandling)
	require.Equal(t, "dismissed", d.status(t, d.record(t, 1)))
}

// Two instances at once: whatever the interleaving, one closes it.
func TestOneOfTwoClosesIt(t *testing.T) {
	b := setup(t)
	for round := range 20 {
		d := b.device(t, "alice", "racing")
		require.NoError(t, d.send(t, round, clientHandling()))
		record := d.record(t, round)
		var (
			group sync.WaitGroup
			mu    sync.Mutex
			total int
		)
		for range 4 {
			group.Go(func() {
				closed, err := d.l.Close(context.WithoutCancel(t.Context()), []string{record}, ledger.Dismissed, ledger.By{Who: "one"}, ledger.Own{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				total += len(closed)
			})
		}
		group.Wait()
		require.Equal(t, 1, total)
		require.Equal(t, "dismissed by one", b.actions(t, record))
	}
}
