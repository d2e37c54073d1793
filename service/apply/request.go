package apply

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/timing"
	"postern/service/upload"
)

// request is who sends transactions, and by which policies and tables they are
// planned. Once it is prepared, only a refresh of the catalogue changes it.
type request struct {
	*Applier
	logger   *slog.Logger
	who      identity.Identity
	clientID string
	claims   []byte

	statusOnly bool      // the client reads the HTTP status alone: nothing is held for its app, and nothing stops it
	now        time.Time // the now of expressions, for the first operation

	began    time.Time
	set      *policies.Set
	snapshot *catalog.Snapshot
	shapes   *plan.Shapes // nil if the set is for this request alone

	unobserved map[*policies.Rule]error // rules that only observe and that nothing is sent for, with the reason
	room       int                      // the weight of the operations that are still kept, see plan.Portion

	laps   *timing.Laps // nil if nobody measures them
	single *Single      // nil if a client sent the transactions
}

// prepare plans the transactions, with a fresh catalogue if the one at hand makes a plan
// fail.
func (r *request) prepare(ctx context.Context, transactions []*transaction) (err error) {
	r.began = time.Now()
	snapshot, err := r.Catalog.Current(ctx)
	if err != nil {
		return err
	}
	if err := r.planBy(snapshot); err != nil {
		return err
	}
	if r.claims, err = sessionClaims(r.who); err != nil {
		return err
	}
	if r.plan(ctx, transactions) && r.outdated() {
		return r.refresh(ctx, transactions)
	}
	return nil
}

// planBy takes a catalogue, and the policies compiled for it.
func (r *request) planBy(snapshot *catalog.Snapshot) (err error) {
	r.snapshot = snapshot
	if r.set, err = r.Policies.For(snapshot); err != nil {
		return fmt.Errorf("the policies do not fit the database: %w", err)
	}
	switch {
	case r.single == nil:
		r.shapes = r.shapesOf(r.set, snapshot)
	case r.single.AsLogin:
		r.set = r.set.Everything()
	case r.single.NoRules:
		r.set = r.set.WithoutRules()
	}
	return nil
}

// restsOnCatalogue reports whether another catalogue could accept what a rejection
// refuses: a table, a column, a value that does not fit its column's type, the order of
// operations.
func restsOnCatalogue(r *upload.Rejection) bool {
	return r.Code == upload.SchemaMismatch || r.Code == upload.InvalidData || r.Code == upload.ForeignKeyViolation
}

// outdated reports whether the tables may have changed between the last read and the
// request.
func (r *request) outdated() bool { return r.snapshot.ReadAt.Before(r.began) }

// refresh reads the catalogue and plans again. Then the catalogue is not outdated.
func (r *request) refresh(ctx context.Context, transactions []*transaction) error {
	if err := r.Catalog.Refresh(ctx); err != nil {
		return err
	}
	if err := r.planBy(r.Catalog.Snapshot()); err != nil {
		return err
	}
	r.plan(ctx, transactions)
	return nil
}

// plan plans the transactions. It reports whether a plan may have failed because the
// catalogue is stale. The now of expressions rises from operation to operation over all
// of them. It takes at most half of the request's time: what is not planned by then
// fails, and what is planned can still be applied.
func (r *request) plan(ctx context.Context, transactions []*transaction) (stale bool) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	r.room = plan.Portion
	now := r.now
	for _, t := range transactions {
		var err error
		if t.now.IsZero() { // it is planned for the first time
			t.now, now = now, now.Add(time.Duration(len(t.Transaction.Operations))*time.Microsecond)
		}
		p := r.planner(t.now)
		t.observed.planned = nil
		t.orders, t.checks, t.Rejection, err = p.Transaction(r.observing(ctx, &t.observed.planned), t.Transaction)
		r.dropUnobserved(ctx, t)
		if t.Rejection != nil && r.statusOnly {
			t.Rejection.ClientHandling = false
		}
		if t.failed = nil; err != nil {
			t.failed = &failure{step: step{kind: rule, index: -1}, err: err}
		}
		stale = stale || t.failed != nil && ctx.Err() == nil || t.Rejection != nil && restsOnCatalogue(t.Rejection) && t.Transaction.Unreadable == nil
	}
	return stale
}

