package policies

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"postern/service/identity"
	"postern/service/upload"
)

// maxRated bounds the users a rate remembers. Forgetting one gives them their
// allowance anew.
const maxRated = 10_000

// Rate bounds the operations of each user, as this instance sees them.
type Rate struct {
	most int
	per  time.Duration

	mu    sync.Mutex
	users map[[2]string]*rate.Limiter
}

func newRate(most int, per time.Duration) *Rate {
	return &Rate{most: most, per: per, users: map[[2]string]*rate.Limiter{}}
}

// Take takes operations out of a user's allowance. Where there are too few left
// it takes none, and says how long until there are enough. More than the whole
// allowance at once empties it, so that no transaction waits for ever.
func (r *Rate) Take(who identity.Identity, operations int, now time.Time) (wait time.Duration) {
	if r == nil || operations == 0 {
		return 0
	}
	reservation := r.limiter(who).ReserveN(now, min(operations, r.most))
	if wait = reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (r *Rate) limiter(who identity.Identity) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{who.Issuer, who.Subject}
	l := r.users[key]
	if l == nil {
		if len(r.users) >= maxRated {
			for other := range r.users {
				delete(r.users, other)
				break
			}
		}
		l = rate.NewLimiter(rate.Limit(float64(r.most)/r.per.Seconds()), r.most)
		r.users[key] = l
	}
	return l
}

// Wait takes a transaction's operations out of its user's allowances, for each
// table and for all. Where one has too few left, it says how long until there are
// enough.
func (s *Set) Wait(who identity.Identity, t upload.Transaction, now time.Time) (wait time.Duration) {
	if !s.rated {
		return 0
	}
	counts := map[*Rate]int{s.rate: len(t.Operations)}
	for _, op := range t.Operations {
		if table := s.tables[op.Table]; table != nil && table.Rate != nil {
			counts[table.Rate]++
		}
	}
	for r, n := range counts {
		wait = max(wait, r.Take(who, n, now))
	}
	return wait
}
