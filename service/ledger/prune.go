package ledger

import (
	"context"
	"log/slog"
	"time"
)

const (
	pruneEvery = time.Hour
	pruneBatch = 5000 // rows a statement, so that none holds its locks for long

	forgetBatch = 500 // likewise; these are larger
)

// A receipt is kept for 30 days: a client that has not heard of its transaction
// for longer sends it again as a new one.
const pruneSQL = `
with turn as materialized (select pg_try_advisory_xact_lock(hashtext('postern receipts')) as ours),
     old as (select digest from postern.receipts where at < now() - interval '30 days' limit $1),
     gone as (delete from postern.receipts where (select ours from turn) and digest in (select digest from old) returning digest)
select count(*) from gone`

// The receipt goes too where it says rejected, as it points to the row: should
// the client still come with it, it is judged anew.
const forgetSQL = `
with turn as materialized (select pg_try_advisory_xact_lock(hashtext('postern receipts')) as ours),
     old as (select id from postern.rejected_writes where closed_at < now() - $2::float8 * interval '1 second' limit $1),
     gone as (delete from postern.rejected_writes where (select ours from turn) and id in (select id from old) returning digest),
     receipts as (delete from postern.receipts r using gone where r.digest = gone.digest and r.outcome = 'rejected')
select count(*) from gone`

// Used says that the database is awake, so that Run may tidy up.
func (l *Ledger) Used() {
	select {
	case l.used <- struct{}{}:
	default:
	}
}

// Run forgets old receipts, and rejected writes that were closed Retention ago,
// at once and then every hour, until ctx ends. It does so only after the database
// was used, so that one that sleeps is not woken, and of several instances only
// one does it at a time. Open and held writes stay, however old.
func (l *Ledger) Run(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-l.used:
		case <-ctx.Done():
			return
		}
		if err := l.prune(ctx); err != nil && ctx.Err() == nil {
			logger.Warn("cannot delete old receipts and closed rejected writes, will try again", "error", err)
		} else {
			logger.Debug("tidied up")
		}
		select {
		case <-time.After(pruneEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (l *Ledger) prune(ctx context.Context) error {
	// step bounds the time of one statement, which reports a number.
	step := func(sql string, args ...any) (n int, err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err = l.db.QueryRow(ctx, sql, args...).Scan(&n)
		return n, err
	}
	held, err := step(`select count(*) from (select from postern.rejected_writes where status = 'held' limit 1) any_held`)
	if err != nil {
		return err
	}
	l.held.Store(held > 0)
	for gone := pruneBatch; gone == pruneBatch; {
		if gone, err = step(pruneSQL, pruneBatch); err != nil {
			return err
		}
	}
	for gone := forgetBatch; l.Retention > 0 && gone == forgetBatch; {
		if gone, err = step(forgetSQL, forgetBatch, l.Retention.Seconds()); err != nil {
			return err
		}
	}
	return nil
}
