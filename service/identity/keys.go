package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	refreshEvery    = 5 * time.Minute // Supabase's edge caches a key set for 10 min; a revoked key must not be used much longer here
	refreshSpread   = 2 * time.Minute // a random part of it is added, so that instances do not fetch all at once
	maxKeyAge       = time.Hour       // since the last fetch that succeeded; for as long a revoked key works if nobody can be asked
	retryEvery      = 10 * time.Second
	unknownKeyEvery = 10 * time.Second       // between fetches for unknown kids, however many arrive
	unknownKeyBurst = 3                      // so many fetches may come sooner, so that a rotation is seen at once
	unknownKeyWait  = 200 * time.Millisecond // the longest a request waits for a fetch
	fetchTimeout    = 5 * time.Second
)

// keySet holds one issuer's keys and decides when to fetch them again. Only its
// goroutine fetches. Requests read the keys without a lock. A request with an unknown
// kid asks the goroutine for a fetch.
type keySet struct {
	source keySource
	logger *slog.Logger
	last   atomic.Pointer[keys] // of the last fetch that succeeded; nil before the first
	tried  atomic.Bool          // whether the first fetch has ended
	asked  chan time.Time       // when next must begin; capacity 1

	mu      sync.Mutex
	limiter *rate.Limiter
	next    *fetch // the fetch that is running, or else the next one
}

// keys are the result of one fetch. They do not change.
type keys struct {
	keyfunc keyfunc.Keyfunc
	ids     []string  // in the set's order
	fetched time.Time // by the wall clock, which goes on while a machine is suspended
}

// current returns the keys of the last fetch that succeeded; nil if there are none or they
// are too old.
func (k *keySet) current() *keys {
	last := k.last.Load()
	if last == nil || time.Now().Round(0).Sub(last.fetched) >= maxKeyAge {
		return nil
	}
	return last
}

// fetch is one fetch of the key set. keySet.mu guards begun and due.
type fetch struct {
	begun bool
	due   time.Time     // when it begins because of an unknown kid; zero if no request asked for it
	done  chan struct{} // closed when it has ended
	err   error         // valid once done is closed
}

// newKeySet returns a key set that is fetched until ctx ends.
func newKeySet(ctx context.Context, source keySource, logger *slog.Logger) *keySet {
	k := &keySet{
		source:  source,
		logger:  logger,
		asked:   make(chan time.Time, 1),
		limiter: rate.NewLimiter(rate.Every(unknownKeyEvery), unknownKeyBurst),
		next:    &fetch{done: make(chan struct{})},
	}
	go k.run(ctx)
	return k
}

