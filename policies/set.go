package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"postern/service/upload"
)

// Set is a folder of policies, compiled against the tables of a database. It does
// not change and may be shared.
type Set struct {
	SHA256 string

	tables      map[string]*Table // by the client's name
	rest        *Table            // the table named "*"; nil when there is none
	taken       map[string]string // the tables of schema public that rest does not open, and why
	transaction []*Rule
	code        []CodeRule
	rate        *Rate
	rated       bool // some table has a rate, or all together have
}

// Decide finds the policy for an operation, or the reason why there is none that
// allows it.
func (s *Set) Decide(op upload.Operation) (*Table, *upload.Rejection) {
	table := s.tables[op.Table]
	if op.Table == "*" {
		table = nil
	}
	if table == nil && s.rest != nil {
		if why, taken := s.taken[op.Table]; taken {
			return nil, &upload.Rejection{Code: upload.Unauthorized, Message: why}
		}
		open := *s.rest
		open.Name = op.Table
		table = &open
	}
	switch {
	case table == nil:
		return nil, &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("no policy opens table %q to clients", op.Table)}
	case !slices.Contains(table.allow, op.Op):
		return nil, &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("the policy of table %q does not allow %s", op.Table, op.Op)}
	}
	return table, nil
}

// Transaction decides the rules over a whole transaction.
func (s *Set) Transaction(ctx context.Context, shared *Shared) (*upload.Rejection, error) {
	shared.trace = traceOf(ctx)
	for _, r := range s.transaction {
		if rejection, err := r.Check(ctx, &Input{Operation: -1, Shared: shared}); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// Holds reports whether some rejection is the client's to decide about.
func (s *Set) Holds() bool {
	directed := func(r *Rule) bool { return r.Client }
	if slices.ContainsFunc(s.transaction, directed) {
		return true
	}
	for _, t := range s.tables {
		if len(t.client) > 0 || slices.ContainsFunc(t.Rules, directed) {
			return true
		}
	}
	return false
}

// WithoutRules is the set with all that it says about where a client's tables,
// columns and ids are in the database, and nothing of what it forbids: for the
// team, who has judged a write itself. Tables it does not name stay closed.
func (s *Set) WithoutRules() *Set {
	bare := &Set{SHA256: s.SHA256, tables: make(map[string]*Table, len(s.tables))}
	for name, t := range s.tables {
		bare.tables[name] = &Table{
			Schema: t.Schema, Name: t.Name, Columns: t.Columns, ID: t.ID, Separator: t.Separator,
			Put: t.Put, SoftDelete: t.SoftDelete, Epoch: t.Epoch, IgnoreUnknown: t.IgnoreUnknown,
			allow: []upload.Op{upload.Put, upload.Patch, upload.Delete}, place: t.place,
		}
		if t == s.rest {
			bare.rest = bare.tables[name]
		}
	}
	return bare
}

// CheckLookups has every lookup prepared, and lists those that cannot be.
func (s *Set) CheckLookups(prepare func(*Lookup) error) error {
	var problems []error
	for _, name := range sortedKeys(s.tables) {
		for _, rule := range s.tables[name].Rules {
			for _, l := range rule.Lookups {
				if err := prepare(l); err != nil {
					problems = append(problems, rule.place.in("lookup", l.Name).problem("%v", err))
				}
			}
		}
	}
	return errors.Join(inOrder(problems)...)
}

// String counts what the set has.
func (s *Set) String() string {
	rules := len(s.transaction) + len(s.code)
	for _, t := range s.tables {
		rules += len(t.Rules)
	}
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	return count(len(s.tables), "table") + ", " + count(rules, "rule")
}

// KnowsLookup checks that some rule has a lookup of this name: its own, its
// rule's, or both with a dot between them.
func (s *Set) KnowsLookup(name string) error {
	var names []string
	for _, t := range s.tables {
		for _, r := range t.Rules {
			for _, l := range r.Lookups {
				names = append(names, l.Name, r.Name, r.Name+"."+l.Name)
			}
		}
	}
	if slices.Contains(names, name) {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("no rule has a lookup %q%s", name, didYouMean(name, names))
}
