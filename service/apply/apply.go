package apply

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// OnReject says how a request goes on after a rejected transaction.
type OnReject string

// The two ways.
const (
	Skip OnReject = "skip" // with the next transaction
	Stop OnReject = "stop" // not at all: the rest is not_attempted, and the client sends it again
)

// Applier applies uploads. It is safe for concurrent use.
type Applier struct {
	DB       *pgxpool.Pool // connected as Postern's login role
	Catalog  *catalog.Catalog
	Policies *policies.Live
	Ledger   *ledger.Ledger
	OnReject OnReject

	failures    *failureTracker
	retries     atomic.Int64 // attempts that were repeated within their request
	applied     tableTimes   // transactions
	long        *semaphore.Weighted
	rates       policies.RateLimiter
	contended   tableTimes // rows are locked first, in the order of their keys
	entangled   tableTimes // that did not help, so transactions are sent alone: a trigger takes locks, too
	connections *shares    // of the pool
	waiters     *shares    // requests that wait long for a lock, each on a connection
	conflicts   conflictCounts
}

// New is an Applier that has seen no failures yet. A user gets at most half of the
// pool's connections. At most a quarter of them wait long for locks, and at most half of
// those for one user.
func New(db *pgxpool.Pool, tables *catalog.Catalog, live *policies.Live, l *ledger.Ledger, onReject OnReject) *Applier {
	pool := int(db.Config().MaxConns)
	return &Applier{
		DB: db, Catalog: tables, Policies: live, Ledger: l, OnReject: onReject, failures: newFailureTracker(),
		long: semaphore.NewWeighted(1), connections: newShares(pool, pool/2), waiters: newShares(pool/4, pool/8),
	}
}

// Retries is how many attempts have been repeated within their request since the start.
func (a *Applier) Retries() int64 { return a.retries.Load() }

// transaction is one of a request's transactions on its way to a result.
type transaction struct {
	ledger.Entry
	index       int            // within the request
	now         time.Time      // the now of expressions, for its first operation
	duplicateOf *transaction   // the same transaction, earlier in the request
	result      *upload.Result // nil until it is known

	orders         []plan.Order      // the first one is sent; the next one is tried if that is rejected
	failed         *failure          // known before it is sent: of a rule while it was planned, or of an earlier attempt
	firstRejection *upload.Rejection // of the order before, if the last one is tried now
}

// planned reports whether the transaction has statements to send.
func (t *transaction) planned() bool { return len(t.orders) > 0 && len(t.orders[0]) > 0 }

// Apply answers each transaction of the batch, in order. It never fails as a whole:
// an error becomes a transaction's result.
func (a *Applier) Apply(ctx context.Context, logger *slog.Logger, who identity.Identity, batch upload.Batch) []upload.Result {
	all := make([]*transaction, len(batch.Transactions))
	distinct := make([]*transaction, 0, len(all))
	firsts := make(map[ledger.Digest]*transaction, len(all))
	for i, t := range batch.Transactions {
		all[i] = &transaction{Entry: ledger.NewEntry(who, batch.ClientID, t), index: i}
		if first := firsts[all[i].Digest]; first != nil && all[i].Digest.Receipt {
			all[i].duplicateOf = first
			continue
		}
		distinct, firsts[all[i].Digest] = append(distinct, all[i]), all[i]
	}
	r := &request{
		Applier: a, logger: logger, who: who, clientID: batch.ClientID, statusOnly: batch.StatusOnly,
		now: time.Now().Truncate(time.Microsecond),
	}
	if err := r.prepare(ctx, distinct); err != nil {
		r.retryLater(distinct[0], err)
	} else {
		l := &loop{request: r, pending: r.withinRates(r.upToEnd(distinct))}
		l.run(ctx)
	}
	return results(all)
}

// results are those of all transactions. A retryable one ends the request.
func results(all []*transaction) []upload.Result {
	results, ended := make([]upload.Result, len(all)), false
	for i, t := range all {
		if t.duplicateOf != nil {
			t.result = t.duplicateOf.result
		}
		if results[i] = (upload.Result{Status: upload.NotAttempted}); t.result != nil && !ended {
			results[i] = *t.result
			ended = t.result.Status == upload.RetryableError
		}
	}
	return results
}
