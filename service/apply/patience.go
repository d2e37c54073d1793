package apply

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/identity"
	"postern/service/ledger"
)

const (
	firstRetryAfter = time.Second
	lastRetryAfter  = time.Minute
	// maxSubjects bounds the memory of failures. Forgetting one costs a client a
	// shorter wait and a stuck transaction some more attempts.
	maxSubjects = 10_000
	// giveUpAfter is how often the same database error of one transaction, of a
	// kind that is not known to be the write's fault, is answered as retryable
	// before the write is rejected, so that no queue is frozen for ever.
	giveUpAfter = 50
)

// patience remembers the failures of each user since their last success.
type patience struct {
	mu       sync.Mutex
	subjects map[[2]string]*troubles
}

type troubles struct {
	failures int
	digest   ledger.Digest // the transaction that failed last
	sqlstate string        // how
	same     int           // how often in a row
}

func newPatience() *patience { return &patience{subjects: map[[2]string]*troubles{}} }

// failed counts a failure. It returns how long the client should wait, a second
// at first, then twice as long each time up to a minute, and how often in a row
// this transaction failed with this database error; 0 for one of another kind.
func (p *patience) failed(who identity.Identity, digest ledger.Digest, err error) (retryAfter time.Duration, same int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := [2]string{who.Issuer, who.Subject}
	t := p.subjects[key]
	if t == nil {
		if len(p.subjects) >= maxSubjects {
			for other := range p.subjects {
				delete(p.subjects, other)
				break
			}
		}
		t = &troubles{}
		p.subjects[key] = t
	}
	t.failures++
	state := ""
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		state = pg.Code
	}
	if state == "" || t.digest != digest || t.sqlstate != state {
		t.digest, t.sqlstate, t.same = digest, state, 0
	}
	if state != "" {
		t.same++
	}
	retryAfter = firstRetryAfter << min(t.failures-1, 6)
	return min(retryAfter, lastRetryAfter), t.same
}

// succeeded forgets.
func (p *patience) succeeded(who identity.Identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subjects, [2]string{who.Issuer, who.Subject})
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
