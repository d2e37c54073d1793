package apply

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/timing"
)

const (
	firstRetryAfter = time.Second
	lastRetryAfter  = time.Minute
	// maxRemembered bounds the memory of failures. Forgetting one costs a client a
	// shorter wait, or a stuck transaction some more attempts.
	maxRemembered = 10_000
	// A queue is stuck when the transaction at its head has failed for stuckAfter,
	// and its device has not given up: it came with it again within stuckWithin.
	stuckAfter  = 10 * time.Minute
	stuckWithin = 5 * time.Minute
)

// failureTracker counts the failures of each user since their last success, and of
// each transaction in the same way.
type failureTracker struct {
	mu           sync.Mutex
	clock        func() time.Time
	failures     map[[2]string]int // by issuer and subject
	transactions map[ledger.Digest]failureCount
}

type failureCount struct {
	state       string // the SQLSTATE, or the rule that failed; empty if it was neither
	times       int    // in a row
	since, last time.Time
	who         [2]string // the issuer and the subject
	slow        bool      // it did not fit into a request's time, or its batch did not
	counted     bool      // schema postern counts its failures
}

func newFailureTracker() *failureTracker {
	return &failureTracker{clock: time.Now, failures: map[[2]string]int{}, transactions: map[ledger.Digest]failureCount{}}
}

// room forgets entries of a map that has become too large.
func room[K comparable, V any](m map[K]V) {
	for key := range m {
		if len(m) < maxRemembered {
			return
		}
		delete(m, key)
	}
}

// failed counts a failure. It returns how long the client should wait: a second at
// first, then twice as long each time, up to a minute. same is how often in a row the
// transaction has failed with this database error; 0 if err is none. failing is for
// how long it has failed in any way.
func (f *failureTracker) failed(who identity.Identity, digest ledger.Digest, err error) (retryAfter time.Duration, same int, failing time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]string{who.Issuer, who.Subject}
	room(f.failures)
	f.failures[key]++
	retryAfter = min(firstRetryAfter<<min(f.failures[key]-1, 6), lastRetryAfter)
	state := ""
	var (
		pg   *pgconn.PgError
		rule *policies.RuleError
	)
	switch {
	case errors.As(err, &pg):
		state = pg.Code
	case errors.As(err, &rule):
		state = rule.Rule
	}
	now := f.clock()
	t, known := f.transactions[digest]
	if !known {
		t.since = now
	}
	t.last, t.who = now, key
	if state != "" {
		if t.state != state {
			t.state, t.times = state, 0
		}
		t.times++
		same = t.times
	}
	room(f.transactions)
	f.transactions[digest] = t
	return retryAfter, same, now.Sub(t.since)
}

// tooSlow notes that a transaction, or the batch that it was the first of, did not fit
// into a request's time.
func (f *failureTracker) tooSlow(digest ledger.Digest) {
	f.note(digest, func(t *failureCount) { t.slow = true })
}

// counted notes that schema postern counts a transaction's failures.
func (f *failureTracker) counted(digest ledger.Digest) {
	f.note(digest, func(t *failureCount) { t.counted = true })
}

func (f *failureTracker) note(digest ledger.Digest, set func(*failureCount)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	room(f.transactions)
	t, known := f.transactions[digest]
	if !known {
		t.since = f.clock()
	}
	set(&t)
	f.transactions[digest] = t
}

// isSlow reports whether a batch begins with a transaction that tooSlow noted.
func (f *failureTracker) isSlow(batch []*transaction) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(batch) > 0 && f.transactions[batch[0].Digest].slow
}

// SetClock replaces the clock that says for how long a queue is stuck. Tests move it.
func (a *Applier) SetClock(clock func() time.Time) {
	a.failures.mu.Lock()
	defer a.failures.mu.Unlock()
	a.failures.clock = clock
}

// Stuck counts the queues that are stuck, by reason.
func (a *Applier) Stuck() map[string]int {
	stuck := map[string]int{}
	for _, q := range a.StuckQueues() {
		stuck[q.Reason]++
	}
	return stuck
}

// StuckQueue is a device that has been sending the same transaction in vain.
type StuckQueue struct {
	Issuer, Subject string
	Reason          string // an SQLSTATE, a rule that fails, or "no answer" of the database
	Since, Last     time.Time
}

// StuckQueues are the queues that are stuck, the oldest first.
func (a *Applier) StuckQueues() (stuck []StuckQueue) {
	a.failures.mu.Lock()
	defer a.failures.mu.Unlock()
	now := a.failures.clock()
	for _, t := range a.failures.transactions {
		if t.last.Sub(t.since) >= stuckAfter && now.Sub(t.last) <= stuckWithin {
			stuck = append(stuck, StuckQueue{t.who[0], t.who[1], cmp.Or(t.state, "no answer"), t.since, t.last})
		}
	}
	slices.SortFunc(stuck, func(a, b StuckQueue) int { return a.Since.Compare(b.Since) })
	return stuck
}

// succeeded forgets the failures of a user, and of the transactions that are answered.
// It returns those whose failures schema postern counts.
func (f *failureTracker) succeeded(who identity.Identity, answered []*transaction) (counted []ledger.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failures, [2]string{who.Issuer, who.Subject})
	if len(f.transactions) == 0 {
		return nil
	}
	for _, t := range answered {
		if f.transactions[t.Digest].counted {
			counted = append(counted, t.Digest)
		}
		delete(f.transactions, t.Digest)
	}
	return counted
}

// pause waits 10 to 20 ms, then twice as long with each attempt up to a second;
// it reports whether ctx leaves time for another one.
func (l *loop) pause(ctx context.Context, attempt int) bool {
	defer l.laps.End(timing.Retry)
	base := min(10*time.Millisecond<<min(attempt-1, 10), time.Second)
	wait := base + rand.N(base)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait+time.Second {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
