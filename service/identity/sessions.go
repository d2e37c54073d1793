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
	sessionTTL    = 30 * time.Second // an answer's longest life, from the moment of asking
	sessionRetry  = 5 * time.Second  // what clients are told to wait while the issuer is out of reach
	askTimeout    = 5 * time.Second
	maxAsks       = 16    // at once; more wait their turn
	maxRemembered = 20000 // answers of either kind; some 150 bytes each
)

// sessions asks the issuer about tokens, and remembers its answers for a short
// while under a digest of the token. Requests with one token at one time share
// one ask. Failures to ask are not remembered.
type sessions struct {
	introspect Introspect
	turns      chan struct{}
	flights    singleflight.Group

	// Answers are kept apart, so that made-up tokens push out no user's.
	accepted memory[string] // the subject
	refused  memory[struct{}]
}

type digest [sha256.Size]byte

func newSessions(introspect Introspect) *sessions {
	return &sessions{introspect: introspect, turns: make(chan struct{}, maxAsks)}
}

// check refuses a token that the issuer does not accept or knows as another
// user's, and one that it could not be asked about.
func (s *sessions) check(ctx context.Context, text, subject string) *Refusal {
	owner, err := s.owner(ctx, text)
	switch {
	case errors.Is(err, ErrRefused):
		return &Refusal{Kind: Revoked, Reason: ErrRefused.Error()}
	case err != nil:
		return unavailable("cannot ask the issuer about the token: "+truncate(err.Error()), sessionRetry)
	case owner != subject:
		return &Refusal{Kind: Revoked, Reason: "the issuer knows the token as another user's"}
	}
	return nil
}

// owner is the subject that the issuer sees in the token.
func (s *sessions) owner(ctx context.Context, text string) (string, error) {
	key := digest(sha256.Sum256([]byte(text)))
	if subject, ok := s.accepted.get(key, time.Now()); ok {
		return subject, nil
	}
	if _, ok := s.refused.get(key, time.Now()); ok {
		return "", ErrRefused
	}
	// The flight outlives the request that began it: others wait for it too.
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
		return "", errors.New("too many questions to the issuer at once")
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

// memory keeps answers until their time is over, at most maxRemembered of them:
// the half that came last, and the half before.
type memory[T any] struct {
	mu         sync.Mutex
	young, old map[digest]answer[T]
	turned     time.Time // when young became old the last time
}

type answer[T any] struct {
	value T
	until time.Time
}

func (m *memory[T]) get(key digest, now time.Time) (value T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.young[key]
	if !ok {
		found, ok = m.old[key]
	}
	if !ok || !now.Before(found.until) {
		return value, false
	}
	return found.value, true
}

func (m *memory[T]) put(key digest, value T, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); m.young == nil || len(m.young) >= maxRemembered/2 || now.Sub(m.turned) > sessionTTL {
		m.young, m.old, m.turned = make(map[digest]answer[T]), m.young, now
	}
	m.young[key] = answer[T]{value, until}
}
