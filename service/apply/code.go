package apply

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"postern/policies"
	"postern/service/upload"
)

// asksCode reports whether rules in Go are to be asked, which takes round trips
// of their own.
func (s *sender) asksCode(transactions []*transaction) bool {
	return slices.ContainsFunc(transactions, func(t *transaction) bool {
		return t.Rejection == nil && len(s.set.CodeRules(t.Transaction)) > 0
	})
}

// interact sends transactions one after the other within one open database
// transaction, in which rules in Go run before the operations of theirs.
func (s *sender) interact(ctx context.Context, conn *pgx.Conn, prologue []step, transactions []*transaction) *failure {
	if failed := exchange(ctx, conn.PgConn(), append([]step{begin}, prologue...)); failed != nil {
		return failed
	}
	for i, t := range transactions {
		if t.Rejection != nil {
			continue
		}
		asked, failed := s.askCode(ctx, conn, i, t)
		if failed == nil {
			failed = exchange(ctx, conn.PgConn(), s.transactionSteps(s.lockSteps([]*transaction{asked}), i, asked))
		}
		if failed == nil {
			failed = verify(ctx, i, asked)
		}
		if failed != nil {
			return failed.ofClient(t)
		}
	}
	return exchange(ctx, conn.PgConn(), append(s.replay.end(nil), end))
}

// ofClient names no operation where it is one that a rule has added.
func (f *failure) ofClient(t *transaction) *failure {
	added := len(t.Transaction.Operations)
	if f.operation >= added {
		f.operation = -1
	}
	if f.rejection != nil && f.rejection.Operation >= added {
		f.rejection.Operation = -1
	}
	return f
}

// askCode is the transaction as its rules in Go leave it. The one that was sent
// stays as it is, should all this have to be done again.
func (s *sender) askCode(ctx context.Context, conn *pgx.Conn, i int, t *transaction) (*transaction, *failure) {
	rules := s.set.CodeRules(t.Transaction)
	if len(rules) == 0 {
		return t, nil
	}
	asked := *t
	p := s.planner()
	tx := &policies.Tx{Who: s.who, Now: p.now, Operations: t.Transaction.Clone().Operations, DB: conn}
	failed := func(rejection *upload.Rejection, err error) (*transaction, *failure) {
		return nil, &failure{step: step{kind: rule, transaction: i, operation: -1}, rejection: rejection, err: err}
	}
	for _, r := range rules {
		err := r.Decide(ctx, tx)
		var rejection *upload.Rejection
		if errors.As(err, &rejection) {
			rejection.Rule = r.Name
			return failed(rejection, nil)
		}
		if err != nil {
			return failed(nil, &policies.RuleError{Rule: "rule " + r.Name, Err: err})
		}
	}
	orders, rejection, err := p.plan(ctx, upload.Transaction{ID: t.Transaction.ID, Operations: tx.Operations})
	asked.take(orders)
	if t.no == nil {
		t.other = asked.other
	} else if asked.other != nil {
		asked.plan = asked.other
	}
	if rejection != nil || err != nil {
		return failed(rejection, err)
	}
	return &asked, nil
}
