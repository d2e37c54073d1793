// Package catalog knows what Postgres says its tables are, and turns a client's
// JSON values into values of their columns.
//
// It reads system catalogues only, never a row of the application's, and it
// decides nothing about who may write where.
package catalog

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxAge is how old a snapshot may grow while requests come in. Without requests
// nothing is read: a serverless database must be able to sleep.
const maxAge = time.Minute

// Querier is a connection or pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Catalog is the latest snapshot, shared by all requests.
type Catalog struct {
	db      Querier
	roles   []string
	current atomic.Pointer[Snapshot]
	reading sync.Mutex
	stale   chan struct{}
}

// New makes a catalogue that has not been read yet. roles are those whose grants
// matter.
func New(db Querier, roles []string) *Catalog {
	return &Catalog{db: db, roles: roles, stale: make(chan struct{}, 1)}
}

// Run reads the catalogue, as soon as the database answers, and again whenever a
// request finds it old, until ctx ends. Each snapshot and each failure is
// reported, one at a time.
func (c *Catalog) Run(ctx context.Context, report func(*Snapshot, error)) {
	const first, most = 250 * time.Millisecond, 15 * time.Second
	wait := first
	for {
		err := c.Refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		report(c.current.Load(), err)
		if err == nil {
			wait = first
			select {
			case <-c.stale:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, most)
		case <-ctx.Done():
			return
		}
	}
}

// Refresh reads a new snapshot. When it fails the old one stays. Callers at the
// same moment wait for each other.
func (c *Catalog) Refresh(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.read(ctx)
}

func (c *Catalog) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := Read(ctx, c.db, c.roles)
	if err != nil {
		return err
	}
	c.current.Store(s)
	return nil
}

// Snapshot is the latest one; nil before the catalogue was read for the first
// time.
func (c *Catalog) Snapshot() *Snapshot { return c.current.Load() }

// Current is a snapshot for a request: the latest one, which is replaced behind
// the request's back where it is old. Only the first requests after a start wait
// for the database.
func (c *Catalog) Current(ctx context.Context) (*Snapshot, error) {
	s := c.current.Load()
	if s == nil {
		return c.first(ctx)
	}
	c.Renew(maxAge)
	return s, nil
}

// Renew has Run read the catalogue again where the latest snapshot is older than age.
func (c *Catalog) Renew(age time.Duration) {
	if s := c.current.Load(); s == nil || time.Since(s.ReadAt) <= age {
		return
	}
	select {
	case c.stale <- struct{}{}:
	default:
	}
}

func (c *Catalog) first(ctx context.Context) (*Snapshot, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if s := c.current.Load(); s != nil {
		return s, nil
	}
	err := c.read(ctx)
	return c.current.Load(), err
}
