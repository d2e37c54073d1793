// Package policies holds the rules of an application: which tables its clients
// may write, what is set and checked on the way, and what happens where a write
// meets another one. Rules stand in YAML files in one folder, with expressions in
// CEL (https://cel.dev); what no file names is refused.
//
// A Source is a folder that was read; compiled against the catalogue it is a Set,
// in which every name exists and every expression has a type. A Set decides from
// what it is given; it never talks to the database itself.
package policies

import (
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

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

// MissingGrants lists what the policies open to clients and the database keeps
// from a role, each with the statement that grants it.
func (s *Set) MissingGrants(snapshot *catalog.Snapshot, role string) (missing []string) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil {
			continue
		}
		var wanted []string
		for _, op := range policy.allow {
			for _, privilege := range policy.privileges(op) {
				if !slices.Contains(table.Grants[role], privilege) && !slices.Contains(wanted, privilege) {
					wanted = append(wanted, privilege)
				}
			}
		}
		if wanted != nil {
			missing = append(missing, fmt.Sprintf("grant %s on %s to %s", strings.Join(wanted, ", "), table.SQL(), role))
		}
	}
	return missing
}

// privileges are those that an operation takes. A row that is only inserted need
// not be read, unless a rule looks at it.
func (t *Table) privileges(op upload.Op) []string {
	ofRow := func(p Parameter) bool { return p.From == "new" || p.From == "old" }
	reads := func(r *Rule) bool {
		return r.On(op) && (r.LooksAtOld() || r.LooksAtNew() || slices.ContainsFunc(r.Lookups, func(l *Lookup) bool { return l.Asks(ofRow) }))
	}
	switch {
	case op == upload.Put && t.Put == Insert && !slices.ContainsFunc(t.Rules, reads):
		return []string{"insert"}
	case op == upload.Put && t.Put == Insert:
		return []string{"select", "insert"}
	case op == upload.Put:
		return []string{"select", "insert", "update"}
	case op == upload.Patch || t.SoftDelete != "":
		return []string{"select", "update"}
	}
	return []string{"select", "delete"}
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
