package apply

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/timing"
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
	shapes      atomic.Pointer[plan.Shapes] // of the latest request's policies and catalogue
	retries     atomic.Int64                // attempts that were repeated within their request
	applied     tableTimes                  // transactions
	long        *semaphore.Weighted
	rates       policies.RateLimiter
	contended   tableTimes // rows are locked first, in the order of their keys
	entangled   tableTimes // that did not help, so their requests run one at a time: a trigger or a foreign key takes locks, too
	watcher     *watcher   // nil if nothing is traced
	connections *shares    // of the pool
	waiters     *shares    // requests that wait long for a lock, each on a connection
	records     *shares    // requests about rejected writes, see ShareOfRecords
	conflicts   conflictCounts
	observed    observedCounts
}

// New is an Applier that has seen no failures yet. A user gets at most half of the
// pool's connections. At most a quarter of them wait long for locks, and at most half of
// those for one user.
func New(db *pgxpool.Pool, tables *catalog.Catalog, live *policies.Live, l *ledger.Ledger, onReject OnReject) *Applier {
	pool := int(db.Config().MaxConns)
	return &Applier{
		DB: db, Catalog: tables, Policies: live, Ledger: l, OnReject: onReject, failures: newFailureTracker(),
		long: semaphore.NewWeighted(1), connections: newShares(pool, pool/2), waiters: newShares(pool/4, pool/8), records: newShares(pool/4, 1),
	}
}

// Retries is how many attempts have been repeated within their request since the start.
func (a *Applier) Retries() int64 { return a.retries.Load() }

// shapesOf returns the shapes of a policy set and a catalogue, as long as no others are used.
func (a *Applier) shapesOf(set *policies.Set, tables *catalog.Snapshot) *plan.Shapes {
	s := a.shapes.Load()
	if !s.AreFor(set, tables) {
		s = plan.NewShapes(set, tables)
		a.shapes.Store(s)
	}
	return s
}

// transaction is one of a request's transactions on its way to a result.
type transaction struct {
	ledger.Entry
	index       int            // within the request
	now         time.Time      // the now of expressions, for its first operation
	duplicateOf *transaction   // the same transaction, earlier in the request
	result      *upload.Result // nil until it is known

	observed       observations
	decision       upload.Decision // of the latest attempt
	orders         []*plan.Order   // the first one is sent; the next one is tried if that is rejected
	checks         *plan.TransactionChecks
	failed         *failure          // known before it is sent: of a rule while it was planned, or of an earlier attempt
	firstRejection *upload.Rejection // of the order before, if the last one is tried now
}

// planned reports whether the transaction has statements to send.
func (t *transaction) planned() bool { return len(t.orders) > 0 && len(t.orders[0].Tables) > 0 }

// toSend are the operations of a transaction; none if it is rejected.
func (t *transaction) toSend() *plan.Order {
	if t.Rejection != nil || len(t.orders) == 0 {
		return &plan.Order{}
	}
	return t.orders[0]
}

// hasChecks reports whether a rule over the whole transaction looks at rows.
func (t *transaction) hasChecks() bool { return t.checks != nil && len(t.toSend().Tables) > 0 }

// needChecks reports whether a rule of the transactions needs the database.
func needChecks(transactions []*transaction) bool {
	return slices.ContainsFunc(transactions, func(t *transaction) bool { return t.hasChecks() || t.toSend().Checked })
}

// areKept reports whether the operations of the transactions are one portion.
func areKept(transactions []*transaction) bool {
	return !slices.ContainsFunc(transactions, func(t *transaction) bool { return !t.toSend().IsKept() })
}

// Apply answers each transaction of the batch, in order. It never fails as a whole:
// an error becomes a transaction's result. laps measure its phases.
func (a *Applier) Apply(ctx context.Context, logger *slog.Logger, who identity.Identity, batch upload.Batch, laps *timing.Laps) []upload.Result {
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
		now: time.Now().Truncate(time.Microsecond), laps: laps,
	}
	err := r.prepare(ctx, distinct)
	laps.End(timing.Plan)
	if err != nil {
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
			if t.duplicateOf != nil {
				results[i].Decision = upload.Decision{Repeated: true}
			}
		}
	}
	return results
}
