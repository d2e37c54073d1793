package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHiddenRowsAreNotLocked has a user delete rows under a rule, which locks them first.
// The user may delete rows and not update them. Another session holds the lock of one that
// the user sees, and of one that the user does not.
func TestHiddenRowsAreNotLocked(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table docs (id text primary key, hidden boolean not null);
		insert into docs values ('seen', false), ('hidden', true), ('hidden too', true);
		alter table docs enable row level security;
		create policy visible on docs to authenticated using (not hidden);
		grant select, delete on docs to authenticated;
		do $$begin execute format('alter role authenticated in database %I set lock_timeout = %L', current_database(), '100ms'); end$$`,
		`tables: {docs: {allow: [delete], rules: [{name: r, check: old.id != 'x', code: R, message: No}]}}`)
	other, err := b.db.Owner.Begin(t.Context())
	require.NoError(t, err)
	defer other.Rollback(t.Context())
	_, err = other.Exec(t.Context(), `select from docs for update`)
	require.NoError(t, err)
	hidden := op("DELETE", "docs", "hidden", "")
	require.Equal(t, "UNAUTHORIZED", b.outcome(t, "alice", hidden))
	require.Equal(t, "UNAUTHORIZED", b.outcome(t, "alice", op("DELETE", "docs", "hidden too", "")+","+hidden), "several are locked ahead")
	require.Equal(t, "retryable_error", b.outcome(t, "alice", op("DELETE", "docs", "seen", "")))
	require.NoError(t, other.Rollback(t.Context()))
	require.Equal(t, "success", b.outcome(t, "alice", op("DELETE", "docs", "seen", "")))
	require.Equal(t, "hidden,hidden too", b.db.Text(t, `select string_agg(id, ',' order by id) from docs`))
}
