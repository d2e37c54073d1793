package ledger

import (
	"context"
	"log/slog"
	"time"
)

const (
	pruneEvery = time.Hour
	pruneBatch = 5000 // rows a statement, so that none holds its locks for long
)

// A receipt is kept for 30 days: a client that has not heard of its transaction
// for longer sends it again as a new one.
const pruneSQL = `
with turn as materialized (select pg_try_advisory_xact_lock(hashtext('postern receipts')) as ours),
     old as (select digest from postern.receipts where at < now() - interval '30 days' limit $1)
delete from postern.receipts where (select ours from turn) and digest in (select digest from old)`

// Used says that the database is awake, so that Run may tidy up.
func (l *Ledger) Used() {
	select {
	case l.used <- struct{}{}:
	default:
	}
}

// Run forgets old receipts, at once and then every hour, until ctx ends. It does
// so only after the database was used, so that one that sleeps is not woken, and
// of several instances only one does it at a time.
func (l *Ledger) Run(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-l.used:
		case <-ctx.Done():
			return
		}
		if err := l.prune(ctx); err != nil && ctx.Err() == nil {
			logger.Warn("cannot delete old receipts, will try again", "error", err)
		}
		select {
		case <-time.After(pruneEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (l *Ledger) prune(ctx context.Context) error {
	for {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		tag, err := l.db.Exec(ctx, pruneSQL, pruneBatch)
		cancel()
		if err != nil || tag.RowsAffected() < pruneBatch {
			return err
		}
	}
}
