package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/upload"
)

// A transaction that fails again and again by itself is rejected after giveUpAfter and
// giveUpTries, so that no queue is frozen for ever. Schema postern counts its failures,
// for all instances and across restarts.
const (
	giveUpAfter = 30 * time.Minute
	giveUpTries = 5
	// Counting must be quick. If it is not, the database is in trouble, and the failure
	// says nothing of the transaction.
	countTimeout  = time.Second
	rejectTimeout = 2 * time.Second // is left to store the rejection
	// manyOperations is the size of a transaction that may exceed a request's time on a
	// database in good health.
	manyOperations = 1000
	// longTimeout is the time of a transaction that did not fit into a request's.
	longTimeout = 2 * time.Minute
)

// timeLimit is the cause of a transaction that exceeds its time.
const timeLimit = "time limit"

// cause is why a transaction fails, if that may be its own fault.
type cause struct {
	name   string // an SQLSTATE, a rule, or timeLimit; empty if it is the server's trouble
	proven bool   // it is the transaction's own fault; otherwise others may fail in the same way
	code   upload.Code
	reason string
}

// causeOf is the cause of a failure that the client is to retry. Trouble of the server
// that may affect everybody has none: connections, resources, locks, an operator's
// intervention, a missing grant, a function or policy that does not fit the schema.
func causeOf(f *failure, t *transaction, tables *catalog.Snapshot) cause {
	var (
		pg   *pgconn.PgError
		rule *policies.RuleError
	)
	switch {
	case t.Rejection != nil || f.unsent:
		return cause{}
	case exceedsTime(f.err) && (f.kind.ofWrite() || lost(f.err)):
		return cause{timeLimit, len(t.Transaction.Operations) >= manyOperations, upload.TimeLimitExceeded, "it did not fit into the time of a request"}
	case !f.kind.ofWrite() || f.kind == preRequest:
		return cause{}
	case errors.As(f.err, &rule):
		if rule.External {
			return cause{}
		}
		return cause{rule.Rule, true, upload.RuleFailed, rule.Err.Error()}
	case !errors.As(f.err, &pg) || !mayBeOwn(f, pg, tables):
		return cause{}
	case f.query != nil && f.query.IsLookup():
		return cause{f.query.Rule(), true, upload.RuleFailed, "its lookup failed with SQLSTATE " + pg.Code}
	}
	return cause{pg.Code, inFunction(pg) == "" && !lacksPartition(pg), upload.UnclassifiedError, "SQLSTATE " + pg.Code}
}

// exceedsTime reports whether a transaction ran out of time, its own or Postgres' for one
// statement or transaction.
func exceedsTime(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &pg) && (pg.Code == "57014" || pg.Code == "25P04")
}

// mayBeOwn reports whether Postgres' error may be caused by the write. A function of a
// row-level security policy or a default, and the claims, are nothing of its own.
func mayBeOwn(f *failure, pg *pgconn.PgError, tables *catalog.Snapshot) bool {
	if len(pg.Code) != 5 || pg.Code == "54001" || // a stack that is too deep
		slices.Contains([]string{"08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "XX", "PN", "PT"}, pg.Code[:2]) {
		return false
	}
	if function := inFunction(pg); function != "" && !tables.IsTriggerFunction(function) {
		return false
	}
	return !f.quotesClaim(pg)
}

// giveUp counts a failure of the transaction's own, and returns a rejection if there were
// enough. Unless the failure is known to be its own fault, others must have written to
// all of its tables since the first one.
func (l *loop) giveUp(ctx context.Context, t *transaction, failed *failure) *upload.Rejection {
	if exceedsTime(failed.err) && !failed.unsent && (t.index > 0 || failed.transaction > 0) {
		return nil // what came before it took the time
	}
	c := causeOf(failed, t, l.snapshot)
	if c.name == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countTimeout)
	defer cancel()
	times, since, err := l.Ledger.CountFailure(ctx, t.Digest, c.name)
	if err != nil {
		l.log(t).Warn("cannot count a failure", "error", err)
		return nil
	}
	l.failures.counted(t.Digest)
	if times < giveUpTries || since < giveUpAfter || !c.proven && !l.othersWrote(t, since) {
		return nil
	}
	r := &upload.Rejection{
		Code: c.code, Operation: failed.index,
		Message: fmt.Sprintf("the write could not be applied in %d tries; it is stored, and the team can apply it", times),
		Details: map[string]any{"reason": c.reason, "tries": times, "seconds": int(since.Seconds())},
	}
	if c.code == upload.RuleFailed {
		r.Rule = c.name
	}
	if c.code == upload.TimeLimitExceeded {
		r.Operation = -1
	}
	return r
}

// forget ends the series of failures of transactions that are answered.
func (l *loop) forget(ctx context.Context, counted []ledger.Digest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countTimeout)
	defer cancel()
	if err := l.Ledger.ForgetFailures(ctx, counted); err != nil {
		l.logger.Warn("the failures of a transaction that is answered are still counted", "error", err)
	}
}

// othersWrote reports whether this instance has applied transactions to all tables of one
// within a time.
func (l *loop) othersWrote(t *transaction, within time.Duration) bool {
	tables := l.applied.within(within)
	for _, u := range t.toSend().Tables {
		if !tables[u.Table.OID] {
			return false
		}
	}
	return true
}

// withTimeToReject is ctx, or one that leaves time to store a rejection.
func withTimeToReject(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > rejectTimeout {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), rejectTimeout)
}

// timeFor gives a transaction more time if it did not fit into a request's before. Its
// client no longer waits then, and receives the answer when it sends it again: so it
// must have a receipt. Others do not suffer, because one transaction at a time gets more:
// it takes one connection, and who wants the same rows retries.
func (l *loop) timeFor(ctx context.Context, batch []*transaction) (context.Context, context.CancelFunc) {
	if len(batch) > 1 || !batch[0].Digest.Receipt || !l.failures.isSlow(batch) || !l.long.TryAcquire(1) {
		return ctx, func() {}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longTimeout)
	return ctx, func() {
		cancel()
		l.long.Release(1)
	}
}
