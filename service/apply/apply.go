package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"
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
	Policies *policies.Set
	Ledger   *ledger.Ledger
	OnReject OnReject

	patience *patience
}

// New is an Applier that has seen no failures yet.
func New(db *pgxpool.Pool, tables *catalog.Catalog, set *policies.Set, l *ledger.Ledger, onReject OnReject) *Applier {
	return &Applier{DB: db, Catalog: tables, Policies: set, Ledger: l, OnReject: onReject, patience: newPatience()}
}

// transaction is one of a request's on its way to a result.
type transaction struct {
	ledger.Entry
	plan   plan
	result *upload.Result // nil until it is known
	log    *slog.Logger
}

// Apply answers each transaction of the batch, in order. It never fails as a
// whole: what goes wrong becomes the transactions' results.
func (a *Applier) Apply(ctx context.Context, logger *slog.Logger, who identity.Identity, batch upload.Batch) []upload.Result {
	transactions := make([]*transaction, len(batch.Transactions))
	for i, t := range batch.Transactions {
		transactions[i] = &transaction{
			Entry: ledger.Entry{Digest: ledger.DigestOf(who, batch.ClientID, t), Transaction: t},
			log:   logger.With("transaction", i, "transaction_id", t.ID),
		}
	}
	s := &sender{Applier: a, who: who, clientID: batch.ClientID}
	if err := s.prepare(ctx, transactions); err != nil {
		s.retryable(transactions[0], err)
	} else {
		s.run(ctx, s.upToEnd(transactions))
	}
	results := make([]upload.Result, len(transactions))
	for i, t := range transactions {
		if results[i] = (upload.Result{Status: upload.NotAttempted}); t.result != nil {
			results[i] = *t.result
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
	if s.claims, err = sessionClaims(s.who); err != nil {
		return err
	}
	if s.plan(transactions) && time.Since(s.snapshot.ReadAt) > time.Second {
		if err := s.Catalog.Refresh(ctx); err != nil {
			return err
		}
		s.snapshot = s.Catalog.Snapshot()
		s.plan(transactions)
	}
	return nil
}

func (s *sender) plan(transactions []*transaction) (mismatch bool) {
	for _, t := range transactions {
		t.plan, t.Rejection = newPlan(s.Policies, s.snapshot, t.Transaction)
		mismatch = mismatch || t.Rejection != nil && t.Rejection.Code == upload.SchemaMismatch
	}
	return mismatch
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

// run gives the transactions results, in order, up to one that ends the request;
// then it reports false. They share a commit as long as none fails. When one
// does, those before it, which went through, are sent again with its rejection,
// and those after it follow.
func (s *sender) run(ctx context.Context, transactions []*transaction) (goOn bool) {
	for len(transactions) > 0 {
		failed := s.sendPatiently(ctx, transactions)
		if failed == nil {
			s.committed(transactions)
			return true
		}
		out, at := classify(failed), max(failed.transaction, 0)
		switch {
		case out.answered:
			rest, goOn := s.answered(ctx, transactions)
			if !goOn {
				return false
			}
			transactions = rest
			continue
		case out.rejection != nil && failed.transaction < 0 && len(transactions) > 1:
			// Whose fault the commit's error is shows when each is alone.
			for i := range transactions {
				if !s.run(ctx, transactions[i:i+1]) {
					return false
				}
			}
			return true
		case out.rejection == nil:
			if at > 0 && !s.run(ctx, transactions[:at]) {
				return false
			}
			if out.rejection = s.retryable(transactions[at], errors.Join(out.again, out.retry)); out.rejection == nil {
				return false
			}
			transactions, at = transactions[at:], 0
		}
		s.complete(out.rejection, transactions[at].plan, failed)
		transactions[at].Rejection = out.rejection
		if !s.run(ctx, transactions[:at+1]) || s.ends(out.rejection) {
			return false
		}
		transactions = transactions[at+1:]
	}
	return true
}

// sendPatiently tries again after clashes, lost connections, and for as long as
// a database may take to wake up.
func (s *sender) sendPatiently(ctx context.Context, transactions []*transaction) *failure {
	if !anything(transactions) {
		return nil
	}
	started := time.Now()
	for attempt := 1; ; attempt++ {
		failed := s.send(ctx, transactions)
		if failed == nil || classify(failed).again == nil {
			return failed
		}
		exhausted := attempt >= maxAttempts
		if failed.unsent {
			exhausted = time.Since(started) > connectPatience
		} else if lost(failed.err) {
			s.DB.Reset() // the other connections have been idle at least as long
		}
		if exhausted || !pause(ctx, attempt) {
			return failed
		}
	}
}

// anything reports whether the database has to be asked at all. An operation
// that changes nothing leaves no trace, not even a receipt.
func anything(transactions []*transaction) bool {
	for _, t := range transactions {
		if t.Rejection != nil || len(t.plan) > 0 {
			return true
		}
	}
	return false
}

func (s *sender) committed(transactions []*transaction) {
	for _, t := range transactions {
		if t.Rejection == nil {
			t.result = &upload.Result{Status: upload.Success}
			continue
		}
		result := upload.Rejected(t.Rejection)
		t.result = &result
		table := ""
		if t.Rejection.Operation >= 0 {
			table = t.Transaction.Operations[t.Rejection.Operation].Table
		}
		t.log.Warn("write rejected", "code", t.Rejection.Code, "table", table, "operation", t.Rejection.Operation, "subject", s.who.Subject)
	}
	s.patience.succeeded(s.who)
	s.Ledger.Used()
}

// answered gives their results to the transactions that have a receipt, and
// returns the others.
func (s *sender) answered(ctx context.Context, transactions []*transaction) (rest []*transaction, goOn bool) {
	entries := make([]ledger.Entry, len(transactions))
	for i, t := range transactions {
		entries[i] = t.Entry
	}
	answers, err := s.Ledger.Answers(ctx, entries)
	if err == nil && len(answers) == 0 {
		err = errors.New("a receipt was there and is gone")
	}
	if err != nil {
		s.retryable(transactions[0], err)
		return nil, false
	}
	for i, t := range transactions {
		answer, ok := answers[t.Digest]
		if !ok {
			rest = append(rest, t)
			continue
		}
		t.result = &answer
		if answer.Status == upload.FatalError && s.OnReject == Stop {
			return nil, s.run(ctx, rest) && i == len(transactions)-1
		}
	}
	return rest, true
}

// complete adds to a rejection what Postgres did not say.
func (s *sender) complete(r *upload.Rejection, p plan, f *failure) {
	var pg *pgconn.PgError
	if errors.As(f.err, &pg) && r.Operation < 0 {
		r.Operation = blame(p, pg)
	}
	for _, statement := range p {
		if r.Code == upload.InvalidData && statement.operation == r.Operation {
			nameColumn(r, statement)
		}
	}
}

// retryable tells the client to come again, and the log why. A transaction that
// has failed too often with the same database error is to be rejected instead.
func (s *sender) retryable(t *transaction, err error) *upload.Rejection {
	after, same := s.patience.failed(s.who, t.Digest, err)
	if same >= giveUpAfter && unrecognised(err) {
		return &upload.Rejection{Code: upload.UnclassifiedError, Message: "the database cannot take this write, and says so each time it is tried", Operation: -1}
	}
	t.log.Error("transaction not applied, the client will retry", append(logAttributes(err), "attempt", same)...)
	t.result = &upload.Result{
		Status:       upload.RetryableError,
		Message:      "the write could not be stored now; it will be accepted or rejected on a later try",
		RetryAfterMS: int(after.Milliseconds()),
	}
	return nil
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
