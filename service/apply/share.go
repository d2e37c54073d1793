package apply

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"postern/service/identity"
)

// shares bounds how many of a scarce thing each user has at once, and all users together.
// Who waits is served in the order of arrival.
type shares struct {
	all  *semaphore.Weighted
	each int64

	mu    sync.Mutex
	users map[[2]string]*share // by issuer and subject
}

// share is that of a user who has some of it, or waits for it.
type share struct {
	*semaphore.Weighted
	requests int
}

func newShares(all, each int) *shares {
	return &shares{all: semaphore.NewWeighted(int64(max(all, 1))), each: int64(max(each, 1)), users: map[[2]string]*share{}}
}

// ShareOfRecords waits until a user may read or close rejected writes, or ctx ends. A user
// does so once at a time, and all users on a quarter of the pool's connections, so that
// uploads have the others. The caller must call release.
func (a *Applier) ShareOfRecords(ctx context.Context, who identity.Identity) (release func(), err error) {
	return a.records.acquire(ctx, who)
}

// acquire waits for one, until ctx ends. The caller must call release.
func (s *shares) acquire(ctx context.Context, who identity.Identity) (release func(), err error) {
	key := [2]string{who.Issuer, who.Subject}
	s.mu.Lock()
	own := s.users[key]
	if own == nil {
		own = &share{Weighted: semaphore.NewWeighted(s.each)}
		s.users[key] = own
	}
	own.requests++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if own.requests--; own.requests == 0 {
			delete(s.users, key)
		}
	}
	if err := own.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	if err := s.all.Acquire(ctx, 1); err != nil {
		own.Release(1)
		leave()
		return nil, err
	}
	return func() {
		s.all.Release(1)
		own.Release(1)
		leave()
	}, nil
}
