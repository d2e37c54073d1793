package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/ledger"
	"postern/service/upload"
)

// run gives the transactions results, in order, up to one that ends the request;
// then it reports false. They share a commit as long as none fails. When one
// does, those before it, which went through, are sent again with its rejection,
// and those after it follow.
func (s *sender) run(ctx context.Context, transactions []*transaction) (goOn bool) {
	for len(transactions) > 0 {
		if i := slices.IndexFunc(transactions, func(t *transaction) bool { return t.failed != nil }); i >= 0 {
			return s.runFailed(ctx, transactions, i)
		}
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
		case out.rejection != nil && at > 0 && failed.kind != rule && verifies(transactions[:at]):
			// What it failed on may be the doing of one that its rules have yet to turn down.
			if !s.run(ctx, transactions[:at]) {
				return false
			}
			transactions = transactions[at:]
			continue
		case out.rejection == nil:
			if at > 0 && !s.run(ctx, transactions[:at]) {
				return false
			}
			t := transactions[at]
			if out.rejection = s.retryable(t, errors.Join(out.again, out.retry), t.Rejection == nil && failed.ofWrite()); out.rejection == nil {
				return false
			}
			transactions, at = transactions[at:], 0
		}
		if out.rejection.Code == upload.SchemaMismatch && s.outdated() {
			if err := s.refresh(ctx, transactions[at:]); err == nil {
				transactions = s.upToEnd(transactions)
				continue
			} // else the database is in no state to judge, and the next try will show
		}
		s.complete(out.rejection, transactions[at].plan, failed)
		if t := transactions[at]; t.other != nil && failed.transaction >= 0 {
			t.plan, t.other, t.no = t.other, nil, out.rejection
			continue
		} else if t.no != nil && (t.no.Code != upload.ForeignKeyViolation || out.rejection.Code == upload.ForeignKeyViolation) {
			out.rejection = t.no // else it was one of the order
		}
		out.rejection.ClientHandling = s.directed(out.rejection, transactions[at].Transaction)
		transactions[at].Rejection = out.rejection
		if !s.run(ctx, transactions[:at+1]) || s.ends(out.rejection) {
			return false
		}
		transactions = transactions[at+1:]
	}
	return true
}

// runFailed is run where a rule failed on a transaction: what comes before it
// goes on, and the request ends there, unless it has failed too often.
func (s *sender) runFailed(ctx context.Context, transactions []*transaction, i int) (goOn bool) {
	if i > 0 && !s.run(ctx, transactions[:i]) {
		return false
	}
	t := transactions[i]
	if t.Rejection = s.retryable(t, t.failed, true); t.Rejection == nil {
		return false
	}
	t.failed = nil
	return s.run(ctx, s.upToEnd(transactions[i:])) && !s.ends(t.Rejection)
}

// ofWrite reports whether a step is a transaction's own, and not one of ours that
// surround it.
func (s step) ofWrite() bool {
	return s.kind == operation || s.kind == reading || s.kind == rule || s.kind == constraints || s.kind == commit || s.kind == preRequest
}

// sendPatiently tries again after clashes, lost connections, and for as long as
// a database may take to wake up.
func (s *sender) sendPatiently(ctx context.Context, transactions []*transaction) *failure {
	if !s.anything(transactions) && s.replay == nil {
		return nil
	}
	started := time.Now()
	for attempt := 1; ; attempt++ {
		failed := s.send(ctx, transactions)
		if failed == nil {
			return nil
		}
		if failed.lockAhead && classify(failed).rejection != nil {
			s.isolated = true // which tells whose row it was
			continue
		}
		if classify(failed).again == nil {
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
func (s *sender) anything(transactions []*transaction) bool {
	return slices.ContainsFunc(transactions, func(t *transaction) bool { return t.Rejection != nil || s.works(t) })
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
		t.log().Warn("write rejected", "code", t.Rejection.Code, "table", table, "operation", t.Rejection.Operation, "subject", s.who.Subject)
	}
	s.patience.succeeded(s.who, transactions)
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
		s.retryable(transactions[0], err, false)
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
	if errors.As(f.err, &pg) && r.Operation < 0 && f.kind != operation {
		r.Operation = blame(s.snapshot, p, pg)
	}
	for _, statement := range p {
		if r.Code == upload.InvalidData && statement.operation == r.Operation && f.kind == operation {
			nameColumn(r, statement)
		}
	}
}

// directed reports whether the policies leave a rejection to the client.
func (s *sender) directed(r *upload.Rejection, t upload.Transaction) bool {
	if r.ClientHandling || r.Operation < 0 {
		return r.ClientHandling
	}
	table, _ := s.set.Decide(t.Operations[r.Operation])
	return table != nil && table.ClientHandling(r.Code)
}

// retryable tells the client to come again, and the log why. A transaction that
// has failed too often with the same database error, of its own, is to be rejected
// instead.
func (s *sender) retryable(t *transaction, err error, own bool) *upload.Rejection {
	after, same, failing := s.patience.failed(s.who, t.Digest, err)
	if own && same >= giveUpAfter && unrecognised(err) {
		return &upload.Rejection{Code: upload.UnclassifiedError, Message: "the database cannot take this write, and says so each time it is tried", Operation: -1}
	}
	t.log().Error("transaction not applied, the client will retry", append(logAttributes(err), "attempt", same)...)
	if failing >= stuckAfter {
		t.log().Error("queue stuck: its first transaction keeps failing, and nothing behind it is uploaded",
			append(logAttributes(err), "for", failing.Round(time.Second).String(), "subject", s.who.Subject)...)
	}
	t.result = &upload.Result{
		Status:       upload.RetryableError,
		Message:      "the write could not be stored now; it will be accepted or rejected on a later try",
		RetryAfterMS: int(after.Milliseconds()),
	}
	return nil
}
