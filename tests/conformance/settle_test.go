package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/tests/rig"
)

// TestSettlePlans has rejected writes of other users, as few and as many as make Postgres
// choose differently. No upload may read them all, in its statement or in the function.
func TestSettlePlans(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	owner, err := pgx.Connect(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(func() { owner.Close(t.Context()) })
	exec := func(sql string) {
		_, err := owner.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(`set plan_cache_mode = force_generic_plan`)
	before := 0
	for _, n := range []int{1000, 5000} {
		exec(fmt.Sprintf(`
			insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction_id, identified, transaction, has_content, bytes,
			       tables, code, message, details, requires_client_handling, policy_sha256)
			select sha256(n::text::bytea), 'issuer', 'user ' || n %% 100, 'device', 'device', n, true, '{}', true, 2, '{lists}', 'CHECK_VIOLATION', 'no', '{}', false, ''
			  from generate_series(%d, %d) n`, before+1, n))
		before = n
		exec(`analyze postern.rejected_writes`)
		exec(`set role ` + ledger.Login)
		for _, test := range []struct{ name, sql, receipts string }{
			{"one", ledger.SettleOneSQL, `'\x00', 'applied'`},
			{"many", ledger.SettleSQL, `'{"\\x00","\\x01"}', '{applied,applied}'`},
		} {
			exec(`prepare ` + test.name + ` as ` + test.sql)
			rows, err := owner.Query(t.Context(), fmt.Sprintf(`explain execute %s(%s, '{}', '{"\\x00"}', 'issuer', 'user 1', 'device', 1)`, test.name, test.receipts), pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.NotContains(t, strings.Join(lines, "\n"), "Seq Scan on rejected_writes", "%s receipts, %d rejected writes", test.name, n)
			exec(`deallocate ` + test.name)
		}
		exec(`begin`)
		for range 2 { // the first call plans the function
			exec(`select postern.settle('{}', '{"\\x00"}', 'issuer', 'user 1', 'device', 1)`)
		}
		var scans int
		require.NoError(t, owner.QueryRow(t.Context(), `select pg_stat_get_xact_numscans('postern.rejected_writes'::regclass)`).Scan(&scans))
		require.Zero(t, scans, "the function reads all of %d rejected writes", n)
		exec(`rollback`)
		exec(`reset role`)
	}
}
