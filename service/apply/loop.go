package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/timing"
	"postern/service/upload"
)

const (
	maxAttempts    = 4                // one, and three more after clashes and lost connections
	connectTimeout = 10 * time.Second // a suspended database wakes within it
)

// loop gives the pending transactions their results, in order, up to one that ends
// the request. They share a commit as long as none fails.
type loop struct {
	*request
	manner
	pending []*transaction
	alone   bool // each transaction is sent by itself
	lost    bool // a connection was lost in this request
}

// next is what an outcome makes the loop do.
type next byte

const (
	answer        next = iota // the batch is committed
	readReceipts              // some of the batch have a receipt: answer those and send the others
	sendAlone                 // it cannot be told which transaction failed, or they deadlock with others: send each by itself
	sendEarlier               // send those before the failed one first
	rejectFailed              // the failed one is rejected, if no other order helps
	readCatalogue             // a current catalogue may help: read it, plan again and send again
	retryFailed               // the client has to send the failed one again, which ends the request
)

func (l *loop) run(ctx context.Context) {
	size := len(l.pending) // how many of the pending are sent next
	slow := l.failures.isSlow(l.pending)
	if slow {
		l.unobserve(ctx, l.set.Observing(), errNoTime, l.pending)
	}
	l.alone = slow
	for len(l.pending) > 0 {
		if l.alone {
			size = 1
		}
		batch := l.pending[:size]
		l.letGo(ctx, batch)
		failed := l.sendWithRetries(ctx, batch)
		out, at := classify(failed, l.snapshot), failed.of()
		switch l.after(batch, failed, out, at) {
		case answer:
			if l.answer(ctx, batch); l.ends(batch[size-1].Rejection) {
				return
			}
			l.pending = l.pending[size:]
			size = len(l.pending)
		case readReceipts:
			if !l.readReceipts(ctx, batch) {
				return
			}
			size = len(l.pending)
		case sendAlone:
			l.alone = true
		case sendEarlier:
			if size = at; out.rejection == nil {
				batch[at].failed = failed // all tries are used up
			}
		case retryFailed:
			t := batch[at]
			rejection := l.giveUp(ctx, t, failed)
			if rejection == nil {
				l.retryLater(t, errors.Join(out.again, out.retry))
				return
			}
			var end context.CancelFunc
			ctx, end = withTimeToReject(ctx)
			defer end()
			t.orders = t.orders[:min(len(t.orders), 1)] // another order does not help
			size = l.rejectFailed(batch, at, failed, rejection)
		case readCatalogue:
			if err := l.refresh(ctx, batch[at:]); err != nil {
				l.retryLater(batch[at], err)
				l.pending, size = batch[:at], at // what comes after it is not attempted
				continue
			}
			l.pending = slices.Concat(batch[:at], l.upToEnd(l.pending[at:]))
			size = min(size, len(l.pending))
		case rejectFailed:
			size = l.rejectFailed(batch, at, failed, out.rejection)
		}
	}
}

// after is the table of next steps.
func (l *loop) after(batch []*transaction, failed *failure, out outcome, at int) next {
	switch {
	case failed == nil:
		return answer
	case out.answered:
		return readReceipts
	case out.rejection != nil && failed.transaction < 0 && len(batch) > 1:
		return sendAlone
	case out.rejection != nil && at > 0 && failed.kind != rule && needChecks(batch[:at]):
		return sendEarlier // the cause may be an earlier one that its rules will reject
	case dependsOnCatalogue(failed, out) && l.outdated():
		return readCatalogue
	case out.rejection != nil:
		return rejectFailed
	case deadlocked(failed.err) && len(batch) > 1:
		return sendAlone // which holds fewer locks, and for a shorter time
	case at > 0:
		return sendEarlier
	}
	return retryFailed
}

// dependsOnCatalogue reports whether the outcome may be another one with a current
// catalogue. If a function fails, it may be a trigger's that the catalogue lacks.
func dependsOnCatalogue(failed *failure, out outcome) bool {
	if out.rejection == nil {
		return failsInFunction(failed) || tablesChanged(failed)
	}
	return restsOnCatalogue(out.rejection) || permissionDenied(failed.err)
}

