package policies

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"postern/service/identity"
	"postern/service/limits"
	"postern/service/upload"
)

// RateLimiter holds what each user may still write by the rates of the policies.
// It counts what this instance receives. The zero value is ready to use, and a
// RateLimiter is safe for concurrent use.
//
// When the policies are compiled again, every user has the whole allowance again.
// Requests that began under the set before keep counting against that set.
type RateLimiter struct {
	mu               sync.Mutex
	newest, previous *allowances
}

// allowances is what the users of one set have left, and which transactions were
// charged lately.
type allowances struct {
	set            *Set
	most           int // users that are remembered for each rate; who is forgotten has the whole allowance again
	users          map[*Rate]map[user]allowance
	charged, older map[[sha256.Size]byte]struct{} // charged is the newer half
}

type user struct{ issuer, subject string }

// allowance is what a user had left at a time.
type allowance struct {
	left float64
	at   time.Time
}

// Wait charges a transaction's operations and bytes to its user, by the rate of each
// table and by the rate of all tables. If one of them has too few left, Wait charges
// nothing and returns how long until there are enough.
//
// A transaction with a digest is charged once, however often its client sends it.
// The zero digest marks a transaction that cannot be recognised.
func (l *RateLimiter) Wait(set *Set, who identity.Identity, t upload.Transaction, digest [sha256.Size]byte, now time.Time) (wait time.Duration) {
	if !set.rated {
		return 0
	}
	counts := set.rates(t.Operations)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of(set)
	recognised := digest != [sha256.Size]byte{}
	if recognised && a.hasCharged(digest) {
		return 0
	}
	from := user{who.Issuer, who.Subject}
	for rate, n := range counts {
		wait = max(wait, a.wait(rate, from, n, now))
	}
	if wait > 0 {
		return wait
	}
	for rate, n := range counts {
		a.take(rate, from, n, now)
	}
	if recognised {
		a.addCharged(digest)
	}
	return 0
}

// of returns the allowances of a set. It remembers two sets, because requests under
// the set before may still be on their way when a new one comes into force.
func (l *RateLimiter) of(set *Set) *allowances {
	switch {
	case l.newest != nil && l.newest.set == set:
		return l.newest
	case l.previous != nil && l.previous.set == set:
		return l.previous
	}
	l.newest, l.previous = &allowances{set: set, most: limits.This().RatedUsers(), users: map[*Rate]map[user]allowance{}}, l.newest
	return l.newest
}

// left is what a user may write now.
func (a *allowances) left(rate *Rate, who user, now time.Time) float64 {
	last, ok := a.users[rate][who]
	if !ok {
		return float64(rate.most)
	}
	refilled := max(0, now.Sub(last.at).Seconds()) / rate.per.Seconds() * float64(rate.most)
	return min(float64(rate.most), last.left+refilled)
}

// wait is how long until a user may write some operations. A transaction of more
// operations than the rate allows needs the whole allowance, so that it can pass. It is
// charged all of them, so that what the user has left is below zero.
func (a *allowances) wait(rate *Rate, who user, operations int, now time.Time) time.Duration {
	missing := float64(min(operations, rate.most)) - a.left(rate, who, now)
	return time.Duration(math.Ceil(max(0, missing) / float64(rate.most) * float64(rate.per)))
}

func (a *allowances) take(rate *Rate, who user, operations int, now time.Time) {
	left := a.left(rate, who, now) - float64(operations)
	users := a.users[rate]
	if users == nil {
		users = map[user]allowance{}
		a.users[rate] = users
	}
	if _, known := users[who]; !known && len(users) >= a.most {
		for other := range users {
			delete(users, other)
			break
		}
	}
	users[who] = allowance{left, now}
}

func (a *allowances) hasCharged(digest [sha256.Size]byte) bool {
	_, newer := a.charged[digest]
	_, older := a.older[digest]
	return newer || older
}

// addCharged remembers at least as many transactions as users. One that is forgotten is
// charged again if its client sends it again.
func (a *allowances) addCharged(digest [sha256.Size]byte) {
	if a.charged == nil || len(a.charged) >= a.most {
		a.charged, a.older = map[[sha256.Size]byte]struct{}{}, a.charged
	}
	a.charged[digest] = struct{}{}
}
