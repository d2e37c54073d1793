package apply

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/plan"
)

// attempt is one try to put transactions into the database: all of them, or none.
type attempt struct {
	*request
	conn         *pgx.Conn
	transactions []*transaction
	isolated     bool
	unnamed      bool            // statements are parsed anew
	discard      bool            // the connection's plans are discarded
	contended    map[uint32]bool // the OIDs of tables whose rows are locked ahead
	lockTimeout  time.Duration
	answers      plan.Answers
	noted        []Conflict // of its operations
}

// run makes the attempt. nil means that it is committed.
func (a *attempt) run(ctx context.Context) *failure {
	steps, err := prologue(ctx, a.request, a.transactions, a.lockTimeout)
	if err != nil {
		return failedOutside(err, true)
	}
	if a.discard {
		steps = slices.Insert(steps, 0, ours(session, `discard plans`))
	}
	if rehearsal := a.rehearsal(); rehearsal != nil {
		a.conn = rehearsal.conn
		return a.inOpenTransaction(ctx, savepoint, steps)
	}
	conn, release, err := a.connect(ctx)
	if err != nil {
		return failedOutside(err, true)
	}
	defer release()
	a.conn = conn.Conn()
	if needChecks(a.transactions) || a.needsCode() {
		return a.inOpenTransaction(ctx, databaseTransaction, steps)
	}
	if a.contended != nil {
		steps = append(steps, a.lockSteps(a.transactions)...)
	}
	for i, t := range a.transactions {
		steps = a.transactionSteps(steps, i, t)
	}
	steps = a.expectTables(steps, a.transactions)
	return a.exchange(ctx, steps) // without BEGIN: one implicit transaction, and one round trip
}

// connect takes a connection from the pool, within the user's share of it.
func (a *attempt) connect(ctx context.Context) (conn *pgxpool.Conn, release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
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

func (a *attempt) exchange(ctx context.Context, steps []step) *failure {
	var named *statements
	if a.single == nil && !a.unnamed {
		named = statementsOf(a.conn.PgConn(), a.snapshot.Schema)
	}
	return exchange(ctx, a.conn.PgConn(), named, a.who.Role, steps, a.answers)
}

// envelope is what makes the steps of an attempt one unit.
type envelope struct{ begin, end, rollback string }

var (
	databaseTransaction = envelope{"begin", "commit", "rollback"}
	// A rehearsal runs inside a database transaction of its caller, as the login role
	// before and after.
	savepoint = envelope{"savepoint postern", "release savepoint postern", "rollback to savepoint postern"}
)

// inOpenTransaction sends the steps, evaluates the rules that needed rows, and
// commits if none rejects: two round trips, and more if there are rules in Go.
func (a *attempt) inOpenTransaction(ctx context.Context, e envelope, prologue []step) *failure {
	steps := append(make([]step, 0, cap(prologue)+4), ours(session, e.begin))
	steps = append(steps, prologue...)
	var failed *failure
	if a.needsCode() {
		if failed = a.exchange(ctx, steps); failed == nil {
			failed = a.oneByOne(ctx)
		}
	} else {
		failed = a.sendAndCheck(ctx, steps, 0, a.transactions)
	}
	if failed == nil {
		return a.exchange(ctx, []step{ours(commit, e.end)})
	}
	if a.conn.PgConn().TxStatus() != 'I' {
		_ = a.exchange(ctx, []step{ours(commit, e.rollback)}) // a connection that cannot is closed
	}
	return failed
}

// sendAndCheck sends operations and evaluates the rules that needed rows, in the
// order of the operations. first is the index of the first transaction.
func (a *attempt) sendAndCheck(ctx context.Context, steps []step, first int, transactions []*transaction) *failure {
	steps = append(steps, a.lockSteps(transactions)...)
	for i, t := range transactions {
		steps = a.transactionSteps(steps, first+i, t)
	}
	steps = a.expectTables(steps, transactions)
	if failed := a.exchange(ctx, steps); failed != nil {
		return failed
	}
	for i, t := range transactions {
		for _, o := range t.toSend() {
			if o.Checks == nil {
				continue
			}
			rejection, err := o.Checks.Evaluate(ctx, a.answers)
			if rejection != nil || err != nil {
				return &failure{step: step{kind: rule, transaction: first + i, index: o.Index}, rejection: rejection, err: err}
			}
		}
	}
	return nil
}

// toSend are the operations of a transaction, unless it is rejected.
func (t *transaction) toSend() plan.Order {
	if t.Rejection != nil || len(t.orders) == 0 {
		return nil
	}
	return t.orders[0]
}

// orders are the operations of transactions.
func orders(transactions []*transaction) []plan.Order {
	orders := make([]plan.Order, len(transactions))
	for i, t := range transactions {
		orders[i] = t.toSend()
	}
	return orders
}

// needChecks reports whether a rule of the transactions needs the database.
func needChecks(transactions []*transaction) bool {
	return slices.ContainsFunc(transactions, func(t *transaction) bool {
		return slices.ContainsFunc(t.toSend(), func(o *plan.Operation) bool { return o.Checks != nil })
	})
}

func (a *attempt) lockSteps(transactions []*transaction) (steps []step) {
	orders := orders(transactions)
	if keys, ok := plan.LockKeys(orders); ok {
		steps = append(steps, ours(reading, keys.SQL, keys.Args...))
	}
	if a.isolated {
		return steps
	}
	for _, rows := range plan.LockRows(orders, a.contended) {
		s := ours(reading, rows.SQL, rows.Args...)
		s.locksAhead = true
		steps = append(steps, s)
	}
	return steps
}

// transactionSteps are the operations of a transaction. Deferrable constraints may be
// violated between them, as on the client, and are checked at the end.
func (a *attempt) transactionSteps(steps []step, i int, t *transaction) []step {
	order := t.toSend()
	if len(order) == 0 {
		return steps
	}
	if a.snapshot.Deferred {
		steps = append(steps, step{kind: session, transaction: i, index: -1, Statement: plan.Statement{SQL: `set constraints all deferred`}})
	}
	for _, o := range order {
		if o.Checks != nil {
			steps = a.queries(steps, i, o, o.Checks.Before())
		}
		run := step{kind: operation, transaction: i, index: o.Index, operation: o, Statement: o.Statement}
		if rehearsal := a.rehearsal(); rehearsal != nil {
			steps = append(steps, rehearsal.watch(a.request, t.Transaction.Operations[o.Index], run)...)
		} else {
			run.save = a.noteConflicts(t.Transaction.Operations[o.Index].Table, o)
			steps = append(steps, run)
		}
		if o.Checks != nil {
			steps = a.queries(steps, i, o, o.Checks.After())
		}
	}
	if a.snapshot.Deferred {
		steps = append(steps, step{kind: constraints, transaction: i, index: -1, Statement: plan.Statement{SQL: `set constraints all immediate`}})
	}
	return steps
}

func (a *attempt) queries(steps []step, i int, o *plan.Operation, queries []*plan.Query) []step {
	for _, q := range queries {
		steps = append(steps, step{
			kind: reading, transaction: i, index: o.Index, operation: o, query: q, Statement: q.Statement,
		})
	}
	return steps
}
