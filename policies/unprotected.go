package policies

import "postern/service/catalog"

// Unprotected lists the tables that the policies open and that neither row-level security
// nor an owner protects: each user may write every user's rows, as far as no rule
// prevents it.
func (s *Set) Unprotected(snapshot *catalog.Snapshot) (tables []*catalog.Table) {
	for _, table := range s.Opened(snapshot) {
		if !table.RowSecurity && !s.owned(table) {
			tables = append(tables, table)
		}
	}
	return tables
}

// Opened lists the tables that the policies open, by schema and name.
func (s *Set) Opened(snapshot *catalog.Snapshot) (tables []*catalog.Table) {
	for _, table := range snapshot.Tables() {
		if len(s.policiesOf(table)) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

// owned reports whether each policy of a table has an owner.
func (s *Set) owned(table *catalog.Table) bool {
	for _, policy := range s.policiesOf(table) {
		if policy.Owner == "" {
			return false
		}
	}
	return true
}

// policiesOf returns the policies that open a table. Clients may know a table by several
// names.
func (s *Set) policiesOf(table *catalog.Table) (found []*Table) {
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		if policy != s.rest && policy.Schema == table.Schema && policy.Name == table.Name && policy.allow != 0 {
			found = append(found, policy)
		}
	}
	if policy, closed := s.open[table.Name], s.closed[table.Name]; policy != nil && closed == "" && table.Schema == "public" && s.tables[table.Name] == nil {
		found = append(found, policy)
	}
	return found
}
