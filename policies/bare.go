package policies

import (
	"postern/service/upload"
)

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

// Everything is the set without rules, in which every table of schema public is open
// that the set does not name: for rows that a policy's test gives.
func (s *Set) Everything() *Set {
	bare := s.WithoutRules()
	if bare.rest == nil {
		bare.rest = &Table{Schema: "public", allow: []upload.Op{upload.Put, upload.Patch, upload.Delete}, Separator: ":"}
	}
	return bare
}
