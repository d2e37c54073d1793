package apply

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
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
	maxAttempts      = 4 // one, and three more after clashes and lost connections
	lockTimeout      = "5s"
	statementTimeout = "15s"
	recordTimeout    = 5 * time.Second
)

// Applier applies uploads. It is safe for concurrent use.
type Applier struct {
	DB       *pgxpool.Pool // connected as Postern's login role, in exec mode
	Catalog  *catalog.Catalog
	Policies *policies.Set
	Ledger   *ledger.Ledger
	OnReject OnReject
}

// Apply answers each transaction of the batch, in order. It never fails as a
// whole: what goes wrong becomes the transaction's result.
func (a *Applier) Apply(ctx context.Context, logger *slog.Logger, who identity.Identity, batch upload.Batch) []upload.Result {
	results := make([]upload.Result, 0, len(batch.Transactions))
	ended := false
	for i, t := range batch.Transactions {
		if ended {
			results = append(results, upload.Result{Status: upload.NotAttempted})
			continue
		}
		result := a.transaction(ctx, logger.With("transaction", i, "transaction_id", t.ID), who, batch.ClientID, t)
		results = append(results, result)
		switch result.Status {
		case upload.RetryableError:
			ended = true // later ones may build on it
		case upload.FatalError:
			ended = a.OnReject == Stop || *result.RequiresClientHandling
		}
	}
	return results
}

func (a *Applier) transaction(ctx context.Context, logger *slog.Logger, who identity.Identity, clientID string, t upload.Transaction) upload.Result {
	if len(t.Operations) == 0 {
		return upload.Result{Status: upload.Success}
	}
	digest := ledger.DigestOf(who, clientID, t)
	out := a.attempt(ctx, who, digest, t)
	for attempts := 1; out.again != nil && attempts < maxAttempts; attempts++ {
		if !pause(ctx, attempts) {
			break
		}
		out = a.attempt(ctx, who, digest, t)
	}
	switch {
	case out.answered:
		result, err := a.Ledger.Answer(ctx, digest)
		if err != nil {
			return retryable(logger, err, retryAfter)
		}
		return result
	case out.rejection != nil:
		return a.reject(ctx, logger, ledger.Rejected{
			Digest: digest, Who: who, ClientID: clientID, Transaction: t,
			Rejection: out.rejection, PolicySHA256: a.Policies.SHA256,
		})
	case out.again != nil:
		return retryable(logger, out.again, retryAfterClash)
	case out.retry != nil:
		return retryable(logger, out.retry, retryAfter)
	}
	return upload.Result{Status: upload.Success}
}

// attempt plans and runs a transaction once, and once more with a fresh
// catalogue where the schema has changed under the one at hand.
func (a *Applier) attempt(ctx context.Context, who identity.Identity, digest ledger.Digest, t upload.Transaction) outcome {
	snapshot := a.Catalog.Snapshot()
	if snapshot == nil {
		return outcome{retry: fmt.Errorf("the catalogue has not been read yet")}
	}
	out := a.try(ctx, snapshot, who, digest, t)
	if out.rejection == nil || out.rejection.Code != upload.SchemaMismatch || time.Since(snapshot.ReadAt) < time.Second {
		return out
	}
	if err := a.Catalog.Refresh(ctx); err != nil {
		return outcome{retry: err}
	}
	return a.try(ctx, a.Catalog.Snapshot(), who, digest, t)
}

func (a *Applier) try(ctx context.Context, snapshot *catalog.Snapshot, who identity.Identity, digest ledger.Digest, t upload.Transaction) outcome {
	p, rejection := newPlan(a.Policies, snapshot, t)
	switch {
	case rejection != nil:
		return outcome{rejection: rejection}
	case len(p) == 0:
		return outcome{}
	}
	claims, err := sessionClaims(who)
	if err != nil {
		return outcome{retry: err}
	}
	return classify(a.run(ctx, p, who.Role, claims, digest))
}

// run sends the plan in one round trip; nil means committed.
func (a *Applier) run(ctx context.Context, p plan, role, claims string, digest ledger.Digest) *failure {
	var b pgx.Batch
	steps := make([]failure, 0, len(p)+3)
	if digest.Receipt {
		ledger.QueueReceipt(&b, digest)
		steps = append(steps, failure{receipt: true, operation: -1})
	}
	b.Queue(`select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true),
       set_config('request.jwt.claims', $3, true), set_config('request.method', 'POST', true),
       set_config('request.path', '/api/data', true), set_config('role', $4, true)`,
		lockTimeout, statementTimeout, claims, role)
	steps = append(steps, failure{operation: -1})
	for _, s := range p {
		b.Queue(s.sql, s.args...)
		steps = append(steps, failure{operation: s.operation})
	}
	b.Queue(`set constraints all immediate`)
	steps = append(steps, failure{operation: -1})

	answers := a.DB.SendBatch(ctx, &b)
	for _, step := range steps {
		if _, err := answers.Exec(); err != nil {
			_ = answers.Close() // repeats the error
			step.err = err
			return &step
		}
	}
	if err := answers.Close(); err != nil { // the commit
		return &failure{err: err, operation: -1}
	}
	return nil
}

// reject answers a fatal error only once the rejected write is durable. It has a
// deadline of its own, so that a request that ran out of time can still say so.
func (a *Applier) reject(ctx context.Context, logger *slog.Logger, r ledger.Rejected) upload.Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	result, err := a.Ledger.Record(ctx, r)
	if err != nil {
		return retryable(logger, err, retryAfter)
	}
	table := ""
	if r.Rejection.Operation >= 0 {
		table = r.Transaction.Operations[r.Rejection.Operation].Table
	}
	logger.Warn("write rejected", "code", r.Rejection.Code, "table", table, "operation", r.Rejection.Operation, "subject", r.Who.Subject)
	return result
}

func retryable(logger *slog.Logger, err error, after time.Duration) upload.Result {
	logger.Error("transaction not applied, the client will retry", logAttributes(err)...)
	return upload.Result{
		Status:       upload.RetryableError,
		Message:      "the write could not be stored now; it will be accepted or rejected on a later try",
		RetryAfterMS: int(after.Milliseconds()),
	}
}

// pause waits 10 to 20, 20 to 40, 40 to 80 ms; it reports whether ctx goes on.
func pause(ctx context.Context, attempt int) bool {
	base := 10 * time.Millisecond << (attempt - 1)
	timer := time.NewTimer(base + rand.N(base))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sessionClaims is what request.jwt.claims holds during the user's statements,
// as PostgREST sets it: the token's claims, with the role in use among them.
func sessionClaims(who identity.Identity) (string, error) {
	var claims map[string]jsontext.Value
	if err := json.Unmarshal(who.Claims, &claims); err != nil {
		return "", fmt.Errorf("the identity's claims: %w", err)
	}
	role, err := jsontext.AppendQuote(nil, who.Role)
	if err != nil {
		return "", fmt.Errorf("the identity's role: %w", err)
	}
	if string(claims["role"]) == string(role) {
		return string(who.Claims), nil
	}
	claims["role"] = role
	merged, err := json.Marshal(claims, json.Deterministic(true))
	return string(merged), err
}
