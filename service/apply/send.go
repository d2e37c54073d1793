package apply

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
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
	reading                 // what a rule needs
	operation               //
	rule                    // a rule that needed rows; asked by us
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
	query       *query // where its first row is wanted
	lockAhead   bool   // it locks the rows of several operations
}

// failure is the error of one step.
type failure struct {
	step
	err       error
	rejection *upload.Rejection // a rule's, instead of an error
	unsent    bool              // nothing reached the database
}

// sender sends the transactions of one request.
type sender struct {
	*Applier
	who       identity.Identity
	clientID  string
	claims    []byte
	snapshot  *catalog.Snapshot
	set       *policies.Set
	refreshed bool    // the catalogue was read for this request
	isolated  bool    // each operation locks its own row, none are locked ahead
	replay    *replay // nil where a client sent them
}

// send puts transactions into the database in one round trip: applied, or
// rejected and recorded, all of them or none. nil means committed.
func (s *sender) send(ctx context.Context, transactions []*transaction) *failure {
	steps, err := s.prologue(ctx, transactions)
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
	pg := conn.Conn().PgConn()
	var failed *failure
	switch {
	case s.asksCode(transactions):
		failed = s.interact(ctx, conn.Conn(), steps, transactions)
	case verifies(transactions):
		failed = s.commitVerified(ctx, pg, steps, transactions)
	default:
		for i, t := range transactions {
			steps = s.transactionSteps(steps, i, t)
		}
		return exchange(ctx, pg, s.replay.end(steps))
	}
	if failed != nil && pg.TxStatus() != 'I' {
		_ = exchange(ctx, pg, []step{rollback}) // a connection that cannot is closed
	}
	return failed
}

// Where rows are needed in between, the database transaction is an open one.
var (
	begin    = step{kind: session, transaction: -1, operation: -1, sql: "begin"}
	rollback = step{kind: commit, transaction: -1, operation: -1, sql: "rollback"}
	end      = step{kind: commit, transaction: -1, operation: -1, sql: "commit"}
)

// commitVerified does everything, asks the rules that needed rows, and commits if
// they agree: two round trips.
func (s *sender) commitVerified(ctx context.Context, conn *pgconn.PgConn, prologue []step, transactions []*transaction) *failure {
	steps := append([]step{begin}, prologue...)
	steps = append(steps, s.lockSteps(transactions)...)
	for i, t := range transactions {
		steps = s.transactionSteps(steps, i, t)
	}
	if failed := exchange(ctx, conn, steps); failed != nil {
		return failed
	}
	for i, t := range transactions {
		if failed := verify(ctx, i, t); failed != nil {
			return failed
		}
	}
	return exchange(ctx, conn, append(s.replay.end(nil), end))
}

// exchange sends steps in one round trip; the first that fails ends them.
func exchange(ctx context.Context, conn *pgconn.PgConn, steps []step) *failure {
	pipeline := conn.StartPipeline(ctx)
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
		if err := finish(pipeline, step); err != nil {
			failed = &failure{step: step, err: err}
			break
		}
	}
	if err := pipeline.Close(); err != nil && failed == nil {
		failed = &failure{step: step{kind: commit, transaction: -1, operation: -1}, err: err}
	}
	return failed
}

func verifies(transactions []*transaction) bool {
	for _, t := range transactions {
		for _, statement := range t.plan {
			if t.Rejection == nil && statement.verify != nil {
				return true
			}
		}
	}
	return false
}

// verify asks the rules that needed rows, in the order of the operations.
func verify(ctx context.Context, i int, t *transaction) *failure {
	for _, statement := range t.plan {
		if t.Rejection != nil || statement.verify == nil {
			continue
		}
		rejection, err := statement.verify.check(ctx)
		if rejection != nil {
			rejection.Operation = statement.operation
		}
		if rejection != nil || err != nil {
			return &failure{step: step{kind: rule, transaction: i, operation: statement.operation}, rejection: rejection, err: err}
		}
	}
	return nil
}

