package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/upload"
)

// TestCauseOf has the failures that may be a transaction's own fault, and those that are
// the server's trouble.
func TestCauseOf(t *testing.T) {
	t.Parallel()
	groups := steps(t)
	run, lookup := step{kind: operation, index: 2}, groups["lookup"][0]
	pg := func(state, where string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: state, Message: "why", Where: where})
	}
	large := &transaction{Entry: ledger.Entry{Transaction: upload.Transaction{Operations: make([]upload.Operation, 1000)}}}
	const (
		policy   = `PL/pgSQL function auth.uid() line 3 at RETURN`
		tooSlow  = "it did not fit into the time of a request"
		outdated = "the database no longer has table lists"
	)
	none := cause{}
	noPartition := &pgconn.PgError{Code: "23514", TableName: "readings", Routine: "ExecFindPartition"}
	for _, test := range []struct {
		name    string
		failure failure
		want    cause
	}{
		{"Limit", failure{step: run, err: pg("54000", "")}, cause{"54000", true, upload.UnclassifiedError, "SQLSTATE 54000"}},
		{"Unknown", failure{step: run, err: pg("ZZ999", "")}, cause{"ZZ999", true, upload.UnclassifiedError, "SQLSTATE ZZ999"}},
		{"Lookup", failure{step: lookup, err: pg("22012", "")}, cause{lookup.query.Rule(), true, upload.RuleFailed, "its lookup failed with SQLSTATE 22012"}},
		{"Rule", failure{step: step{kind: rule}, err: &policies.RuleError{Rule: "r", Err: errors.New("no such key")}}, cause{"r", true, upload.RuleFailed, "no such key"}},
		{"StatementTimeout", failure{step: run, err: pg("57014", "")}, cause{timeLimit, false, upload.TimeLimitExceeded, tooSlow}},
		{"TransactionTimeout", failure{step: run, err: pg("25P04", "")}, cause{timeLimit, false, upload.TimeLimitExceeded, tooSlow}},
		{"RequestTimeout", failure{step: ours(session, ""), err: fmt.Errorf("read: %w", context.DeadlineExceeded)}, cause{timeLimit, false, upload.TimeLimitExceeded, tooSlow}},

		{"NoPartition", failure{step: run, err: noPartition}, cause{"23514", false, upload.UnclassifiedError, "SQLSTATE 23514"}},

		{"NoConnectionInTime", failure{step: ours(session, ""), err: context.DeadlineExceeded, unsent: true}, none},
		{"StatementTimeoutOfOurs", failure{step: ours(receipts, ""), err: pg("57014", "")}, none},
		{"OutdatedPolicy", failure{step: step{kind: rule}, err: &policies.RuleError{Rule: "r", Err: errors.New(outdated), External: true}}, none},
		{"ConnectionLost", failure{step: run, err: io.ErrUnexpectedEOF}, none},
		{"OfAPolicy", failure{step: run, err: pg("22P02", policy)}, none},
		{"OfADefault", failure{step: run, err: pg("P0002", policy)}, none},
		{"PreRequest", failure{step: step{kind: preRequest}, err: pg("ZZ999", "")}, none},
		{"Record", failure{step: step{kind: record}, err: pg("ZZ999", "")}, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, causeOf(&test.failure, &transaction{}, &catalog.Snapshot{}))
			if test.want.name == timeLimit {
				require.True(t, causeOf(&test.failure, large, &catalog.Snapshot{}).proven, "it is the size")
			}
			rejected := &transaction{}
			rejected.Rejection = &upload.Rejection{}
			require.Equal(t, none, causeOf(&test.failure, rejected, &catalog.Snapshot{}), "it is the record that cannot be stored")
		})
	}
	for _, state := range []string{"08006", "25006", "28P01", "3D000", "40001", "42501", "42P01", "42883", "53100", "54001", "55P03", "57P01", "58030", "XX000", "PN004", "PT503", "", "1"} {
		require.Equal(t, none, causeOf(&failure{step: run, err: pg(state, "")}, &transaction{}, &catalog.Snapshot{}), state)
	}
}

// TestTooSlow has a transaction that is known to need more than a request's time get it:
// one at a time, and only if a receipt gives its client the answer later.
func TestTooSlow(t *testing.T) {
	t.Parallel()
	transactionOf := func(n byte, receipt bool) *transaction {
		return &transaction{Entry: ledger.Entry{Digest: ledger.Digest{Sum: [32]byte{n}, Receipt: receipt}}}
	}
	slow, other, anonymous := transactionOf(1, true), transactionOf(2, true), transactionOf(3, false)
	a := &Applier{failures: newFailureTracker(), long: semaphore.NewWeighted(1)}
	l := &loop{request: &request{Applier: a}}
	for _, t := range []*transaction{slow, other, anonymous} {
		a.failures.tooSlow(t.Digest)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	isLong := func(batch ...*transaction) (long bool, end func()) {
		given, end := l.timeFor(ctx, batch)
		deadline, _ := given.Deadline()
		return time.Until(deadline) > time.Minute, end
	}
	long, _ := isLong(anonymous)
	require.False(t, long)
	long, _ = isLong(slow, other)
	require.False(t, long, "alone")
	long, _ = isLong(transactionOf(4, true))
	require.False(t, long, "it is not known")

	long, end := isLong(slow)
	require.True(t, long)
	beside, _ := isLong(other)
	require.False(t, beside, "one at a time")
	end()
	long, end = isLong(other)
	require.True(t, long)
	end()

	require.Empty(t, a.failures.succeeded(l.who, []*transaction{slow}))
	long, _ = isLong(slow)
	require.False(t, long, "it is done")
}
