package policies

import (
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

// MissingGrants lists the statements that grant a role what the policies open to
// clients and the database does not allow.
func (s *Set) MissingGrants(snapshot *catalog.Snapshot, role string) (statements []string) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil {
			continue
		}
		var missing []string
		for _, op := range policy.allow.operations() {
			for _, privilege := range policy.privileges(op) {
				if !slices.Contains(table.Grants[role], privilege) && !slices.Contains(missing, privilege) {
					missing = append(missing, privilege)
				}
			}
		}
		if missing != nil {
			statements = append(statements, fmt.Sprintf("grant %s on %s to %s", strings.Join(missing, ", "), table.SQL(), role))
		}
	}
	return statements
}

// privileges returns those that an operation needs. An insert reads the row only if
// a rule looks at it.
func (t *Table) privileges(op upload.Op) []string {
	ofRow := func(p Parameter) bool { return p.From == "new" || p.From == "old" }
	reads := func(r *Rule) bool {
		return r.AppliesTo(op) && (r.LooksAtOld() || r.LooksAtNew() || slices.ContainsFunc(r.Lookups, func(l *Lookup) bool { return l.HasParameter(ofRow) }))
	}
	switch {
	case op == upload.Put && t.Put == Insert && !slices.ContainsFunc(t.Rules, reads):
		return []string{"insert"}
	case op == upload.Put && t.Put == Insert:
		return []string{"select", "insert"}
	case op == upload.Put && !t.Updates():
		return []string{"select", "insert", "update"}
	case op == upload.Put || op == upload.Patch || t.SoftDelete != "":
		return []string{"select", "update"}
	}
	return []string{"select", "delete"}
}
