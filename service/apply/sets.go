package apply

import (
	"context"
	"errors"

	"postern/service/catalog"
	"postern/service/plan"
)

// Some operations wait for rows before it is known what the policy sets (plan.Sets). When
// the first one's turn comes, one round trip sends what comes before it, and reads the rows
// of all of them. The others are completed ahead of their turn, because most operations do
// not change each other's rows. When their turn comes, their rows are read once more. If
// one has changed, the attempt is repeated with each in its turn (loop.plansAnew).

// waiting is an operation that waits for rows.
type waiting struct {
	*plan.Operation
	transaction int  // index among those sent
	ahead       bool // it was completed ahead of its turn
	at          int  // index of the step that reads its row once more, among those of its round trip
}

// errOutOfTurn says that an earlier operation has changed what another was completed with.
var errOutOfTurn = errors.New("an operation was completed with rows that an earlier one has changed")

// isOutOfTurn reports whether an operation that was completed ahead of its turn is the cause
// of a failure, and not a lock or the connection.
func (f *failure) isOutOfTurn(tables *catalog.Snapshot) bool {
	return f.ahead && (errors.Is(f.err, errOutOfTurn) || classify(f, tables).again == nil && !blocked(f.err))
}

// waitingOf are those of operations that wait for rows.
func waitingOf(transaction int, operations []*plan.Operation) (list []*waiting) {
	for _, o := range operations {
		if o.Sets != nil {
			list = append(list, &waiting{Operation: o, transaction: transaction})
		}
	}
	return list
}

// complete completes the operation whose turn it is, and others ahead of theirs.
func (a *attempt) complete(ctx context.Context) *failure {
	next := a.waiting[0]
	a.waiting = a.waiting[1:]
	if next.ahead {
		a.addQueries(next.transaction, next.Operation, next.Sets.Queries())
		next.at = len(a.steps)
		a.unproven = append(a.unproven, next)
		return nil
	}
	others := a.independent(next)
	for _, o := range others {
		first := len(a.steps)
		a.addQueries(o.transaction, o.Operation, o.Sets.Queries())
		for i := range a.steps[first:] {
			a.steps[first+i].ahead = true
		}
	}
	a.addQueries(next.transaction, next.Operation, next.Sets.Queries())
	if failed := a.send(ctx); failed != nil {
		return failed
	}
	if a.rejected != nil {
		return a.rejected
	}
	for _, o := range others {
		rejection, err := o.Complete(a.observingChecks(ctx, o.transaction), a.answers)
		o.ahead = rejection == nil && err == nil // otherwise its turn will tell
	}
	rejection, err := next.Complete(a.observingChecks(ctx, next.transaction), a.answers)
	if rejection != nil || err != nil {
		return &failure{step: step{kind: rule, transaction: next.transaction, index: next.Index}, rejection: rejection, err: err}
	}
	return nil
}

// independent are the waiting operations that can be completed together with the next one,
// as far as their rows tell: those before the first that needs the row of another.
func (a *attempt) independent(next *waiting) []*waiting {
	if a.inTurn {
		return nil
	}
	rows := map[string]bool{next.Sets.Row(): true}
	for i, o := range a.waiting {
		if rows[o.Sets.Row()] {
			return a.waiting[:i]
		}
		rows[o.Sets.Row()] = true
	}
	return a.waiting
}

// prove reports an operation that was completed with other rows than those that the last
// round trip has read, which ended with failed. Otherwise it returns failed.
func (a *attempt) prove(failed *failure) *failure {
	for _, o := range a.unproven {
		if (failed == nil || failed.at >= o.at) && !o.Sets.Holds(a.answers) {
			return &failure{step: step{kind: reading, transaction: o.transaction, index: o.Index, ahead: true}, err: errOutOfTurn}
		}
	}
	if failed == nil {
		a.unproven = nil
	}
	return failed
}
