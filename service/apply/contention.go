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

// tableTimes remembers when something last happened in the tables of a batch. The zero
// value is ready to use.
type tableTimes struct {
	mu sync.Mutex
	at map[uint32]time.Time // by the tables' OIDs
}

// add notes the tables of a batch.
func (t *tableTimes) add(batch []*transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil {
		t.at = map[uint32]time.Time{}
	}
	now := time.Now()
	for _, transaction := range batch {
		for _, u := range transaction.toSend().Tables {
			t.at[u.Table.OID] = now
		}
	}
}

// within are the OIDs of the tables of the last d; nil if there are none.
func (t *tableTimes) within(d time.Duration) (tables map[uint32]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for oid, at := range t.at {
		switch {
		case time.Since(at) > d:
		case tables == nil:
			tables = map[uint32]bool{oid: true}
		default:
			tables[oid] = true
		}
	}
	return tables
}

// concerns reports whether a batch has an operation in one of the tables.
func concerns(tables map[uint32]bool, batch []*transaction) bool {
	return tables != nil && slices.ContainsFunc(batch, func(t *transaction) bool {
		return slices.ContainsFunc(t.toSend().Tables, func(u plan.TableUse) bool { return tables[u.Table.OID] })
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
