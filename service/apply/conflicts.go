package apply

import (
	"maps"
	"sync"

	"postern/policies"
	"postern/service/plan"
)

// Conflict is what a conflict strategy did with a committed write.
type Conflict struct {
	Table    string // the client's name, which a policy has
	Strategy policies.Strategy
	Outcome  string // dropped or merged
}

// conflictCounts counts conflicts since the start. It is safe for concurrent use.
type conflictCounts struct {
	mu     sync.Mutex
	counts map[Conflict]int
}

func (c *conflictCounts) add(conflicts map[Conflict]int) {
	if len(conflicts) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Conflict]int{}
	}
	for conflict, n := range conflicts {
		c.counts[conflict] += n
	}
}

// Conflicts returns how many writes of this instance conflict strategies have dropped or
// merged. A write counts once for each strategy and outcome.
func (a *Applier) Conflicts() map[Conflict]int {
	a.conflicts.mu.Lock()
	defer a.conflicts.mu.Unlock()
	return maps.Clone(a.conflicts.counts)
}

// noteConflicts receives the answer of an operation's statement, and adds what conflict
// strategies did. That counts when the attempt is committed. It is nil if there is nothing
// to add.
func (a *attempt) noteConflicts(table string, o *plan.Operation, t *transaction) func(row [][]byte) {
	if !o.Resolves() {
		return nil
	}
	return func(row [][]byte) {
		if len(row) == 0 {
			return
		}
		noted, dropped, merged := map[Conflict]bool{}, 0, 0
		for _, r := range o.Resolved(string(row[0])) {
			outcome := "dropped"
			if r.Merged {
				outcome, merged = "merged", 1
			} else {
				dropped = 1
			}
			noted[Conflict{table, r.Strategy, outcome}] = true
		}
		for conflict := range noted {
			a.noted[conflict]++
		}
		t.decision.Dropped += dropped
		t.decision.Merged += merged
	}
}
