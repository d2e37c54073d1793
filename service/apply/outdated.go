package apply

import (
	"strconv"
	"time"

	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/value"
)

// expectTables adds a step that fails if a table has changed since the catalogue was
// read. Most plans do not need it, because Postgres would reject their statements. It is
// for operations that would do something else without an error, and for all if the
// catalogue is old: none was read while the service had no requests.
func (a *attempt) expectTables(transactions []*transaction) {
	old := time.Since(a.snapshot.ReadAt) > catalog.MaxAge
	var tables, versions []string
	listed := map[*catalog.Table]bool{}
	for _, t := range transactions {
		for _, u := range t.toSend().Tables {
			if (old || u.RestsOnCatalogue) && !listed[u.Table] {
				listed[u.Table] = true
				tables = append(tables, strconv.FormatUint(uint64(u.Table.OID), 10))
				versions = append(versions, strconv.FormatInt(u.Table.Version(), 10))
			}
		}
	}
	if len(tables) > 0 {
		a.add(ours(session, `select postern.expect_tables($1, $2)`, value.TextArray(tables), value.TextArray(versions)))
	}
}

// tablesChanged reports whether the step of expectTables has failed.
func tablesChanged(f *failure) bool { return raised(f.err, ledger.StateOutdated) }
