package plan

import (
	"strconv"

	"postern/service/catalog"
	"postern/service/value"
)

// OutdatedState is the SQLSTATE of CheckCatalogue's error.
const OutdatedState = "PN007"

// CheckCatalogue fails with OutdatedState if the operations succeed only because they were
// planned by an outdated catalogue: if a column that they leave out, because the
// database makes its values, is an ordinary one by now; or if a table has row-level
// security by now, so that a row which a PATCH or DELETE did not find may be a hidden
// one. It runs after the operations, whose locks keep the tables as they are. ok is
// false if they rest on neither.
func CheckCatalogue(orders []Order) (s Statement, ok bool) {
	var (
		of, names, open []string
		columns         = map[*catalog.Column]bool{}
		tables          = map[uint32]bool{}
	)
	for _, order := range orders {
		for _, o := range order {
			oid := strconv.FormatUint(uint64(o.Table.OID), 10)
			for _, c := range o.leftOut {
				if !columns[c] {
					columns[c] = true
					of, names = append(of, oid), append(names, c.Name)
				}
			}
			if o.privilege != "insert" && !o.Table.RowSecurity && !tables[o.Table.OID] {
				tables[o.Table.OID] = true
				open = append(open, oid)
			}
		}
	}
	return Statement{
		SQL: `
select postern.raise_error('` + OutdatedState + `', 'the tables have changed since the catalogue was read')
 where exists (select from unnest($1::oid[], $2::text[]) as left_out(of, name)
                where not exists (select from pg_catalog.pg_attribute a
                                   where a.attrelid = left_out.of and a.attname = left_out.name and (a.attgenerated <> '' or a.attidentity = 'a')))
    or exists (select from pg_catalog.pg_class c where c.oid = any($3::oid[]) and c.relrowsecurity)`,
		Args: [][]byte{value.TextArray(of), value.TextArray(names), value.TextArray(open)},
	}, len(of)+len(open) > 0
}
