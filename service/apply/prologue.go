package apply

import (
	"context"
	"slices"
	"strconv"
	"time"

	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// What holds inside the database transaction. A request waits for a lock for at most
// lockTimeout; on its first attempt for less, so that few connections wait long. What is
// left of its time, but at most statementTimeout, bounds each statement.
const (
	firstLockTimeout = 200 * time.Millisecond
	lockTimeout      = 5 * time.Second
	statementTimeout = 15 * time.Second
)

// prologue is what comes before the operations: as the login role the receipts and
// the rejected writes, then the user's role.
func prologue(ctx context.Context, r *request, transactions []*transaction, lockTimeout time.Duration) ([]step, error) {
	count := 8
	for _, t := range transactions {
		if count++; r.snapshot.Deferred {
			count += 2
		}
		count += t.toSend().Statements()
	}
	steps := append(make([]step, 0, count), setup(ctx, r, lockTimeout))
	entries := make([]*ledger.Entry, 0, len(transactions))
	for _, t := range transactions {
		if r.works(t) || t.Rejection != nil {
			t.Adds = !t.Digest.Receipt && r.set.Increments(t.Transaction)
			entries = append(entries, &t.Entry)
		}
	}
	if r.single != nil {
		for _, statement := range r.single.Before {
			steps = append(steps, ours(record, statement.SQL, statement.Args...))
		}
	} else if settle, ok := ledger.Settle(r.who, r.clientID, entries); ok {
		steps = append(steps, ours(receipts, settle.SQL, settle.Args...))
	}
	for i, t := range transactions {
		if t.Rejection == nil {
			continue
		}
		entry := t.Entry
		entry.Unopened = t.Rejection.Code == upload.Unauthorized && !r.set.Opens(t.Transaction)
		rejected, err := r.Ledger.Rejected(r.who, r.clientID, r.set.SHA256, entry)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{kind: record, transaction: i, index: -1, Statement: plan.Statement(rejected)})
	}
	return append(steps, becomeUser(r, transactions)...), nil
}

// becomeUser takes the user's role and runs PostgREST's pre-request function, which
// may reject: the first transaction, and then the next one.
func becomeUser(r *request, transactions []*transaction) (steps []step) {
	first := slices.IndexFunc(transactions, r.works)
	if first < 0 || r.single != nil && r.single.AsLogin {
		return nil
	}
	steps = append(steps, ours(session, `select set_config('role', $1, true)`, []byte(r.who.Role)))
	if r.snapshot.PreRequest != "" {
		steps = append(steps, step{kind: preRequest, transaction: first, index: -1, Statement: plan.Statement{SQL: "select " + r.snapshot.PreRequest + "()"}})
	}
	return steps
}

// setup is what PostgREST sets before a request's work, and Postern's time limits.
// See https://docs.postgrest.org/en/stable/references/transactions.html.
func setup(ctx context.Context, r *request, lockTimeout time.Duration) step {
	whole := statementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		whole = time.Until(deadline)
	}
	// In whole seconds, so that the statement is the same from one request to the next.
	whole = max(whole.Truncate(time.Second), time.Second)
	left := min(statementTimeout, whole)
	s := ours(session, `select set_config('request.jwt.claims', $1, true), set_config('request.method', 'POST', true), set_config('request.path', '/api/data', true)`, r.claims)
	set := func(name, value string) {
		n := strconv.Itoa(len(s.Args) + 1)
		m := strconv.Itoa(len(s.Args) + 2)
		s.SQL += ", set_config($" + n + ", $" + m + ", true)"
		s.Args = append(s.Args, []byte(name), []byte(value))
	}
	for _, setting := range r.snapshot.Settings(r.who.Role) {
		set(setting.Name, setting.Value)
	}
	for _, timeout := range []struct {
		name string
		most time.Duration
	}{{"lock_timeout", min(lockTimeout, left)}, {"statement_timeout", left}} {
		if !r.snapshot.HasTimeoutWithin(r.who.Role, timeout.name, timeout.most) {
			set(timeout.name, milliseconds(timeout.most))
		}
	}
	if r.snapshot.TransactionTimeout {
		set("transaction_timeout", milliseconds(whole))
	}
	return s
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
