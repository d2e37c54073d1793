package policies

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"postern/service/identity"
	"postern/service/upload"
)

const (
	// maxRated bounds the users a rate remembers. Forgetting one gives them their
	// allowance anew.
	maxRated = 10_000
	// maxCharged bounds the transactions that are known to be charged. Forgetting
	// one charges it again should it come again.
	maxCharged = 20_000
)

// Rate bounds the operations of each user, as this instance sees them: so many
// may come at once, and what was used comes back evenly over a time.
type Rate struct {
	most  int
	per   time.Duration
	users map[user]allowance
}

type user struct{ issuer, subject string }

// allowance is what a user had left at some time.
type allowance struct {
	left float64
	at   time.Time
}

func newRate(most int, per time.Duration) *Rate {
	return &Rate{most: most, per: per, users: map[user]allowance{}}
}

func (c *compiler) rate(r *rateRule, at place) *Rate {
	per, err := time.ParseDuration(r.Per)
	if err != nil || per <= 0 {
		c.add(at.in("per").problem("%q is not a time like 30s, 1m or 1h", r.Per))
	}
	if r.Most < 1 {
		c.add(at.in("most").problem("write a whole number of operations, from 1 to %d", math.MaxInt32))
	}
	return newRate(int(r.Most), per)
}

// left is what a user may write now.
func (r *Rate) left(who user, now time.Time) float64 {
	a, ok := r.users[who]
	if !ok {
		return float64(r.most)
	}
	back := max(0, now.Sub(a.at).Seconds()) / r.per.Seconds() * float64(r.most)
	return min(float64(r.most), a.left+back)
}

// wait is how long until there is enough left for some operations. More than the
// whole allowance at once empties it, so that no transaction waits for ever.
func (r *Rate) wait(who user, operations int, now time.Time) time.Duration {
	missing := float64(min(operations, r.most)) - r.left(who, now)
	return time.Duration(math.Ceil(max(0, missing) / float64(r.most) * float64(r.per)))
}

func (r *Rate) take(who user, operations int, now time.Time) {
	left := r.left(who, now) - float64(min(operations, r.most))
	if _, known := r.users[who]; !known && len(r.users) >= maxRated {
		for other := range r.users {
			delete(r.users, other)
			break
		}
	}
	r.users[who] = allowance{left, now}
}

// charges guards the users' allowances of a set, and remembers the transactions
// that were taken out of them lately: the newer ones, and those before.
type charges struct {
	mu           sync.Mutex
	newer, older map[[sha256.Size]byte]struct{}
}

func (c *charges) has(digest [sha256.Size]byte) bool {
	_, newer := c.newer[digest]
	_, older := c.older[digest]
	return newer || older
}

func (c *charges) add(digest [sha256.Size]byte) {
	if c.newer == nil || len(c.newer) >= maxCharged/2 {
		c.newer, c.older = map[[sha256.Size]byte]struct{}{}, c.newer
	}
	c.newer[digest] = struct{}{}
}

// Wait takes a transaction's operations out of its user's allowances, for each
// table and for all. Where one has too few left, it takes them from none, and says
// how long until there are enough. A transaction that is sent again, as clients do
// after an error, is not taken again: digest tells it, and is zero where nothing
// does.
func (s *Set) Wait(who identity.Identity, t upload.Transaction, digest [sha256.Size]byte, now time.Time) (wait time.Duration) {
	if !s.rated {
		return 0
	}
	operations := map[*Rate]int{}
	if s.rate != nil {
		operations[s.rate] = len(t.Operations)
	}
	for _, op := range t.Operations {
		table := s.tables[op.Table]
		if table == nil {
			table = s.rest
		}
		if table != nil && table.Rate != nil {
			operations[table.Rate]++
		}
	}
	s.charges.mu.Lock()
	defer s.charges.mu.Unlock()
	identified := digest != [sha256.Size]byte{}
	if identified && s.charges.has(digest) {
		return 0
	}
	from := user{who.Issuer, who.Subject}
	for r, n := range operations {
		wait = max(wait, r.wait(from, n, now))
	}
	if wait > 0 {
		return wait
	}
	for r, n := range operations {
		r.take(from, n, now)
	}
	if identified {
		s.charges.add(digest)
	}
	return 0
}