// rejectFailed rejects a transaction of the batch, unless its other order may help. It
// returns how many of the pending are sent next: those before it, which were rolled
// back with it, and itself, now with its rejection.
func (l *loop) rejectFailed(batch []*transaction, at int, failed *failure, rejection *upload.Rejection) (size int) {
	t := batch[at]
	complete(rejection, l.set, l.snapshot, t, failed)
	if len(t.orders) > 1 && failed.transaction >= 0 {
		t.orders, t.firstRejection = t.orders[1:], rejection
		return len(batch)
	}
	t.failed = nil
	t.Rejection = ofBothOrders(t.firstRejection, rejection)
	t.Rejection.Reword()
	t.Rejection.ClientHandling = !l.statusOnly && clientHandles(l.set, t.Rejection, t.Transaction)
	return at + 1
}

// letGo has a device drop a rejected transaction that it keeps for its app, if somebody has
// closed its record. Receipts say so of other transactions; this is for those that none may
// stand for.
func (l *loop) letGo(ctx context.Context, batch []*transaction) {
	for _, t := range batch {
		if t.Rejection == nil || !t.Rejection.ClientHandling || t.Digest.Receipt {
			continue
		}
		closed, err := l.Ledger.IsClosed(ctx, t.Digest)
		if err != nil {
			l.log(t).Warn("cannot tell whether a held write was closed: its device keeps it for now", LogAttributes(err)...)
		}
		t.Rejection.ClientHandling = !closed
	}
}

// ofBothOrders picks the rejection that tells more: the first order's, unless that
// was about foreign keys alone and the second order got further.
func ofBothOrders(first, second *upload.Rejection) *upload.Rejection {
	if first != nil && (first.Code != upload.ForeignKeyViolation || second.Code == upload.ForeignKeyViolation) {
		return first
	}
	return second
}

// sendWithRetries tries again after clashes, after lost connections, and for as long
// as a database may take to wake up.
func (l *loop) sendWithRetries(ctx context.Context, batch []*transaction) *failure {
	if i := slices.IndexFunc(batch, func(t *transaction) bool { return t.failed != nil }); i >= 0 {
		known := *batch[i].failed
		known.transaction = i
		return &known
	}
	if l.single == nil && !slices.ContainsFunc(batch, func(t *transaction) bool { return t.Rejection != nil || l.works(t) }) {
		return nil // an operation that changes nothing leaves no trace, not even a receipt
	}
	ctx, end := l.timeFor(ctx, batch)
	defer end()
	started, wait := time.Now(), firstLockTimeout
	for try := 1; ; try++ {
		a := l.attempt(batch, wait)
		failed := a.run(l.context(ctx))
		if failed == nil {
			l.conflicts.add(a.noted)
			return nil
		}
		if l.plansAnew(failed) || l.failedObserving(ctx, failed, batch) {
			continue
		}
		out := classify(failed, l.snapshot)
		if exceedsTime(failed.err) && !failed.unsent {
			l.failures.tooSlow(batch[0].Digest)
		}
		if (blocked(failed.err) || deadlocked(failed.err)) && failed.kind.ofWrite() {
			l.contended.add(batch)
		}
		if blocked(failed.err) && wait == firstLockTimeout {
			done := l.waitLonger(ctx)
			if done == nil {
				return failed
			}
			defer done()
			wait = lockTimeout
			continue
		}
		if failed.inLine && blocked(failed.err) && !l.skips {
			l.skips = true // one that takes long does not hold up all others
			continue
		}
		if failed.locksAhead && out.again == nil {
			l.isolated = true // which tells whose row it is
			continue
		}
		if deadlocked(failed.err) && a.contended != nil && !failed.locksAhead {
			l.entangled.add(batch)
		}
		if out.again == nil {
			return failed
		}
		if l.exhausted(failed, try, started) || !l.pause(ctx, try) {
			return failed
		}
		l.retries.Add(1)
	}
}