func failedAtAll(err error, unsent bool) *failure {
	return &failure{step: step{kind: session, transaction: -1, operation: -1}, err: err, unsent: unsent}
}

// finish reads the result of one statement: the rows that are wanted, and whether
// it failed.
func finish(pipeline *pgconn.Pipeline, s step) error {
	result, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return errors.New("the database answered out of turn")
	}
	if s.query != nil {
		s.query.row, s.query.found = nil, false
		if reader.NextRow() {
			s.query.take(reader.Values())
		}
	}
	_, err = reader.Close()
	return err
}

// works reports whether a transaction is to be applied, and does anything.
func (s *sender) works(t *transaction) bool {
	return t.Rejection == nil && (len(t.plan) > 0 || len(s.set.CodeRules(t.Transaction)) > 0)
}

// prologue is what comes before the operations.
func (s *sender) prologue(ctx context.Context, transactions []*transaction) ([]step, error) {
	count := 6
	for _, t := range transactions {
		count += len(t.plan) + 3
	}
	steps := make([]step, 0, count)
	all := func(k kind, sql string, args ...[]byte) {
		steps = append(steps, step{kind: k, transaction: -1, operation: -1, sql: sql, args: args})
	}
	setup := s.setup(ctx)
	all(session, setup.SQL, setup.Args...)
	entries, first := make([]ledger.Entry, 0, len(transactions)), -1
	for i, t := range transactions {
		works := s.works(t)
		if works || t.Rejection != nil { // else there is nothing to remember
			entries = append(entries, t.Entry)
		}
		if works && first < 0 {
			first = i
		}
	}
	if s.replay != nil {
		for _, statement := range s.replay.start() {
			all(record, statement.SQL, statement.Args...)
		}
	} else if receipt, ok := ledger.Receipts(entries); ok {
		all(receipts, receipt.SQL, receipt.Args...)
	}
	for i, t := range transactions {
		if t.Rejection == nil {
			continue
		}
		rejected, err := s.Ledger.Rejected(s.who, s.clientID, s.set.SHA256, t.Entry)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{kind: record, transaction: i, operation: -1, sql: rejected.SQL, args: rejected.Args})
	}
	if s.mayHold() {
		if closing, ok := ledger.CloseHeld(s.who, s.clientID, entries); ok {
			all(record, closing.SQL, closing.Args...)
		}
	}
	if first < 0 {
		return steps, nil
	}
	all(session, `select set_config('role', $1, true)`, []byte(s.who.Role))
	if s.snapshot.PreRequest != "" { // what it says no to is the first transaction, then the next one
		steps = append(steps, step{kind: preRequest, transaction: first, operation: -1, sql: "select " + s.snapshot.PreRequest + "()"})
	}
	return steps, nil
}

// transactionSteps are the operations, between which deferrable constraints may
// be broken, as on the client.
func (s *sender) transactionSteps(steps []step, i int, t *transaction) []step {
	if t.Rejection != nil || len(t.plan) == 0 {
		return steps
	}
	if s.snapshot.Deferred {
		steps = append(steps, step{kind: session, transaction: i, operation: -1, sql: `set constraints all deferred`})
	}
	for _, statement := range t.plan {
		read := func(q *query) {
			if q != nil {
				steps = append(steps, step{kind: reading, transaction: i, operation: statement.operation, sql: q.sql, args: q.args, query: q})
			}
		}
		if v := statement.verify; v != nil {
			read(v.lock)
			read(v.before)
			for _, l := range v.lookups {
				if !l.late {
					read(l)
				}
			}
		}
		steps = append(steps, step{kind: operation, transaction: i, operation: statement.operation, sql: statement.sql, args: statement.args})
		if v := statement.verify; v != nil {
			read(v.after)
			for _, l := range v.lookups {
				if l.late {
					read(l)
				}
			}
		}
	}
	if s.snapshot.Deferred {
		steps = append(steps, step{kind: constraints, transaction: i, operation: -1, sql: `set constraints all immediate`})
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
