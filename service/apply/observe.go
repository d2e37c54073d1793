package apply

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/plan"
)

// A rule in mode observe rejects nothing. What it would have done counts when its
// transaction is answered with success.

// observations are those of one transaction, at most two of each rule.
type observations struct {
	planned []policies.Observation // while it was planned
	checked []policies.Observation // in its last attempt
}

// observing has observations of rules added to a list.
func (r *request) observing(ctx context.Context, list *[]policies.Observation) context.Context {
	if len(r.set.Observing()) == 0 {
		return ctx
	}
	return policies.WithObserver(ctx, func(o policies.Observation) {
		if !slices.ContainsFunc(*list, func(other policies.Observation) bool {
			return other.Rule == o.Rule && (other.Err == nil) == (o.Err == nil)
		}) {
			*list = append(*list, o)
		}
	})
}

// observingChecks is observing for rules that are evaluated in an attempt.
func (a *attempt) observingChecks(ctx context.Context, transaction int) context.Context {
	return a.observing(ctx, &a.transactions[transaction].observed.checked)
}

var errNoTime = errors.New("the transaction did not fit into its time before")

// failedObserving reports whether a query has failed that only rules in mode observe
// need. The batch is sent again without them.
func (l *loop) failedObserving(ctx context.Context, failed *failure, batch []*transaction) bool {
	var pg *pgconn.PgError
	if failed.query == nil || !errors.As(failed.err, &pg) || blocked(pg) || classify(failed, l.snapshot).again != nil {
		return false
	}
	rules := failed.query.Observing()
	if failed.operation != nil && failed.operation.Checks != nil {
		rules = failed.operation.Checks.Observing(failed.query)
	}
	l.unobserve(ctx, rules, failed.err, batch)
	return len(rules) > 0
}

// unobserve has nothing sent for rules any more in this request.
func (r *request) unobserve(ctx context.Context, rules []*policies.Rule, reason error, transactions []*transaction) {
	for _, rule := range rules {
		if r.unobserved == nil {
			r.unobserved = map[*policies.Rule]error{}
		}
		r.unobserved[rule] = reason
	}
	for _, t := range transactions {
		r.dropUnobserved(ctx, t)
	}
}

// dropUnobserved drops from a transaction's operations the rules that nothing is sent for.
func (r *request) dropUnobserved(ctx context.Context, t *transaction) {
	if len(r.unobserved) == 0 {
		return
	}
	ctx = r.observing(ctx, &t.observed.planned)
	for _, order := range t.orders {
		r.drop(ctx, order.Kept())
	}
	for _, rule := range t.checks.Drop(r.isUnobserved) {
		rule.NotObserved(ctx, -1, r.unobserved[rule])
	}
}

// drop is dropUnobserved for operations.
func (r *request) drop(ctx context.Context, operations []*plan.Operation) {
	if len(r.unobserved) == 0 {
		return
	}
	for _, o := range operations {
		for _, rule := range o.Drop(r.isUnobserved) {
			rule.NotObserved(ctx, o.Index, r.unobserved[rule])
		}
	}
}

func (r *request) isUnobserved(rule *policies.Rule) bool { return r.unobserved[rule] != nil }

// noteObserved counts and logs what rules in mode observe would have done to a
// transaction that is applied, and returns those that would have rejected it.
func (l *loop) noteObserved(t *transaction) (rejects []string) {
	var (
		counted []Observed
		failed  []string
		reason  []any
	)
	for _, o := range slices.Concat(t.observed.planned, t.observed.checked) {
		one := Observed{Table: o.Rule.Table(), Rule: o.Rule.Name, Failed: o.Err != nil}
		if slices.Contains(counted, one) {
			continue
		}
		counted = append(counted, one)
		if !one.Failed {
			rejects = append(rejects, o.Rule.Name)
			continue
		}
		failed = append(failed, o.Rule.Name)
		reason = LogAttributes(o.Err)
	}
	if len(counted) == 0 {
		return nil
	}
	l.observed.add(counted)
	l.log(t).Warn("write accepted, because the rules only observe", append([]any{"would_reject", rejects, "failed", failed, "subject", l.who.Subject}, reason...)...)
	return rejects
}

// Observed is what a rule in mode observe would have done to a transaction that was
// applied.
type Observed struct {
	Table  string // the client's name; empty for a rule over whole transactions
	Rule   string
	Failed bool // it failed to evaluate; otherwise it would have rejected
}

// observedCounts counts since the start. It is safe for concurrent use.
type observedCounts struct {
	mu     sync.Mutex
	counts map[Observed]int
}

func (c *observedCounts) add(list []Observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Observed]int{}
	}
	for _, one := range list {
		c.counts[one]++
	}
}

// Observed returns how many transactions this instance has applied although a rule in
// mode observe would have rejected them, or failed.
func (a *Applier) Observed() map[Observed]int {
	a.observed.mu.Lock()
	defer a.observed.mu.Unlock()
	return maps.Clone(a.observed.counts)
}
