package policies

import (
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

// MissingGrant is what a role lacks on a table that the policies open.
type MissingGrant struct {
	Table      *catalog.Table
	Privileges []string
	SQL        string // grants them
}

// MissingGrants lists the statements that grant a role what the policies open to
// clients and the database does not allow.
func (s *Set) MissingGrants(snapshot *catalog.Snapshot, role string) (statements []string) {
	for _, grant := range s.MissingGrantsByTable(snapshot, role) {
		statements = append(statements, grant.SQL)
	}
	return statements
}

// MissingGrantsByTable lists what the policies open to clients and the database does not
// allow to a role.
func (s *Set) MissingGrantsByTable(snapshot *catalog.Snapshot, role string) (grants []MissingGrant) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil || policy.mistaken {
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
		if s.readsEach(table) && !slices.Contains(table.Grants[role], "select") && !slices.Contains(missing, "select") {
			missing = append(missing, "select")
		}
		if missing != nil {
			grants = append(grants, MissingGrant{table, missing, fmt.Sprintf("grant %s on %s to %s", strings.Join(missing, ", "), table.SQL(), role)})
		}
	}
	return grants
}

// readsEach reports whether a rule over whole transactions reads a column of a table's rows.
func (s *Set) readsEach(table *catalog.Table) bool {
	return slices.ContainsFunc(s.transaction, func(r *Rule) bool {
		return slices.ContainsFunc(r.Each, func(e EachColumn) bool {
			return e.Schema == table.Schema && e.Table == table.Name && !slices.Contains(table.PrimaryKey, e.Column)
		})
	})
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
