package apply

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/plan"
)

// contendedFor is how long a table stays remembered after requests waited for each
// other's locks in it.
const contendedFor = 10 * time.Minute

// contention remembers tables in which requests waited for each other's locks. The zero
// value is ready to use.
type contention struct {
	mu    sync.Mutex
	until map[uint32]time.Time // by the tables' OIDs
}

// add notes the tables of a batch.
func (c *contention) add(batch []*transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		c.until = map[uint32]time.Time{}
	}
	for _, t := range batch {
		for _, o := range t.toSend() {
			c.until[o.Table.OID] = time.Now().Add(contendedFor)
		}
	}
}

// tables are the OIDs of the tables that are remembered; nil if there are none.
func (c *contention) tables() (contended map[uint32]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for oid, until := range c.until {
		switch {
		case time.Now().After(until):
			delete(c.until, oid)
		case contended == nil:
			contended = map[uint32]bool{oid: true}
		default:
			contended[oid] = true
		}
	}
	return contended
}

// concerns reports whether a batch has an operation in one of the tables.
func (c *contention) concerns(batch []*transaction) bool {
	tables := c.tables()
	return tables != nil && slices.ContainsFunc(batch, func(t *transaction) bool {
		return slices.ContainsFunc(t.toSend(), func(o *plan.Operation) bool { return tables[o.Table.OID] })
	})
}

// deadlocked reports whether Postgres ended the attempt because it and others waited for
// each other.
func deadlocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "40P01"
}

// blocked reports whether a lock was not free within the attempt's time for it.
func blocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}
