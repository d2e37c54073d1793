package policies

import (
	"context"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// The modes of a rule.
const (
	enforce = "enforce"
	observe = "observe"
)

// Observation is what a rule that only observes would have done: rejected the write, or
// failed to evaluate.
type Observation struct {
	Rule *Rule
	Err  error // why it failed; nil if it would have rejected
}

type observerKey struct{}

// WithObserver returns a context under which observed receives each observation.
func WithObserver(ctx context.Context, observed func(Observation)) context.Context {
	return context.WithValue(ctx, observerKey{}, observed)
}

// observe reports what came out of a rule that only observes. The error is that of ctx,
// if it has ended.
func (r *Rule) observe(ctx context.Context, rejects bool, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if observed, ok := ctx.Value(observerKey{}).(func(Observation)); ok && (rejects || err != nil) {
		observed(Observation{r, err})
	}
	return nil
}

// Table is the client's name of the rule's table; empty for a rule over whole
// transactions.
func (r *Rule) Table() string {
	if r.place.path[0] != "tables" {
		return ""
	}
	return fmt.Sprint(r.place.path[1])
}

// Observing are the rules that only observe.
func (s *Set) Observing() []*Rule { return s.observing }

func (s *Set) findObserving() {
	all := slices.Clone(s.transaction)
	for _, name := range sortedKeys(s.tables) {
		all = append(all, s.tables[name].Rules...)
	}
	s.observing = slices.DeleteFunc(all, func(r *Rule) bool { return !r.Observes })
}

// mode gives a table's mode to those of its rules that have none of their own.
func (c *compiler) mode(t *Table, r tableRule, at place) {
	observes := c.choice(at.in("mode"), r.Mode, enforce, observe) == observe
	if r.Mode != "" && len(r.Rules) == 0 {
		c.add(at.in("mode").problem("mode is for the table's rules, and it has none: add some, or remove mode"))
	}
	for i, rule := range t.Rules {
		if r.Rules[i].Mode == "" {
			rule.Observes = observes
		}
	}
}

// observes reports whether the file says so of the rule that the place is within.
func (p place) observes(rule int) bool {
	for _, path := range [][]any{p.path[:rule+2], p.path[:rule]} {
		if mode, ok := (place{p.file, path}).in("mode").find(false).(*ast.StringNode); ok {
			return mode.Value == observe
		}
	}
	return false
}

// NotObserved reports that a rule that only observes is not evaluated for an operation,
// because a query that it needs has failed.
func (r *Rule) NotObserved(ctx context.Context, operation int, err error) {
	err = r.error(err)
	if trace := traceOf(ctx); trace != nil {
		trace(TraceEntry{Operation: operation, Rule: r.Name, Position: r.Position(), Result: Errored, Detail: err.Error(), Observed: true})
	}
	_ = r.observe(ctx, false, err)
}
