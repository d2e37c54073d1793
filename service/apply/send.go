package apply

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
)

// What holds inside the database transaction. A request waits for nobody's lock
// for longer than lockTimeout; what is left of its time bounds each statement.
const (
	lockTimeout      = 5 * time.Second
	statementTimeout = 15 * time.Second
)

// kind is what a step of the pipeline is for.
type kind byte

const (
	receipts    kind = iota // of all transactions that are answered for good
	record                  // a rejected write
	session                 // the user's role and claims
	preRequest              // PostgREST's function, the application's own say
	operation               //
	constraints             // what a transaction deferred is checked
	commit                  //
)

// step is one statement of the pipeline, and whose it is.
type step struct {
	kind        kind
	transaction int // index among the transactions sent; -1 where it is for all of them
	operation   int // index within the transaction; -1 where it is for all of it
	sql         string
	args        [][]byte
}

// failure is the error of one step.
type failure struct {
	step
	err    error
	unsent bool // nothing reached the database
}

// sender sends the transactions of one request.
type sender struct {
	*Applier
	who      identity.Identity
	clientID string
	claims   []byte
	snapshot *catalog.Snapshot
}

// send puts transactions into the database in one round trip: applied, or
// rejected and recorded, all of them or none. nil means committed.
func (s *sender) send(ctx context.Context, transactions []*transaction) *failure {
	steps, err := s.steps(ctx, transactions)
	if err != nil {
		return failedAtAll(err, true)
	}
	acquiring, cancel := context.WithTimeout(ctx, connectPatience)
	conn, err := s.DB.Acquire(acquiring)
	cancel()
	if err != nil {
		return failedAtAll(err, true)
	}
	defer conn.Release()
	pipeline := conn.Conn().PgConn().StartPipeline(ctx)
	previous := ""
	for _, step := range steps {
		// The unnamed statement stays until the next one is parsed. It is the one
		// that a pooler in transaction mode leaves alone.
		if step.sql == previous {
			pipeline.SendQueryPrepared("", step.args, nil, nil)
		} else {
			pipeline.SendQueryParams(step.sql, step.args, nil, nil, nil)
		}
		previous = step.sql
	}
	if err := pipeline.Sync(); err != nil {
		_ = pipeline.Close()
		return failedAtAll(err, false)
	}
	var failed *failure
	for _, step := range steps {
		if err := finish(pipeline); err != nil {
			failed = &failure{step: step, err: err}
			break
		}
	}
	if err := pipeline.Close(); err != nil && failed == nil {
		failed = &failure{step: step{kind: commit, transaction: -1, operation: -1}, err: err}
	}
	return failed
}

func failedAtAll(err error, unsent bool) *failure {
	return &failure{step{kind: session, transaction: -1, operation: -1}, err, unsent}
}

// finish reads the result of one statement, of which only the error matters.
func finish(pipeline *pgconn.Pipeline) error {
	result, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return errors.New("the database answered out of turn")
	}
	_, err = reader.Close()
	return err
}

func (s *sender) steps(ctx context.Context, transactions []*transaction) ([]step, error) {
	count := 4
	for _, t := range transactions {
		count += len(t.plan) + 3
	}
	steps := make([]step, 0, count)
	all := func(k kind, sql string, args ...[]byte) {
		steps = append(steps, step{k, -1, -1, sql, args})
	}
	setup := s.setup(ctx)
	all(session, setup.SQL, setup.Args...)
	entries, applied := make([]ledger.Entry, 0, len(transactions)), false
	for _, t := range transactions {
		if t.Rejection == nil && len(t.plan) == 0 {
			continue // nothing to remember
		}
		entries, applied = append(entries, t.Entry), applied || t.Rejection == nil
	}
	if receipt, ok := ledger.Receipts(entries); ok {
		all(receipts, receipt.SQL, receipt.Args...)
	}
	for i, t := range transactions {
		if t.Rejection == nil {
			continue
		}
		rejected, err := ledger.Rejected(s.who, s.clientID, s.Policies.SHA256, t.Entry)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{record, i, -1, rejected.SQL, rejected.Args})
	}
	if !applied {
		return steps, nil
	}
	all(session, `select set_config('role', $1, true)`, []byte(s.who.Role))
	asked := s.snapshot.PreRequest == ""
	for i, t := range transactions {
		if t.Rejection != nil || len(t.plan) == 0 {
			continue
		}
		if !asked { // what it says no to is the first transaction, then the next one
			steps, asked = append(steps, step{preRequest, i, -1, "select " + s.snapshot.PreRequest + "()", nil}), true
		}
		steps = s.transactionSteps(steps, i, t)
	}
	return steps, nil
}

// transactionSteps are the operations, between which deferrable constraints may
// be broken, as on the client.
func (s *sender) transactionSteps(steps []step, i int, t *transaction) []step {
	if s.snapshot.Deferred {
		steps = append(steps, step{session, i, -1, `set constraints all deferred`, nil})
	}
	for _, statement := range t.plan {
		steps = append(steps, step{operation, i, statement.operation, statement.sql, statement.args})
	}
	if s.snapshot.Deferred {
		steps = append(steps, step{constraints, i, -1, `set constraints all immediate`, nil})
	}
	return steps
}

// setup is what PostgREST sets before a request's work, and the bounds of ours.
// See https://docs.postgrest.org/en/stable/references/transactions.html.
func (s *sender) setup(ctx context.Context) ledger.Statement {
	left := statementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	// In whole seconds, so that the statement is the same from one request to the next.
	left = max(left.Truncate(time.Second), time.Second)
	statement := ledger.Statement{SQL: `select set_config('request.jwt.claims', $1, true), set_config('request.method', 'POST', true), set_config('request.path', '/api/data', true)`}
	statement.Args = append(statement.Args, s.claims)
	set := func(name, value string) {
		n := len(statement.Args)
		statement.SQL += ", set_config(" + parameter(n+1) + ", " + parameter(n+2) + ", true)"
		statement.Args = append(statement.Args, []byte(name), []byte(value))
	}
	for _, setting := range s.snapshot.Settings(s.who.Role) {
		set(setting.Name, setting.Value)
	}
	for _, timeout := range []struct {
		name string
		most time.Duration
	}{{"lock_timeout", min(lockTimeout, left)}, {"statement_timeout", left}} {
		if !s.snapshot.Bounds(s.who.Role, timeout.name, timeout.most) {
			set(timeout.name, milliseconds(timeout.most))
		}
	}
	if s.snapshot.TransactionTimeout {
		set("transaction_timeout", milliseconds(left))
	}
	return statement
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
