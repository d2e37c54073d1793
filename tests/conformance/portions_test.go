package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/tests/rig"
)

// TestPortions has transactions that are sent in several portions. Their outcomes are those
// of short ones, which have one portion.
func TestPortions(t *testing.T) {
	t.Parallel()
	const portion = plan.Portion / plan.Guarded
	db := rig.NewDatabase(t)
	db.Exec(t, `
		create table stock (id text primary key, n int not null check (n < 100));
		create table bins (id text primary key, stock_id text references stock);
		grant select, insert, update, delete on stock, bins to authenticated`)
	s := rig.NewServiceOn(t, db, rig.Policies(t, `
tables:
  stock: {allow: all, rules: [{name: grows, check: old == null || new.n >= old.n, code: SHRINKS, message: It shrinks}]}
  bins: {allow: all, rules: [{name: once, check: old == null, code: TWICE, message: It is there}]}`))
	put := func(id string, n int) string { return op("PUT", "stock", id, fmt.Sprintf(`"n":%d`, n)) }
	for _, between := range []int{0, 2*portion + 50} {
		name := func(id string) string { return fmt.Sprint(id, between) }
		fill := func(prefix string, n int) (list []string) {
			for i := range between {
				list = append(list, put(fmt.Sprint(name(prefix), "-", i), n))
			}
			return list
		}
		apply := func(first string, prefix string, n int, last string) rig.Result {
			return s.One(t, "alice", strings.Join(append(append([]string{first}, fill(prefix, n)...), last), ","))
		}
		count := func() string { return db.Text(t, `select count(*) from stock where id like $1`, name("%")+"-%") }

		require.Equal(t, "success", apply(put(name("first"), 1), "a", 1, put(name("last"), 1)).Status)
		require.Equal(t, fmt.Sprint(between), count())

		rejected := apply(put(name("first"), 5), "b", 1, put(name("last"), 0))
		require.Equal(t, "SHRINKS", rejected.FailedOperation.ErrorCode)
		require.Equal(t, between+1, *rejected.FailedOperation.OperationIndex)
		rejected = apply(put(name("first"), 0), "b", 1, put(name("last"), 5))
		require.Equal(t, "SHRINKS", rejected.FailedOperation.ErrorCode)
		require.Zero(t, *rejected.FailedOperation.OperationIndex)
		rejected = apply(put(name("first"), 0), "b", 1, put(name("last"), 100))
		require.Equal(t, "CHECK_VIOLATION", rejected.FailedOperation.ErrorCode, "Postgres' own error counts more than an earlier rule")
		require.Equal(t, between+1, *rejected.FailedOperation.OperationIndex)
		require.Equal(t, fmt.Sprint(between), count(), "all or nothing")
		require.Equal(t, "1", db.Text(t, `select n from stock where id = $1`, name("last")))

		require.Equal(t, "success", apply(put(name("first"), 2), "a", 2, put(name("first"), 3)).Status)
		rejected = apply(put(name("first"), 5), "a", 2, put(name("first"), 4))
		require.Equal(t, "SHRINKS", rejected.FailedOperation.ErrorCode, "a rule sees what an earlier portion has written")

		child := op("PUT", "bins", name("bin"), fmt.Sprintf(`"stock_id":"%s"`, name("parent")))
		require.Equal(t, "success", apply(child, "c", 1, put(name("parent"), 1)).Status, "the parent comes first")
	}
}
