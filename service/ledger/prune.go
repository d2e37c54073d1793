package ledger

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	pruneEvery = time.Hour
	pruneBatch = 5000 // receipts a statement, so that no statement holds its locks for long

	pruneRejectedBatch = 500 // rejected writes a statement; they are larger
)

// A receipt is kept for 30 days. A transaction that a client repeats later than that
// is a new one.
const pruneReceiptsSQL = `
with lock as materialized (select pg_try_advisory_xact_lock(hashtext('postern receipts')) as taken),
     old as (select digest from postern.receipts where at < now() - interval '30 days' limit $1),
     deleted as (delete from postern.receipts where (select taken from lock) and digest in (select digest from old) returning digest)
select count(*) from deleted`

// A receipt with outcome rejected needs its rejected write, so it is deleted too. If
// the client sends the transaction again, it is judged again.
const pruneRejectedSQL = `
with lock as materialized (select pg_try_advisory_xact_lock(hashtext('postern receipts')) as taken),
     old as (select id from postern.rejected_writes where closed_at < now() - $2::float8 * interval '1 second' limit $1),
     deleted as (delete from postern.rejected_writes where (select taken from lock) and id in (select id from old) returning digest),
     receipts as (delete from postern.receipts r using deleted where r.digest = deleted.digest and r.outcome = 'rejected')
select count(*) from deleted`

// A transaction that has not failed for two days begins a new series of failures.
const pruneFailuresSQL = `
with old as (select digest from postern.failures where last_at < now() - interval '2 days' limit $1 for update skip locked),
     deleted as (delete from postern.failures where digest in (select digest from old) returning digest)
select count(*) from deleted`

// Used tells Run that the database is awake.
func (l *Ledger) Used() {
	select {
	case l.used <- struct{}{}:
	default:
	}
}

// Run deletes old receipts, and rejected writes that were closed longer than Retention
// ago. It does so after the first call of Used, and then at most once an hour, until
// ctx ends. It waits for Used so that it never wakes a database that sleeps. If
// several instances run, one of them deletes at a time. Open and held writes stay,
// however old they are; those that are a year old are counted and logged.
func (l *Ledger) Run(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-l.used:
		case <-ctx.Done():
			return
		}
		if err := errors.Join(l.prune(ctx), l.reportOld(ctx, logger)); err != nil && ctx.Err() == nil {
			logger.Warn("cannot delete old receipts, failures and closed rejected writes, or count those that are a year old; the next attempt follows in an hour", "error", err)
		} else {
			logger.Debug("deleted old receipts and closed rejected writes")
		}
		select {
		case <-time.After(pruneEvery):
		case <-ctx.Done():
			return
		}
	}
}

// reportOld counts what schema postern holds. It logs how many open and held writes are a
// year old, if their number has changed.
func (l *Ledger) reportOld(ctx context.Context, logger *slog.Logger) error {
	before := l.YearOld()
	counts, err := l.count(ctx)
	if err != nil {
		return err
	}
	l.counts.Store(&counts)
	if n := counts.YearOld; n != before && n > 0 {
		logger.Warn("rejected writes have been waiting for a year: replay them, or close them with postern rejected dismiss --all-matching --older-than 365d --expire", "count", n)
	}
	return nil
}

func (l *Ledger) prune(ctx context.Context) error {
	count := func(sql string, args ...any) (n int, err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err = l.db.QueryRow(ctx, sql, args...).Scan(&n)
		return n, err
	}
	var err error
	for n := pruneBatch; n == pruneBatch; {
		if n, err = count(pruneReceiptsSQL, pruneBatch); err != nil {
			return err
		}
	}
	for n := pruneBatch; n == pruneBatch; {
		if n, err = count(pruneFailuresSQL, pruneBatch); err != nil {
			return err
		}
	}
	for n := pruneRejectedBatch; l.Retention > 0 && n == pruneRejectedBatch; {
		if n, err = count(pruneRejectedSQL, pruneRejectedBatch, l.Retention.Seconds()); err != nil {
			return err
		}
	}
	return nil
}
