package apply

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

// OnReject says how a request goes on after a rejected transaction.
type OnReject string

// The two ways.
const (
	Skip OnReject = "skip" // with the next transaction
	Stop OnReject = "stop" // not at all: the rest is not_attempted, and the client sends it again
)

const (
	maxAttempts     = 4                // one, and three more after clashes and lost connections
	connectPatience = 10 * time.Second // a suspended database wakes within it
)

// Applier applies uploads. It is safe for concurrent use.
type Applier struct {
	DB       *pgxpool.Pool // connected as Postern's login role
	Catalog  *catalog.Catalog
	Policies *policies.Live
	Ledger   *ledger.Ledger
	OnReject OnReject

	patience *patience
	rates    policies.RateLimiter
}

// New is an Applier that has seen no failures yet.
func New(db *pgxpool.Pool, tables *catalog.Catalog, live *policies.Live, l *ledger.Ledger, onReject OnReject) *Applier {
	return &Applier{DB: db, Catalog: tables, Policies: live, Ledger: l, OnReject: onReject, patience: newPatience()}
}

// transaction is one of a request's on its way to a result.
type transaction struct {
	ledger.Entry
	plan   plan
	other  plan              // to try where plan is rejected; nil where there is none
	no     *upload.Rejection // of the first plan, while the other one is tried
	failed error             // of a rule, while the plan was made
	twin   *transaction      // the same one, earlier in the request; nil where there is none
	result *upload.Result    // nil until it is known
	index  int
	logger *slog.Logger
}

func (t *transaction) log() *slog.Logger {
	return t.logger.With("transaction", t.index, "transaction_id", t.Transaction.ID)
}

// Apply answers each transaction of the batch, in order. It never fails as a
// whole: what goes wrong becomes the transactions' results.
func (a *Applier) Apply(ctx context.Context, logger *slog.Logger, who identity.Identity, batch upload.Batch) []upload.Result {
	all := make([]*transaction, len(batch.Transactions))
	transactions := make([]*transaction, 0, len(all)) // without those that are sent twice
	firsts := make(map[ledger.Digest]*transaction, len(all))
	for i, t := range batch.Transactions {
		all[i] = &transaction{
			Entry: ledger.Entry{Digest: ledger.DigestOf(who, batch.ClientID, t), Transaction: t},
			index: i, logger: logger,
		}
		if all[i].twin = firsts[all[i].Digest]; all[i].twin == nil || !all[i].Digest.Receipt {
			all[i].twin, transactions, firsts[all[i].Digest] = nil, append(transactions, all[i]), all[i]
		}
	}
	s := &sender{Applier: a, who: who, clientID: batch.ClientID}
	if err := s.prepare(ctx, transactions); err != nil {
		s.retryable(transactions[0], err, false)
	} else {
		s.run(ctx, s.limited(s.upToEnd(transactions)))
	}
	results, ended := make([]upload.Result, len(all)), false
	for i, t := range all {
		if t.twin != nil {
			t.result = t.twin.result
		}
		if results[i] = (upload.Result{Status: upload.NotAttempted}); t.result != nil && !ended {
			results[i] = *t.result
			ended = t.result.Status == upload.RetryableError
		}
	}
	return results
}

// prepare makes the plans, with a fresh catalogue where the one at hand does not
// know what the transactions name.
func (s *sender) prepare(ctx context.Context, transactions []*transaction) (err error) {
	if s.snapshot, err = s.Catalog.Current(ctx); err != nil {
		return err
	}
	if s.set, err = s.Policies.For(s.snapshot); err != nil {
		return fmt.Errorf("the policies do not fit the database: %w", err)
	}
	if s.claims, err = sessionClaims(s.who); err != nil {
		return err
	}
	if s.plan(ctx, transactions) && s.outdated() {
		return s.refresh(ctx, transactions)
	}
	return nil
}

// outdated reports whether the tables may have changed since they were read. A
// request looks once.
func (s *sender) outdated() bool {
	return !s.refreshed && time.Since(s.snapshot.ReadAt) > time.Second
}

// refresh reads the catalogue and makes the plans again.
func (s *sender) refresh(ctx context.Context, transactions []*transaction) (err error) {
	s.refreshed = true
	if err := s.Catalog.Refresh(ctx); err != nil {
		return err
	}
	s.snapshot = s.Catalog.Snapshot()
	if s.set, err = s.Policies.For(s.snapshot); err != nil {
		return fmt.Errorf("the policies do not fit the database: %w", err)
	}
	s.plan(ctx, transactions)
	return nil
}

func (s *sender) plan(ctx context.Context, transactions []*transaction) (mismatch bool) {
	p := s.planner()
	for _, t := range transactions {
		var orders plans
		orders, t.Rejection, t.failed = p.plan(ctx, t.Transaction)
		t.take(orders)
		mismatch = mismatch || t.Rejection != nil && t.Rejection.Code == upload.SchemaMismatch
	}
	return mismatch
}

func (s *sender) planner() planner {
	return planner{set: s.set, tables: s.snapshot, who: s.who, now: time.Now()}
}

// take makes the first of the plans the transaction's.
func (t *transaction) take(orders plans) {
	t.plan, t.other = nil, nil
	if len(orders) > 0 {
		t.plan = orders[0]
	}
	if len(orders) > 1 {
		t.other = orders[1]
	}
}

// limited cuts off what comes after a transaction that is more than its user may
// write now.
func (s *sender) limited(transactions []*transaction) []*transaction {
	now := time.Now()
	for i, t := range transactions {
		var digest [sha256.Size]byte
		if t.Digest.Receipt {
			digest = t.Digest.Sum
		}
		if wait := s.rates.Wait(s.set, s.who, t.Transaction, digest, now); wait > 0 {
			t.result = &upload.Result{Status: upload.RetryableError, Message: "that was a lot at once; the rest will be accepted a little later", RetryAfterMS: int(wait.Milliseconds()) + 1}
			return transactions[:i]
		}
	}
	return transactions
}

// upToEnd cuts off what comes after a rejection that ends the request.
func (s *sender) upToEnd(transactions []*transaction) []*transaction {
	for i, t := range transactions {
		if s.ends(t.Rejection) {
			return transactions[:i+1]
		}
	}
	return transactions
}

func (s *sender) ends(r *upload.Rejection) bool {
	return r != nil && (s.OnReject == Stop || r.ClientHandling)
}

// sessionClaims is what request.jwt.claims holds during the user's statements,
// as PostgREST sets it: the token's claims, with the role in use among them.
func sessionClaims(who identity.Identity) ([]byte, error) {
	var claims map[string]jsontext.Value
	if err := json.Unmarshal(who.Claims, &claims); err != nil {
		return nil, fmt.Errorf("the identity's claims: %w", err)
	}
	role, err := jsontext.AppendQuote(nil, who.Role)
	if err != nil {
		return nil, fmt.Errorf("the identity's role: %w", err)
	}
	if string(claims["role"]) == string(role) {
		return who.Claims, nil
	}
	claims["role"] = role
	return json.Marshal(claims, json.Deterministic(true))
}