func (r *request) planner(now time.Time) *plan.Planner {
	p := &plan.Planner{Set: r.set, Tables: r.snapshot, Who: r.who, Now: now, Shapes: r.shapes}
	if r.single == nil || r.single.rehearsal == nil { // it reports on every operation, and traces each rule once
		p.Room = &r.room
	}
	return p
}

// withinRates cuts off what comes after a transaction that exceeds its user's rate.
func (r *request) withinRates(transactions []*transaction) []*transaction {
	now := time.Now()
	for i, t := range transactions {
		var digest [sha256.Size]byte
		if t.Digest.Receipt {
			digest = t.Digest.Sum
		}
		if wait := r.rates.Wait(r.set, r.who, t.Transaction, digest, now); wait > 0 {
			t.result = &upload.Result{
				Status: upload.RetryableError, Message: "too many changes at once: the rest is accepted a little later",
				RetryAfterMS: int(wait.Milliseconds()) + 1,
			}
			return transactions[:i]
		}
	}
	return transactions
}

// upToEnd cuts off what comes after a rejection that ends the request.
func (r *request) upToEnd(transactions []*transaction) []*transaction {
	for i, t := range transactions {
		if r.ends(t.Rejection) {
			return transactions[:i+1]
		}
	}
	return transactions
}

// ends reports whether a rejection ends the request.
func (r *request) ends(rejection *upload.Rejection) bool {
	return rejection != nil && (r.stops() || rejection.ClientHandling)
}

// stops reports whether every rejection ends the request.
func (r *request) stops() bool { return r.OnReject == Stop && !r.statusOnly }

// works reports whether a transaction is to be applied, and has any effect.
func (r *request) works(t *transaction) bool {
	return t.Rejection == nil && (t.planned() || len(r.set.CodeRules(t.Transaction)) > 0)
}

// retryLater answers that the client has to send the transaction again, and logs why.
func (r *request) retryLater(t *transaction, err error) {
	after, same, failing := r.failures.failed(r.who, t.Digest, err)
	r.log(t).Error("transaction not applied, the client will retry", append(LogAttributes(err), "attempt", same)...)
	if failing >= stuckAfter {
		r.log(t).Error("queue stuck: its first transaction keeps failing, and nothing behind it is uploaded",
			append(LogAttributes(err), "for", failing.Round(time.Second).String(), "subject", r.who.Subject)...)
	}
	t.result = &upload.Result{
		Status:       upload.RetryableError,
		Message:      "the write could not be stored now; it will be accepted or rejected on a later try",
		RetryAfterMS: int(after.Milliseconds()),
	}
	if r.Ledger.CountFull(err) {
		r.log(t).Error("a user's rejected writes have no room for another one, so the user's devices keep what comes next: close some with postern rejected dismiss or replay",
			"subject", r.who.Subject, "records", ledger.MaxRecords, "bytes", ledger.MaxRecordBytes)
		t.result.Message = "too many rejected writes of this user wait for a decision: close some, or wait until the team has"
		t.result.RetryAfterMS = int(lastRetryAfter.Milliseconds())
	}
}

// log is the logger of one transaction.
func (r *request) log(t *transaction) *slog.Logger {
	return r.logger.With("transaction", t.index, "transaction_id", upload.Short(t.Transaction.ID))
}

// sessionClaims is what request.jwt.claims holds during the user's statements, as
// PostgREST sets it: the token's claims, with the role in use among them.
func sessionClaims(who identity.Identity) ([]byte, error) {
	if who.ClaimedRole == who.Role {
		return who.Claims, nil
	}
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
