package apply

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/identity"
	"postern/service/ledger"
)

const (
	firstRetryAfter = time.Second
	lastRetryAfter  = time.Minute
	// maxRemembered bounds the memory of failures. Forgetting one costs a client a
	// shorter wait, or a stuck transaction some more attempts.
	maxRemembered = 10_000
	// giveUpAfter is how often the same database error of one transaction, of a
	// kind that is not known to be the write's fault, is answered as retryable
	// before the write is rejected, so that no queue is frozen for ever.
	giveUpAfter = 50
	// A queue is stuck when the transaction at its head has failed for stuckAfter,
	// and its device has not given up: it came with it again within stuckWithin.
	stuckAfter  = 10 * time.Minute
	stuckWithin = 5 * time.Minute
)

// patience remembers how often each user's requests have failed since their last
// success, and how often each transaction in the same way.
type patience struct {
	mu           sync.Mutex
	failures     map[[2]string]int // by issuer and subject
	transactions map[ledger.Digest]trouble
}

type trouble struct {
	state       string // the SQLSTATE, or the rule that failed; empty where it was neither
	times       int    // in a row
	since, last time.Time
}

func newPatience() *patience {
	return &patience{failures: map[[2]string]int{}, transactions: map[ledger.Digest]trouble{}}
}

// room makes room in a map that has become too large, by forgetting something.
func room[K comparable, V any](m map[K]V) {
	for key := range m {
		if len(m) < maxRemembered {
			return
		}
		delete(m, key)
	}
}

// failed counts a failure. It returns how long the client should wait, a second
// at first, then twice as long each time up to a minute, how often in a row
// this transaction failed with this database error, 0 for one of another kind,
// and for how long it has failed in any way.
func (p *patience) failed(who identity.Identity, digest ledger.Digest, err error) (retryAfter time.Duration, same int, failing time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := [2]string{who.Issuer, who.Subject}
	room(p.failures)
	p.failures[key]++
	retryAfter = min(firstRetryAfter<<min(p.failures[key]-1, 6), lastRetryAfter)
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
	now := time.Now()
	t, known := p.transactions[digest]
	if !known {
		t.since = now
	}
	t.last = now
	if state != "" {
		if t.state != state {
			t.state, t.times = state, 0
		}
		t.times++
		same = t.times
	}
	room(p.transactions)
	p.transactions[digest] = t
	return retryAfter, same, now.Sub(t.since)
}

// Stuck counts the queues that are stuck, by what keeps them: an SQLSTATE, a rule
// that fails, or "no answer" of the database.
func (a *Applier) Stuck() map[string]int {
	a.patience.mu.Lock()
	defer a.patience.mu.Unlock()
	stuck := map[string]int{}
	for _, t := range a.patience.transactions {
		if t.last.Sub(t.since) >= stuckAfter && time.Since(t.last) <= stuckWithin {
			stuck[cmp.Or(t.state, "no answer")]++
		}
	}
	return stuck
}

// succeeded forgets a user's failures, and those of the transactions that are
// answered.
func (p *patience) succeeded(who identity.Identity, answered []*transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, [2]string{who.Issuer, who.Subject})
	if len(p.transactions) == 0 {
		return
	}
	for _, t := range answered {
		delete(p.transactions, t.Digest)
	}
}

// pause waits 10 to 20 ms, then twice as long with each attempt up to a second;
// it reports whether ctx leaves time for another one.
func pause(ctx context.Context, attempt int) bool {
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
