package policies

import (
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

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
