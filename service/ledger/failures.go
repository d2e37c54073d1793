package ledger

import (
	"context"
	"fmt"
	"time"
)

// A series of failures ends if the cause changes, or if the transaction does not come
// again within a day.
const countFailureSQL = `
insert into postern.failures as f (digest, cause) values ($1, $2)
    on conflict (digest) do update
   set times = case when ` + continues + ` then f.times + 1 else 1 end,
       first_at = case when ` + continues + ` then f.first_at else now() end,
       cause = excluded.cause, last_at = now()
returning times, extract(epoch from now() - first_at)::float8`

const continues = `f.cause = excluded.cause and f.last_at > now() - interval '1 day'`

// CountFailure counts that a transaction has failed with a cause of its own. It returns
// how often that has happened in a row, this time included, and how long ago it happened
// first.
func (l *Ledger) CountFailure(ctx context.Context, digest Digest, cause string) (times int, since time.Duration, err error) {
	var seconds float64
	if err := l.db.QueryRow(ctx, countFailureSQL, digest.Sum[:], cause).Scan(&times, &seconds); err != nil {
		return 0, 0, fmt.Errorf("counting a failure: %w", err)
	}
	return times, time.Duration(seconds * float64(time.Second)), nil
}

// ForgetFailures ends the series of failures of transactions that are answered.
func (l *Ledger) ForgetFailures(ctx context.Context, digests []Digest) error {
	sums := make([][]byte, len(digests))
	for i, d := range digests {
		sums[i] = d.Sum[:]
	}
	if _, err := l.db.Exec(ctx, `delete from postern.failures where digest = any($1)`, sums); err != nil {
		return fmt.Errorf("forgetting failures: %w", err)
	}
	return nil
}
