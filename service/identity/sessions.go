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
	confirmedTTL  = 24 * time.Hour   // how long a session counts as confirmed
	sessionRetry  = 5 * time.Second  // how long clients wait if the issuer cannot be reached
	turnTimeout   = 4 * time.Second  // for waiting until a question may be asked
	askTimeout    = 5 * time.Second
	maxAsks       = 16    // questions at once about tokens of users who are known; others wait
	maxStrangers  = 8     // about tokens that may be invented
	maxRemembered = 20000 // answers of each kind; some 150 bytes each
)

// sessions asks the issuer about tokens. It keeps the answers for sessionTTL under a
// digest of the token. Concurrent requests with the same token share one question. If
// the issuer cannot be asked, that is not kept.
//
// If only the issuer can verify the signature, anybody can invent any number of tokens,
// and each costs a question. So these have turns of their own, and cannot take those of
// users who are known: by a signature that was verified here, or by a session that the
// issuer has confirmed before.
type sessions struct {
	introspect Introspect
	known      turns
	strangers  turns
	flights    singleflight.Group

	// Two caches, so that invented tokens cannot push out the users' answers.
	accepted cache[string] // the subject
	refused  cache[struct{}]

	confirmed cache[struct{}] // by the digest of subject and session

	mu     sync.Mutex
	asking map[digest]struct{} // the confirmed sessions that have a turn of the known
}

type digest [sha256.Size]byte

// question is a token to ask about.
type question struct {
	text    string
	signed  bool   // its signature was verified
	session digest // of its subject and session; zero if it names no session
}

func newSessions(introspect Introspect) *sessions {
	s := &sessions{introspect: introspect, known: make(turns, maxAsks), strangers: make(turns, maxStrangers), asking: map[digest]struct{}{}}
	s.accepted.ttl, s.refused.ttl, s.confirmed.ttl = sessionTTL, sessionTTL, confirmedTTL
	return s
}

// check refuses a token that the issuer does not accept, that belongs to another
// subject, or about which the issuer could not be asked. signed says that its signature
// was verified.
func (s *sessions) check(ctx context.Context, t token, signed bool) *Refusal {
	subject, q := *t.body.Subject, question{text: t.text, signed: signed}
	if id := t.sessionID(); id != "" {
		q.session = sha256.Sum256([]byte(subject + "\x00" + id)) // a subject has no NUL
	}
	owner, err := s.owner(ctx, q)
	switch {
	case errors.Is(err, ErrRefused):
		return &Refusal{Kind: Revoked, Reason: ErrRefused.Error()}
	case err != nil:
		return unavailable("cannot ask the issuer about the token: "+truncate(err.Error()), sessionRetry)
	case owner != subject:
		return &Refusal{Kind: Revoked, Reason: "the issuer says that the token is another user's"}
	case !signed && q.session != digest{}:
		s.confirmed.put(q.session, struct{}{}, time.Now().Add(confirmedTTL))
	}
	return nil
}

// owner returns the subject of the token, according to the issuer.
func (s *sessions) owner(ctx context.Context, q question) (string, error) {
	key := digest(sha256.Sum256([]byte(q.text)))
	if subject, ok := s.accepted.get(key, time.Now()); ok {
		return subject, nil
	}
	if _, ok := s.refused.get(key, time.Now()); ok {
		return "", ErrRefused
	}
	// The question goes on if this request ends, because others may wait for it, too.
	flight := s.flights.DoChan(string(key[:]), func() (any, error) { return s.ask(key, q) })
	select {
	case result := <-flight:
		subject, _ := result.Val.(string)
		return subject, result.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *sessions) ask(key digest, q question) (string, error) {
	turns, done := s.turnsFor(q)
	defer done()
	if !turns.take() {
		return "", errors.New("too many tokens wait to be checked at once")
	}
	defer turns.giveBack()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	until := time.Now().Add(sessionTTL)
	subject, err := s.introspect(ctx, q.text)
	switch {
	case err == nil:
		s.accepted.put(key, subject, until)
	case errors.Is(err, ErrRefused):
		s.refused.put(key, struct{}{}, until)
	}
	return subject, err
}

// turnsFor returns the turns that a question takes one of. A confirmed session has one
// turn of the known at a time: its user could invent tokens that name it. done must be
// called after the question.
func (s *sessions) turnsFor(q question) (t turns, done func()) {
	if q.signed {
		return s.known, func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, confirmed := s.confirmed.get(q.session, time.Now())
	if _, busy := s.asking[q.session]; !confirmed || busy {
		return s.strangers, func() {}
	}
	s.asking[q.session] = struct{}{}
	return s.known, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asking, q.session)
	}
}

// turns bounds how many questions are asked at once.
type turns chan struct{}

// take waits for a turn for turnTimeout at most. The time is not that of the question, so
// that those who get a turn after a long wait can still use it.
func (t turns) take() bool {
	timer := time.NewTimer(turnTimeout)
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (t turns) giveBack() { <-t }

// cache keeps answers until they expire, and at most maxRemembered of them. New answers
// go into young. When young is full or old enough, it becomes old, and what was old is
// dropped.
type cache[T any] struct {
	ttl        time.Duration // how long answers are kept at most
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
	if now := time.Now(); c.young == nil || len(c.young) >= maxRemembered/2 || now.Sub(c.rotated) > c.ttl {
		c.young, c.old, c.rotated = make(map[digest]answer[T]), c.young, now
	}
	c.young[key] = answer[T]{value, until}
}