func (k *keySet) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := refreshEvery + rand.N(refreshSpread)
		if err := k.refresh(ctx); err != nil {
			wait = retryEvery
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case due := <-k.asked:
			timer.Reset(time.Until(due))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// refresh fetches the keys and wakes the requests that wait for them.
func (k *keySet) refresh(ctx context.Context) error {
	k.mu.Lock()
	current := k.next
	current.begun = true
	select {
	case <-k.asked: // this fetch answers it
	default:
	}
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	err := k.replace(ctx)
	k.tried.Store(true)

	k.mu.Lock()
	defer k.mu.Unlock()
	current.err = err
	close(current.done)
	k.next = &fetch{done: make(chan struct{})}
	return err
}

// replace fetches the keys and replaces the current ones. If that fails, the current
// ones stay. So they do if the fetched set has no usable key: an issuer that signs with
// keys serves an empty set by mistake.
func (k *keySet) replace(ctx context.Context) error {
	asked := time.Now().Round(0)
	fetched, leftOut, err := k.source.fetch(ctx)
	if current := k.current(); err == nil && len(fetched) == 0 && (!k.source.mayBeEmpty || current != nil && len(current.ids) > 0) {
		err = fmt.Errorf("the key set has no usable key (left out: %q)", leftOut)
	}
	if err != nil {
		k.logger.WarnContext(ctx, "cannot fetch the key set; the last good one, if any, stays in use for an hour, and the next attempt follows in 10 seconds", "issuer", k.source.issuer, "error", err)
		return err
	}
	storage := jwkset.NewMemoryStorage()
	replacement := &keys{fetched: asked}
	for _, key := range fetched {
		replacement.ids = append(replacement.ids, key.Marshal().KID)
	}
	if err := storage.KeyReplaceAll(ctx, fetched); err != nil {
		return err
	}
	if replacement.keyfunc, err = keyfunc.New(keyfunc.Options{Storage: storage}); err != nil {
		return err
	}
	before := k.last.Swap(replacement)
	if before == nil || !slices.Equal(before.ids, replacement.ids) {
		k.logger.InfoContext(ctx, "key set loaded", "issuer", k.source.issuer, "kids", replacement.ids, "left_out", leftOut)
	}
	return nil
}

// find returns the public key that verifies tokens with this header. If the kid is
// unknown, find asks for another fetch and waits for it. It fails with UnknownKey if
// the fetched set has no such key. It fails with Unavailable if there was no such
// fetch within unknownKeyWait.
func (k *keySet) find(ctx context.Context, head header) (any, *Refusal) {
	key, err := k.lookup(head)
	if errors.Is(err, jwkset.ErrKeyNotFound) {
		fresh, refusal := k.awaitFetch(ctx)
		if refusal != nil {
			return nil, refusal
		}
		key, err = k.lookup(head)
		if errors.Is(err, jwkset.ErrKeyNotFound) && !fresh {
			return nil, unavailable("the running fetch of the key set began before the token arrived, and brought no such key", time.Second)
		}
	}
	switch {
	case errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, &Refusal{Kind: UnknownKey, Reason: "the issuer's key set has no usable key with this kid"}
	case err != nil:
		return nil, &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("the key is not for %q", truncate(head.Algorithm))}
	}
	return key, nil
}

func (k *keySet) lookup(head header) (any, error) {
	loaded := k.current()
	if loaded == nil {
		return nil, jwkset.ErrKeyNotFound
	}
	return loaded.keyfunc.Keyfunc(&jwt.Token{Header: map[string]any{"kid": head.keyID(), "alg": head.Algorithm}})
}

// has reports whether the current set has a key with this kid, for any algorithm.
func (k *keySet) has(kid string) bool {
	loaded := k.current()
	return loaded != nil && slices.Contains(loaded.ids, kid)
}

// awaitFetch waits for the running fetch or the next one, and fails if that fails.
// fresh reports whether the fetch began after the call. A fetch that began earlier may
// have missed a new key.
func (k *keySet) awaitFetch(ctx context.Context) (fresh bool, refusal *Refusal) {
	next, fresh, wait := k.askForFetch()
	if wait > unknownKeyWait {
		return false, unavailable("the key set was fetched a moment ago and had no such key", wait+time.Second)
	}
	timer := time.NewTimer(unknownKeyWait)
	defer timer.Stop()
	select {
	case <-next.done:
	case <-timer.C:
		return false, unavailable("the issuer's key set is still being fetched", time.Second)
	case <-ctx.Done():
		return false, unavailable("the request ended while the issuer's key set was being fetched", time.Second)
	}
	if next.err != nil {
		return false, unavailable("cannot fetch the issuer's key set", retryEvery)
	}
	return fresh, nil
}

// askForFetch returns the running fetch, or else the next one and the time until it
// begins. fresh reports whether it begins after the call.
func (k *keySet) askForFetch() (next *fetch, fresh bool, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next = k.next
	if next.begun {
		return next, false, 0
	}
	if next.due.IsZero() {
		next.due = time.Now().Add(k.limiter.Reserve().Delay())
		k.asked <- next.due // refresh took the last one out
	}
	return next, true, time.Until(next.due)
}
