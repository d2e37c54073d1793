package apply

import (
	"context"

	"postern/service/plan"
)

func (a *attempt) add(s ...step) { a.steps = append(a.steps, s...) }

// addLocks adds the locks that come before all operations.
func (a *attempt) addLocks(ctx context.Context, transactions []*transaction) error {
	if a.oneAtATime {
		line := ours(reading, `select pg_advisory_xact_lock(hashtextextended('postern entangled', 0))`)
		line.inLine = true
		a.add(line)
	}
	if a.contended == nil && !needChecks(transactions) {
		return nil
	}
	orders := make([]*plan.Order, len(transactions))
	var whole []*plan.TransactionChecks
	for i, t := range transactions {
		if orders[i] = t.toSend(); t.hasChecks() {
			whole = append(whole, t.checks)
		}
	}
	locks, err := plan.LocksOf(ctx, orders, whole, a.contended)
	if err != nil {
		return err
	}
	for _, keys := range locks.Keys {
		a.add(ours(reading, keys.SQL, keys.Args...))
	}
	if a.isolated {
		return nil
	}
	for _, rows := range locks.Rows {
		s := ours(reading, rows.SQL, rows.Args...)
		s.locksAhead = true
		a.add(s)
	}
	return nil
}

// addTransaction adds the steps of a transaction. What there is so far is sent when one of
// its operations waits for rows, and at the end of each portion. An order that is kept does
// not end a portion.
func (a *attempt) addTransaction(ctx context.Context, i int, t *transaction) *failure {
	order := t.toSend()
	a.deferConstraints(i, order, `set constraints all deferred`, session)
	if t.hasChecks() {
		for _, s := range t.checks.Before() {
			a.add(step{kind: reading, transaction: i, index: -1, Statement: s})
		}
	}
	for operations, err := range order.Portions(ctx) {
		if err != nil {
			return &failure{step: step{kind: rule, transaction: i, index: -1}, err: err}
		}
		if !order.IsKept() {
			a.waiting = append(waitingOf(i, operations), a.waiting...)
			a.drop(a.observingChecks(ctx, i), operations)
		}
		failed := a.addOperations(ctx, i, t, operations)
		if failed == nil && !order.IsKept() {
			failed = a.send(ctx)
		}
		if failed != nil {
			return failed
		}
	}
	a.deferConstraints(i, order, `set constraints all immediate`, constraints)
	if t.hasChecks() {
		a.addWhole(i, t.checks)
	}
	return nil
}

// deferConstraints has deferrable constraints checked at the end of a transaction: they may
// be violated between its operations, as on the client.
func (a *attempt) deferConstraints(i int, order *plan.Order, sql string, k kind) {
	if a.snapshot.Deferred && len(order.Tables) > 0 {
		a.add(step{kind: k, transaction: i, index: -1, Statement: plan.Statement{SQL: sql}})
	}
}

// addOperations adds operations. One that waits for rows is completed in its turn.
func (a *attempt) addOperations(ctx context.Context, i int, t *transaction, operations []*plan.Operation) *failure {
	for _, o := range operations {
		if o.Sets != nil {
			if failed := a.complete(ctx); failed != nil {
				return failed
			}
		}
		a.addOperation(i, t, o)
	}
	return nil
}

// addOperation adds an operation, and before and after it what its rules read.
func (a *attempt) addOperation(i int, t *transaction, o *plan.Operation) {
	var after []*plan.Query
	if a.unseen {
		if hidden, ok := o.RejectHidden(); ok {
			a.add(step{kind: operation, transaction: i, index: o.Index, operation: o, Statement: hidden})
		}
	}
	if o.Checks != nil {
		a.addQueries(i, o, o.Checks.Before())
		after = o.Checks.After()
	}
	sent := a.transactions[i] // t may be what rules in Go made of it
	run := step{kind: operation, transaction: i, index: o.Index, operation: o, Statement: o.Statement, rows: &sent.decision.Rows}
	run.completes = o.Checks != nil && len(after) == 0
	if rehearsal := a.rehearsal(); rehearsal != nil {
		a.add(rehearsal.watch(a.request, t.Transaction.Operations[o.Index], run)...)
	} else {
		run.save = a.noteConflicts(t.Transaction.Operations[o.Index].Table, o, sent)
		a.add(run)
	}
	if a.addQueries(i, o, after); len(after) > 0 {
		a.steps[len(a.steps)-1].completes = true
	}
}

func (a *attempt) addQueries(i int, o *plan.Operation, queries []*plan.Query) {
	for _, q := range queries {
		a.add(step{kind: reading, transaction: i, index: o.Index, operation: o, query: q, Statement: q.Statement})
	}
}

// addWhole adds what rules over a whole transaction read after its operations.
func (a *attempt) addWhole(i int, checks *plan.TransactionChecks) {
	queries := checks.After()
	for _, q := range queries {
		a.add(step{kind: reading, transaction: i, index: -1, query: q, Statement: q.Statement})
	}
	if len(queries) > 0 {
		last := &a.steps[len(a.steps)-1]
		last.completes, last.whole = true, checks
	}
}