// attempt is the next one for a batch, which waits for a lock for up to wait.
func (l *loop) attempt(batch []*transaction, wait time.Duration) *attempt {
	return &attempt{
		request: l.request, manner: l.manner, transactions: batch, lockTimeout: wait,
		contended: l.contended.within(contendedFor), oneAtATime: !l.skips && concerns(l.entangled.within(contendedFor), batch),
		answers: plan.Answers{}, noted: map[Conflict]int{},
	}
}

// plansAnew reports whether a batch failed because of what the connection keeps, or of an
// operation that was completed ahead of its turn, or whose rules have not seen its row. The
// next try does without, or finds out why.
func (l *loop) plansAnew(failed *failure) bool {
	switch {
	case !l.inTurn && failed.isOutOfTurn(l.snapshot):
		l.inTurn = true
	case hasStalePlan(failed.err) && !l.discard:
		l.discard = true
	case failed.outdated:
		l.unnamed = true
	case !l.unseen && raised(failed.err, ledger.StateUnseen):
		l.unseen = true
	default:
		return false
	}
	return true
}

// exhausted reports whether a batch has been tried often enough, or for as long as a
// database may take to wake up.
func (l *loop) exhausted(failed *failure, try int, started time.Time) bool {
	if failed.unsent {
		return time.Since(started) > connectTimeout
	}
	l.lost = l.lost || lost(failed.err) || goesAway(failed.err)
	return try >= maxAttempts
}

// waitLonger waits until few enough requests wait for locks that this one may, too. It
// holds no connection meanwhile. nil means that it did not get its turn in time.
func (l *loop) waitLonger(ctx context.Context) (done func()) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	defer l.laps.End(timing.Retry)
	done, err := l.waiters.acquire(ctx, l.who)
	if err != nil {
		return nil
	}
	return done
}

// context has the pool try connections before it hands them out, if one was lost.
func (l *loop) context(ctx context.Context) context.Context {
	if l.lost {
		return WithPing(ctx)
	}
	return ctx
}

// answer gives the transactions of a committed batch their results.
func (l *loop) answer(ctx context.Context, batch []*transaction) {
	for _, t := range batch {
		if t.Rejection == nil {
			t.decision.WouldReject = l.noteObserved(t)
			t.result = &upload.Result{Status: upload.Success, Decision: t.decision}
			continue
		}
		result := upload.Rejected(t.Rejection)
		result.Decision.Rule = t.Rejection.Rule
		t.result = &result
		table := ""
		if t.Rejection.Operation >= 0 {
			table = upload.Short(t.Transaction.Operations[t.Rejection.Operation].Table)
		}
		l.log(t).Warn("write rejected", "code", t.Rejection.Code, "table", table, "operation", t.Rejection.Operation, "subject", l.who.Subject)
	}
	if counted := l.failures.succeeded(l.who, batch); counted != nil {
		l.forget(ctx, counted)
	}
	l.applied.add(batch)
	l.Ledger.Used()
}

// readReceipts answers the transactions of the batch that have a receipt. The others
// stay pending.
func (l *loop) readReceipts(ctx context.Context, batch []*transaction) (ok bool) {
	entries := make([]ledger.Entry, len(batch))
	for i, t := range batch {
		entries[i] = t.Entry
	}
	answers, err := l.Ledger.Answers(l.context(ctx), entries)
	l.laps.End(timing.Database)
	if err == nil && len(answers) == 0 {
		err = errors.New("a receipt was there and is gone")
	}
	if err != nil {
		l.retryLater(batch[0], err)
		return false
	}
	var rest []*transaction
	for _, t := range batch {
		result, ok := answers[t.Receipt()]
		if !ok {
			rest = append(rest, t)
			continue
		}
		result.Decision.Repeated = true
		t.result = &result
		if result.Status == upload.FatalError && l.stops() {
			l.pending = rest // what comes after it is not attempted
			return true
		}
	}
	l.pending = append(rest, l.pending[len(batch):]...)
	return true
}
