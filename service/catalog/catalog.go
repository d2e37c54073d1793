// Package catalog reads from Postgres which tables, columns, types, keys and grants
// a database has.
//
// It reads system catalogues only, and no row of the app's tables. It does not
// convert values, which package value does, and it does not decide who may write.
package catalog

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxAge is the age at which a request has the snapshot replaced. Without requests
// nothing is read, so that a serverless database can suspend.
const MaxAge = time.Minute

// Database is a connection or a pool.
type Database interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Catalog holds the latest snapshot for all requests.
type Catalog struct {
	db      Database
	roles   []string
	current atomic.Pointer[Snapshot]
	reading sync.Mutex

	// Of the last read, successful or not.
	ended time.Time
	took  time.Duration
	stale chan struct{}
}

// New returns a catalogue that has not been read yet. It will read the grants of
// the roles.
func New(db Database, roles []string) *Catalog {
	return &Catalog{db: db, roles: roles, stale: make(chan struct{}, 1)}
}

// Run reads the catalogue when the database answers, and again when a request
// finds it old, until ctx ends. It calls report for each snapshot and each failure,
// one at a time. After a failure it waits 250 ms, and up to 1 s after more of them. So a
// database that comes up late is noticed soon.
func (c *Catalog) Run(ctx context.Context, report func(*Snapshot, error)) {
	const first, most = 250 * time.Millisecond, time.Second
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

// Refresh reads a new snapshot. If it fails, the old one stays. Callers that wait at the
// same moment share one read, which began after each of them called. After each read
// there is a pause of the same length: clients whose writes never fit can keep the
// database busy for half of the time at most.
func (c *Catalog) Refresh(ctx context.Context) error {
	called := time.Now()
	c.reading.Lock()
	defer c.reading.Unlock()
	if s := c.current.Load(); s != nil && s.ReadAt.After(called) {
		return nil
	}
	select {
	case <-time.After(c.took - time.Since(c.ended)):
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.read(ctx)
}

func (c *Catalog) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	s, err := read(ctx, c.db, c.roles, c.current.Load())
	c.ended, c.took = time.Now(), time.Since(began)
	if err != nil {
		return err
	}
	c.current.Store(s)
	return nil
}

// Snapshot returns the latest snapshot. It is nil until the catalogue has been read
// once.
func (c *Catalog) Snapshot() *Snapshot { return c.current.Load() }

// Current returns the latest snapshot for a request. If it is over a minute old, Run
// replaces it in the background. Only requests before the first snapshot wait for
// the database.
func (c *Catalog) Current(ctx context.Context) (*Snapshot, error) {
	s := c.current.Load()
	if s == nil {
		return c.first(ctx)
	}
	c.RefreshIfOlderThan(MaxAge)
	return s, nil
}

// RefreshIfOlderThan has Run read the catalogue again in the background if the latest
// snapshot is older than age.
func (c *Catalog) RefreshIfOlderThan(age time.Duration) {
	if s := c.current.Load(); s == nil || time.Since(s.ReadAt) <= age {
		return
	}
	select {
	case c.stale <- struct{}{}:
	default:
	}
}

// first reads the first snapshot, unless a concurrent request has just done so.
func (c *Catalog) first(ctx context.Context) (*Snapshot, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if s := c.current.Load(); s != nil {
		return s, nil
	}
	err := c.read(ctx)
	return c.current.Load(), err
}
