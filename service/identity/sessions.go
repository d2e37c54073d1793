package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	sessionTTL    = 30 * time.Second // how long an answer is used, from the moment of asking
	sessionRetry  = 5 * time.Second  // how long clients wait if the issuer cannot be reached
	askTimeout    = 5 * time.Second
	maxAsks       = 16    // at once; others wait
	maxRemembered = 20000 // answers of each kind; some 150 bytes each
)

// sessions asks the issuer about tokens. It keeps the answers for sessionTTL under a
// digest of the token. Concurrent requests with the same token share one question. If
// the issuer cannot be asked, that is not kept.
type sessions struct {
	introspect Introspect
	turns      chan struct{}
	flights    singleflight.Group

	// Two caches, so that invented tokens cannot push out the users' answers.
	accepted cache[string] // the subject
	refused  cache[struct{}]
}

type digest [sha256.Size]byte

func newSessions(introspect Introspect) *sessions {
	return &sessions{introspect: introspect, turns: make(chan struct{}, maxAsks)}
}

// check refuses a token that the issuer does not accept, that belongs to another
// subject, or about which the issuer could not be asked.
func (s *sessions) check(ctx context.Context, text, subject string) *Refusal {
	owner, err := s.owner(ctx, text)
	switch {
	case errors.Is(err, ErrRefused):
		return &Refusal{Kind: Revoked, Reason: ErrRefused.Error()}
	case err != nil:
		return unavailable("cannot ask the issuer about the token: "+truncate(err.Error()), sessionRetry)
	case owner != subject:
		return &Refusal{Kind: Revoked, Reason: "the issuer says that the token is another user's"}
	}
	return nil
}

// owner returns the subject of the token, according to the issuer.
func (s *sessions) owner(ctx context.Context, text string) (string, error) {
	key := digest(sha256.Sum256([]byte(text)))
	if subject, ok := s.accepted.get(key, time.Now()); ok {
		return subject, nil
	}
	if _, ok := s.refused.get(key, time.Now()); ok {
		return "", ErrRefused
	}
	// The question goes on if this request ends, because others may wait for it, too.
	flight := s.flights.DoChan(string(key[:]), func() (any, error) { return s.ask(key, text) })
	select {
	case result := <-flight:
		subject, _ := result.Val.(string)
		return subject, result.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *sessions) ask(key digest, text string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return "", errors.New("too many tokens wait to be checked at once")
	}
	until := time.Now().Add(sessionTTL)
	subject, err := s.introspect(ctx, text)
	switch {
	case err == nil:
		s.accepted.put(key, subject, until)
	case errors.Is(err, ErrRefused):
		s.refused.put(key, struct{}{}, until)
	}
	return subject, err
}

// cache keeps answers until they expire, and at most maxRemembered of them. New answers
// go into young. When young is full or old enough, it becomes old, and what was old is
// dropped.
type cache[T any] struct {
	mu         sync.Mutex
	young, old map[digest]answer[T]
	rotated    time.Time // when young became old last
}

type answer[T any] struct {
	value T
	until time.Time
}

func (c *cache[T]) get(key digest, now time.Time) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.young[key]
	if !ok {
		found, ok = c.old[key]
	}
	if !ok || !now.Before(found.until) {
		return value, false
	}
	return found.value, true
}

func (c *cache[T]) put(key digest, value T, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.young == nil || len(c.young) >= maxRemembered/2 || now.Sub(c.rotated) > sessionTTL {
		c.young, c.old, c.rotated = make(map[digest]answer[T]), c.young, now
	}
	c.young[key] = answer[T]{value, until}
}
