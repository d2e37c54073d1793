package apply

import (
	"context"
	"errors"
	"slices"

	"postern/policies"
	"postern/service/upload"
)

// needsCode reports whether a rule in Go has to be run, which takes round trips of its
// own.
func (a *attempt) needsCode() bool {
	return slices.ContainsFunc(a.transactions, func(t *transaction) bool {
		return t.Rejection == nil && len(a.set.CodeRules(t.Transaction)) > 0
	})
}

// writeWithCode writes the transactions one after the other within the open database
// transaction. The rules in Go of each run before its operations.
func (a *attempt) writeWithCode(ctx context.Context) *failure {
	if failed := a.roundTrip(ctx, nil); failed != nil {
		return failed
	}
	for i, t := range a.transactions {
		if t.Rejection != nil {
			continue
		}
		changed, failed := a.runCode(ctx, i, t)
		if failed == nil {
			if failed = a.write(ctx, i, []*transaction{changed}); failed == nil && len(a.steps) > 0 {
				failed = a.send(ctx)
			}
			t.observed.planned = changed.observed.planned
		}
		if failed != nil {
			return failed.ofClient(t)
		}
	}
	return nil
}

// ofClient names no operation if a rule in Go has added the failed one.
func (f *failure) ofClient(t *transaction) *failure {
	sent := len(t.Transaction.Operations)
	if f.index >= sent {
		f.index = -1
	}
	if f.rejection != nil && f.rejection.Operation >= sent {
		f.rejection.Operation = -1
	}
	return f
}

// runCode is the transaction as its rules in Go change it. The one that was sent
// stays unchanged, because the attempt may be repeated.
func (a *attempt) runCode(ctx context.Context, i int, t *transaction) (*transaction, *failure) {
	rules := a.set.CodeRules(t.Transaction)
	if len(rules) == 0 {
		return t, nil
	}
	fail := func(rejection *upload.Rejection, err error) (*transaction, *failure) {
		return nil, &failure{step: step{kind: rule, transaction: i, index: -1}, rejection: rejection, err: err}
	}
	tx := &policies.Tx{Who: a.who, Now: t.now, Operations: t.Transaction.Clone().Operations, DB: a.conn}
	for _, r := range rules {
		err := r.Decide(ctx, tx)
		var rejection *upload.Rejection
		if errors.As(err, &rejection) {
			rejection.Rule = r.Name
			return fail(rejection, nil)
		}
		if err != nil {
			return fail(nil, &policies.RuleError{Rule: "rule " + r.Name, Err: err, External: true})
		}
	}
	changed := *t
	changed.Transaction.Operations = tx.Operations
	changed.observed = observations{}
	orders, checks, rejection, err := a.planner(t.now).Transaction(a.observing(ctx, &changed.observed.planned), changed.Transaction)
	if rejection != nil || err != nil {
		return fail(rejection, err)
	}
	if t.firstRejection != nil {
		orders = orders[len(orders)-1:] // the first order was rejected before
	}
	t.orders, changed.orders, changed.checks = orders, orders, checks
	a.dropUnobserved(ctx, &changed)
	return &changed, nil
}
