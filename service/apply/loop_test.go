package apply

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// TestAfter has the next step for each outcome of a batch.
func TestAfter(t *testing.T) {
	t.Parallel()
	plain := &transaction{orders: []*plan.Order{{Tables: []plan.TableUse{{}}}}}
	withRules := &transaction{orders: []*plan.Order{{Tables: []plan.TableUse{{}}, Checked: true}}}
	alreadyRejected := &transaction{orders: withRules.orders}
	alreadyRejected.Rejection = &upload.Rejection{Code: "C"}
	at := func(k kind, transaction int, err error) *failure {
		return &failure{step: step{kind: k, transaction: transaction}, err: err}
	}
	ofRule := func(transaction int) *failure {
		return &failure{step: step{kind: rule, transaction: transaction}, rejection: &upload.Rejection{Code: "C"}}
	}
	unique, clash, full, lost := &pgconn.PgError{Code: "23505"}, &pgconn.PgError{Code: "40001"}, &pgconn.PgError{Code: "53100"}, io.ErrUnexpectedEOF
	deadlock := &pgconn.PgError{Code: "40P01"}
	receipt := &pgconn.PgError{Code: "23505", ConstraintName: "receipts_pkey"}
	type batch = []*transaction
	for _, test := range []struct {
		name string
		batch
		failed *failure
		want   next
	}{
		{"Committed", batch{plain, plain}, nil, answer},
		{"ReceiptExists", batch{plain, plain}, at(receipts, -1, receipt), readReceipts},

		{"First", batch{plain, plain}, at(operation, 0, unique), rejectFailed},
		{"Second", batch{plain, plain}, at(operation, 1, unique), rejectFailed},
		{"SecondAfterRules", batch{withRules, plain}, at(operation, 1, unique), sendEarlier},
		{"SecondWithRules", batch{plain, withRules}, at(operation, 1, unique), rejectFailed},
		{"ThirdAfterRules", batch{plain, withRules, plain}, at(constraints, 2, unique), sendEarlier},
		{"SecondAfterARejection", batch{alreadyRejected, plain}, at(operation, 1, unique), rejectFailed},
		{"RuleOfTheFirst", batch{withRules, withRules}, ofRule(0), rejectFailed},
		{"RuleOfTheSecond", batch{withRules, withRules}, ofRule(1), rejectFailed},
		{"AllOfOne", batch{plain}, at(commit, -1, unique), rejectFailed},
		{"AllOfTwo", batch{plain, plain}, at(commit, -1, unique), sendAlone},
		{"AllOfTwoWithRules", batch{withRules, plain}, at(commit, -1, unique), sendAlone},

		{"ClashOfTheFirst", batch{plain, plain}, at(operation, 0, clash), retryFailed},
		{"ClashOfTheSecond", batch{plain, plain}, at(operation, 1, clash), sendEarlier},
		{"ClashOfAll", batch{plain, plain}, at(commit, -1, clash), retryFailed},
		{"DeadlockOfTheFirst", batch{plain, plain}, at(operation, 0, deadlock), sendAlone},
		{"DeadlockOfTheSecond", batch{plain, plain}, at(operation, 1, deadlock), sendAlone},
		{"BlockedAtTheSecond", batch{plain, plain}, at(operation, 1, &pgconn.PgError{Code: "55P03"}), sendEarlier},
		{"DeadlockOfOne", batch{plain}, at(operation, 0, deadlock), retryFailed},
		{"ConnectionLostAtTheSecond", batch{plain, plain}, at(operation, 1, lost), sendEarlier},
		{"ConnectionLost", batch{plain, plain}, at(session, -1, lost), retryFailed},
		{"FullAtTheFirst", batch{plain, plain}, at(operation, 0, full), retryFailed},
		{"FullAtTheSecond", batch{withRules, plain}, at(operation, 1, full), sendEarlier},
		{"RecordOfTheSecond", batch{plain, alreadyRejected}, at(record, 1, unique), sendEarlier},
		{"RuleOfTheSecondFails", batch{plain, withRules}, at(rule, 1, errors.New("division by zero")), sendEarlier},
		{"Value", batch{plain, plain}, at(operation, 1, &pgconn.PgError{Code: "22P02"}), readCatalogue},
		{"ValueAfterRules", batch{withRules, plain}, at(operation, 1, &pgconn.PgError{Code: "22P02"}), sendEarlier},
		{"Column", batch{plain}, at(operation, 0, &pgconn.PgError{Code: "42703"}), readCatalogue},
		{"Grant", batch{plain}, at(operation, 0, &pgconn.PgError{Code: "42501", Routine: "aclcheck_error"}), readCatalogue},
		{"RowLevelSecurity", batch{plain}, at(operation, 0, &pgconn.PgError{Code: "42501"}), rejectFailed},
		{"FunctionOnData", batch{plain}, at(operation, 0, &pgconn.PgError{Code: "22P02", Where: "PL/pgSQL function f() line 1 at PERFORM"}), readCatalogue},
		{"Session", batch{plain, plain}, at(session, -1, &pgconn.PgError{Code: "22023"}), retryFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := &loop{request: &request{snapshot: &catalog.Snapshot{}, began: time.Now()}}
			require.Equal(t, test.want, l.after(test.batch, test.failed, classify(test.failed, &catalog.Snapshot{}), test.failed.of()))
		})
	}
}

