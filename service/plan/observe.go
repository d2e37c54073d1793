package plan

import (
	"slices"

	"postern/policies"
)

// Rules that only observe must not change what becomes of a write. They lock no row and
// no quota, no guard rests on them, and if a query that they alone need fails, the
// operation is sent without them.

// observingLast sorts rules, so that a query that several need is of one that rejects.
func observingLast(rules []*policies.Rule) {
	slices.SortStableFunc(rules, func(a, b *policies.Rule) int {
		switch {
		case a.Observes == b.Observes:
			return 0
		case b.Observes:
			return -1
		}
		return 1
	})
}

// enforced are those of sorted rules that do not only observe.
func enforced(rules []*policies.Rule) []*policies.Rule {
	for i, r := range rules {
		if r.Observes {
			return rules[:i]
		}
	}
	return rules
}

// Observing are the rules that only observe and that a query is for. It may be for others,
// too, if it reads the write's own row.
func (c *Checks) Observing(q *Query) []*policies.Rule {
	if !q.IsLookup() {
		return c.w.rules[len(enforced(c.w.rules)):]
	}
	return q.Observing()
}

// Drop drops rules from those of the operation that need the database, and returns those
// that it had.
func (o *Operation) Drop(isDropped func(*policies.Rule) bool) (dropped []*policies.Rule) {
	if o.Sets != nil {
		defer func() { o.Sets.dropped = append(o.Sets.dropped, dropped...) }()
	}
	if o.Checks == nil {
		return o.Sets.drop(isDropped)
	}
	w := *o.Checks.w // the other order has the same write
	w.rules = nil
	for _, r := range o.Checks.w.rules {
		if isDropped(r) {
			dropped = append(dropped, r)
		} else {
			w.rules = append(w.rules, r)
		}
	}
	if len(dropped) > 0 {
		o.Checks = newChecks(&w, texts{})
	}
	return dropped
}
