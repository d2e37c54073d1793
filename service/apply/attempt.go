package apply

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/plan"
	"postern/service/timing"
	"postern/service/upload"
)

// attempt is one try to put transactions into the database: all of them, or none.
type attempt struct {
	*request
	manner
	transactions []*transaction
	contended    map[uint32]bool // the OIDs of tables whose rows are locked ahead
	oneAtATime   bool            // no other such attempt runs meanwhile
	lockTimeout  time.Duration

	conn     *pgx.Conn
	backend  atomic.Uint32 // its process id, if the request is traced; 0 until it is known
	steps    []step        // that the next round trip sends
	answers  plan.Answers  // of queries that are not evaluated yet
	rejected *failure      // the first one that a rule has caused
	noted    map[Conflict]int

	waiting  []*waiting // operations whose turn has not come, in order; see sets.go
	unproven []*waiting // those whose rows the next round trip reads again
}

// manner is how a batch is sent, once another way has failed.
type manner struct {
	isolated bool // each operation locks its own row, instead of all rows ahead
	inTurn   bool // no operation is completed ahead of its turn; see sets.go
	unseen   bool // before an operation whose rules have not seen its row, it is asked whether the row is hidden
	unnamed  bool // statements are parsed anew, because a named one may not fit the tables any more
	skips    bool // it does not wait for the requests that run one at a time
	discard  bool // the connection's plans are discarded first, because a function's may not fit the tables any more
}

// run makes the attempt. nil means that it is committed.
func (a *attempt) run(ctx context.Context) *failure {
	for _, t := range a.transactions {
		t.decision, t.observed.checked = upload.Decision{}, nil // what was rolled back does not count
	}
	steps, err := prologue(ctx, a.request, a.transactions, a.lockTimeout)
	if err != nil {
		return failedOutside(err, true)
	}
	if a.steps = steps; a.discard {
		a.steps = slices.Insert(a.steps, 1, ours(session, `discard plans`)) // before any function
	}
	if rehearsal := a.rehearsal(); rehearsal != nil {
		a.conn = rehearsal.conn
		return a.inOpenTransaction(ctx, savepoint)
	}
	conn, release, err := a.connect(ctx)
	if err != nil {
		return failedOutside(err, true)
	}
	defer release()
	a.conn = conn.Conn()
	if statementsOf(a.conn.PgConn(), a.snapshot.Schema) == nil {
		a.parseAnew()
	}
	a.findBackend()
	if needChecks(a.transactions) || a.needsCode() || !areKept(a.transactions) {
		return a.inOpenTransaction(ctx, databaseTransaction)
	}
	if failed := a.write(ctx, 0, a.transactions); failed != nil {
		return failed
	}
	return a.roundTrip(ctx, nil) // the only one, without BEGIN: one implicit transaction
}

// connect takes a connection from the pool, within the user's share of it.
func (a *attempt) connect(ctx context.Context) (conn *pgxpool.Conn, release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	a.laps.End(timing.Plan)
	defer a.laps.End(timing.Pool)
	leave, err := a.connections.acquire(ctx, a.who)
	if err != nil {
		return nil, nil, err
	}
	if conn, err = a.DB.Acquire(ctx); err != nil {
		leave()
		return nil, nil, err
	}
	return conn, func() { conn.Release(); leave() }, nil
}

// rehearsal is nil if the attempt is to be committed.
func (a *attempt) rehearsal() *rehearsal {
	if a.single == nil {
		return nil
	}
	return a.single.rehearsal
}

// envelope is what makes the steps of an attempt one unit.
type envelope struct{ begin, end, rollback string }

var (
	databaseTransaction = envelope{"begin", "commit", "rollback"}
	// A rehearsal runs inside a database transaction of its caller, as the login role
	// before and after.
	savepoint = envelope{"savepoint postern", "release savepoint postern", "rollback to savepoint postern"}
)

// inOpenTransaction writes in one round trip or more, and commits in the last one, if no
// rule rejects what was written.
func (a *attempt) inOpenTransaction(ctx context.Context, e envelope) *failure {
	a.steps = slices.Insert(a.steps, 0, ours(session, e.begin))
	var failed *failure
	if a.needsCode() {
		failed = a.writeWithCode(ctx)
	} else {
		failed = a.write(ctx, 0, a.transactions)
	}
	if failed == nil {
		a.add(ours(commit, e.end))
		failed = a.roundTrip(ctx, nil)
	}
	if failed != nil && a.conn.PgConn().TxStatus() != 'I' {
		a.steps = []step{ours(commit, e.rollback)}
		_ = a.roundTrip(ctx, nil) // a connection that cannot is closed
	}
	return failed
}

// write adds what transactions write. It sends it, if rules or completed operations need the
// answers; otherwise the next round trip does. first is the index of the first transaction.
//
// An error of Postgres counts more than what a rule says of an earlier operation, as if all
// rules were evaluated at the end. So it does not matter where a portion ends.
func (a *attempt) write(ctx context.Context, first int, transactions []*transaction) *failure {
	if err := a.addLocks(ctx, transactions); err != nil {
		return &failure{step: step{kind: rule, transaction: first, index: -1}, err: err}
	}
	a.waiting = nil
	for i, t := range transactions {
		a.waiting = append(a.waiting, waitingOf(first+i, t.toSend().Kept())...)
	}
	for i, t := range transactions {
		if failed := a.addTransaction(ctx, first+i, t); failed != nil {
			return failed
		}
	}
	a.expectTables(transactions)
	if a.rejected == nil && len(a.unproven) == 0 && !slices.ContainsFunc(a.steps, func(s step) bool { return s.completes }) {
		return nil
	}
	if failed := a.send(ctx); failed != nil {
		return failed
	}
	return a.rejected
}

// send sends the steps in one round trip, and evaluates the rules of each operation as soon
// as its rows are read, because rows may be long.
func (a *attempt) send(ctx context.Context) *failure {
	failed := a.roundTrip(ctx, func(s step) {
		if a.rejected == nil {
			a.rejected = a.evaluate(ctx, s)
		}
		for _, q := range s.checked() {
			delete(a.answers, q)
		}
	})
	return a.prove(failed)
}

// roundTrip sends the steps. complete is that of exchange.
func (a *attempt) roundTrip(ctx context.Context, complete func(step)) *failure {
	var named *statements
	if a.single == nil && !a.unnamed {
		named = statementsOf(a.conn.PgConn(), a.snapshot.Schema)
	}
	steps := a.steps
	a.steps = nil
	a.laps.End(timing.Plan)
	defer a.laps.End(timing.Database)
	defer a.watch(named, steps).end()
	return exchange(ctx, a.conn.PgConn(), named, a.who.Role, steps, a.answers, complete)
}

// evaluate evaluates the rules that a step completes.
func (a *attempt) evaluate(ctx context.Context, s step) *failure {
	evaluate := s.whole.Evaluate
	if s.whole == nil {
		evaluate = s.operation.Checks.Evaluate
	}
	rejection, err := evaluate(a.observingChecks(ctx, s.transaction), a.answers)
	if rejection == nil && err == nil {
		return nil
	}
	return &failure{step: step{kind: rule, transaction: s.transaction, index: s.index}, rejection: rejection, err: err}
}

// checked are the queries of the rules that a step completes.
func (s *step) checked() []*plan.Query {
	if s.whole != nil {
		return s.whole.After()
	}
	return append(s.operation.Checks.Before(), s.operation.Checks.After()...)
}