// TestRejectFailed has a transaction that fails in each of its orders. Those before it
// are sent again in any case.
func TestRejectFailed(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	todo, list := write(upload.Put, "todos", "t1", "list_id", `"l1"`), write(upload.Put, "lists", "l1")
	for _, test := range []struct {
		name           string
		transaction    int // of the failed step
		first, second  upload.Code
		sizes          []int // how many are sent next, after each failure
		want           upload.Code
		clientHandling bool
	}{
		{"SecondOrderFailsInTheSameWay", 1, upload.CheckViolation, upload.CheckViolation, []int{3, 2}, upload.CheckViolation, false},
		{"FirstOrderSaysMore", 1, upload.CheckViolation, upload.ForeignKeyViolation, []int{3, 2}, upload.CheckViolation, false},
		{"SecondOrderGetsFurther", 1, upload.ForeignKeyViolation, upload.UniqueViolation, []int{3, 2}, upload.UniqueViolation, true},
		{"NoSingleTransaction", -1, upload.CheckViolation, "", []int{2}, upload.CheckViolation, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			failing := b.transaction(t, todo, list)
			require.Len(t, failing.orders, 2)
			failing.failed = &failure{step: step{kind: rule, index: -1}, err: errors.New("of a rule")}
			batch := []*transaction{b.transaction(t, list), failing, b.transaction(t, list)}
			l := &loop{request: &request{set: b.set, snapshot: b.tables}, pending: batch}
			codes := []upload.Code{test.first, test.second}
			for i, size := range test.sizes {
				require.Nil(t, failing.Rejection)
				rejection := &upload.Rejection{Code: codes[i], Operation: 1}
				require.Equal(t, size, l.rejectFailed(batch, 1, &failure{step: step{kind: operation, transaction: test.transaction}}, rejection))
				require.Equal(t, batch, l.pending)
			}
			require.NotNil(t, failing.Rejection)
			require.Equal(t, test.want, failing.Rejection.Code)
			require.Equal(t, test.clientHandling, failing.Rejection.ClientHandling)
			require.Nil(t, failing.failed)
		})
	}
}

// TestOfBothOrders has which rejection of two orders the client receives.
func TestOfBothOrders(t *testing.T) {
	t.Parallel()
	of := func(code upload.Code) *upload.Rejection { return &upload.Rejection{Code: code} }
	key, other, last := of(upload.ForeignKeyViolation), of(upload.UniqueViolation), of(upload.CheckViolation)
	lastKey := of(upload.ForeignKeyViolation)
	for _, test := range []struct {
		name                string
		first, second, want *upload.Rejection
	}{
		{"OneOrder", nil, last, last},
		{"NoForeignKey", other, last, other},
		{"ForeignKeyOfTheFirst", key, last, last},
		{"ForeignKeyOfTheSecond", other, lastKey, other},
		{"ForeignKeyOfBoth", key, lastKey, key},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Same(t, test.want, ofBothOrders(test.first, test.second))
		})
	}
}

// TestPlanningEnds plans when the request's time is up. The transactions fail, and are
// neither rejected nor planned with another catalogue: their client sends them again.
func TestPlanningEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	late := &transaction{Entry: ledger.Entry{Transaction: upload.Transaction{Operations: []upload.Operation{{Op: upload.Put, Table: "lists", ID: "1"}}}}}
	r := &request{snapshot: catalog.NewSnapshot("", nil), set: &policies.Set{}}
	require.False(t, r.plan(ctx, []*transaction{late}))
	require.Nil(t, late.Rejection)
	out := classify(late.failed, r.snapshot)
	require.ErrorIs(t, out.retry, context.DeadlineExceeded)
	require.Equal(t, retryFailed, (&loop{request: r}).after([]*transaction{late}, late.failed, out, 0))
}
