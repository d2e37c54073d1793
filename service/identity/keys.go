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
	refreshEvery    = 5 * time.Minute // Supabase's edge keeps a key set 10 min; a revoked key must not live much longer here
	refreshSpread   = 2 * time.Minute // added at random, so that instances do not ask in step
	retryEvery      = 10 * time.Second
	unknownKeyEvery = 10 * time.Second       // between fetches caused by unknown kids, however many arrive
	unknownKeyBurst = 3                      // that many may come sooner, so that a rotation after a quiet time is seen at once
	unknownKeyWait  = 200 * time.Millisecond // the longest a request waits for a fetch
	fetchTimeout    = 5 * time.Second
)

// keySet holds one issuer's keys and decides when to fetch them again. Its
// goroutine alone fetches; requests read the keys without a lock, and one whose
// kid is unknown asks the goroutine for a fetch.
type keySet struct {
	source keySource
	logger *slog.Logger
	keys   atomic.Pointer[keys] // those of the last fetch that succeeded; nil before
	asked  chan time.Time       // when next is due; capacity 1

	mu      sync.Mutex
	limiter *rate.Limiter
	next    *fetch // the one under way, or else the next one
}

// keys are what one fetch brought. They do not change.
type keys struct {
	keyfunc keyfunc.Keyfunc
	ids     []string // in the set's order
}

// fetch is one round of asking the issuer. Its fields but err belong to
// keySet.mu.
type fetch struct {
	begun bool
	due   time.Time     // when it begins because of an unknown kid; zero while nobody asked
	done  chan struct{} // closed at its end
	err   error         // valid from then on
}

// newKeySet starts fetching the keys, until ctx ends.
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

// refresh fetches the keys and wakes those who wait for them.
func (k *keySet) refresh(ctx context.Context) error {
	k.mu.Lock()
	current := k.next
	current.begun = true
	select {
	case <-k.asked: // this is the fetch that was asked for
	default:
	}
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	err := k.replace(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()
	current.err = err
	close(current.done)
	k.next = &fetch{done: make(chan struct{})}
	return err
}

// replace puts the issuer's keys of now in the place of the ones at hand, which
// stay when that fails.
func (k *keySet) replace(ctx context.Context) error {
	fetched, leftOut, err := k.source.fetch(ctx)
	if err != nil {
		k.logger.WarnContext(ctx, "cannot fetch the key set, keeping the last good one", "issuer", k.source.issuer, "error", err)
		return err
	}
	storage := jwkset.NewMemoryStorage()
	replacement := &keys{}
	for _, key := range fetched {
		replacement.ids = append(replacement.ids, key.Marshal().KID)
	}
	if err := storage.KeyReplaceAll(ctx, fetched); err != nil {
		return err
	}
	if replacement.keyfunc, err = keyfunc.New(keyfunc.Options{Storage: storage}); err != nil {
		return err
	}
	before := k.keys.Swap(replacement)
	if before == nil || !slices.Equal(before.ids, replacement.ids) {
		k.logger.InfoContext(ctx, "key set loaded", "issuer", k.source.issuer, "kids", replacement.ids, "left_out", leftOut)
	}
	return nil
}

// find gives the public key that verifies tokens with this header. A kid that is
// not at hand makes the set be fetched again: find fails with UnknownKey when
// the issuer was asked since and has no such key, and with Unavailable when that
// could not be learnt within unknownKeyWait.
func (k *keySet) find(ctx context.Context, head header) (any, *Refusal) {
	key, err := k.lookup(head)
	if errors.Is(err, jwkset.ErrKeyNotFound) {
		asked, refusal := k.await(ctx)
		if refusal != nil {
			return nil, refusal
		}
		key, err = k.lookup(head)
		if errors.Is(err, jwkset.ErrKeyNotFound) && !asked {
			return nil, unavailable("the key set was being fetched already and has no such key yet", time.Second)
		}
	}
	switch {
	case errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, &Refusal{Kind: UnknownKey, Reason: "the issuer's key set has no usable key of this id"}
	case err != nil:
		return nil, &Refusal{Kind: WrongAlgorithm, Reason: fmt.Sprintf("the key is not for %q", truncate(head.Algorithm))}
	}
	return key, nil
}

func (k *keySet) lookup(head header) (any, error) {
	loaded := k.keys.Load()
	if loaded == nil {
		return nil, jwkset.ErrKeyNotFound
	}
	return loaded.keyfunc.Keyfunc(&jwt.Token{Header: map[string]any{"kid": head.keyID(), "alg": head.Algorithm}})
}

// has reports whether the set at hand has a key of this id, for any algorithm.
func (k *keySet) has(kid string) bool {
	loaded := k.keys.Load()
	return loaded != nil && slices.Contains(loaded.ids, kid)
}

// await waits for the next fetch, or the one under way, and fails when it does.
// asked says that the fetch began after the call, so that its result is an
// answer to it.
func (k *keySet) await(ctx context.Context) (asked bool, refusal *Refusal) {
	next, asked, wait := k.ask()
	if wait > unknownKeyWait {
		return false, unavailable("the key set was fetched a moment ago and has no such key yet", wait+time.Second)
	}
	timer := time.NewTimer(unknownKeyWait)
	defer timer.Stop()
	select {
	case <-next.done:
	case <-timer.C:
		return false, unavailable("still fetching the issuer's key set", time.Second)
	case <-ctx.Done():
		return false, unavailable("the request ended while the issuer's key set was fetched", time.Second)
	}
	if next.err != nil {
		return false, unavailable("cannot fetch the issuer's key set", retryEvery)
	}
	return asked, nil
}

// ask joins the fetch under way, or makes sure that one is due and says how long
// until it begins.
func (k *keySet) ask() (next *fetch, asked bool, wait time.Duration) {
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
