package ledger

import (
	"context"
	"time"
)

// Counts is what schema postern holds, as of the last pruning.
type Counts struct {
	Open, Held int64     // rejected writes that wait for a decision
	Oldest     time.Time // when the oldest of them was first rejected; zero if there is none
	YearOld    int64     // those that are a year old
	Receipts   int64     // as Postgres estimates them
}

const countsSQL = `
select count(*) filter (where status = 'open'), count(*) filter (where status = 'held'), min(first_at),
       count(*) filter (where first_at < now() - interval '1 year'),
       (select greatest(reltuples, 0)::bigint from pg_catalog.pg_class where oid = 'postern.receipts'::regclass)
  from postern.rejected_writes where status in ('open', 'held')`

func (l *Ledger) count(ctx context.Context) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var c Counts
	var oldest *time.Time
	err := l.db.QueryRow(ctx, countsSQL).Scan(&c.Open, &c.Held, &oldest, &c.YearOld, &c.Receipts)
	if oldest != nil {
		c.Oldest = *oldest
	}
	return c, err
}

// Counts returns what Run counted last; ok is false before it has counted.
func (l *Ledger) Counts() (c Counts, ok bool) {
	last := l.counts.Load()
	if last == nil {
		return Counts{}, false
	}
	return *last, true
}

// YearOld is how many open and held writes were a year old when Run last looked.
func (l *Ledger) YearOld() int64 {
	c, _ := l.Counts()
	return c.YearOld
}
