package conformance_test

import (
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestPostgres18 has what Postgres 18 brought: columns that are computed when they are
// read, and NOT NULL constraints with a name, which may be NOT VALID.
func TestPostgres18(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	version, err := strconv.Atoi(db.Text(t, `show server_version_num`))
	require.NoError(t, err)
	if version < 180000 {
		t.Skip("the server is older")
	}
	db.Exec(t, `
		create table items (id uuid primary key, price int, n int constraint counted not null, total int generated always as (price * n) virtual, note text);
		insert into items values ('3c07e6a0-54c9-4d5a-a6fb-8f2a4a2c1a01', 1, 1);
		alter table items add constraint noted not null note not valid;
		grant select, insert, update, delete on items to authenticated;`)
	b := &testBundle{Service: rig.NewServiceOn(t, db, rig.Policies(t, `
tables:
  items: {allow: all, rules: [{name: cheap, on: [patch], check: "old.total < 100", code: DEAR, message: dear}]}`)), db: db}

	id := uuid.NewString()
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "items", id, `"price":20,"n":3,"total":1,"note":"a"`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "items", id, `"price":20,"n":4,"total":1,"note":"a"`)))
	require.Equal(t, "80", db.Text(t, `select total from items where id = $1`, id), "what the client sent for it is ignored")
	require.Equal(t, "success", b.outcome(t, "alice", op("PATCH", "items", id, `"n":5`)))
	require.Equal(t, "DEAR", b.outcome(t, "alice", op("PATCH", "items", id, `"n":1`)), "rules see the computed value")

	for column, crud := range map[string]string{
		"n":    op("PUT", "items", uuid.NewString(), `"price":20,"note":"a"`),
		"note": op("PATCH", "items", "3c07e6a0-54c9-4d5a-a6fb-8f2a4a2c1a01", `"price":2`),
	} {
		failed := b.One(t, "alice", crud).FailedOperation
		require.NotNil(t, failed, column)
		require.Equal(t, "NOT_NULL_VIOLATION", failed.ErrorCode)
		require.Equal(t, column, failed.Details["column"])
	}
}
