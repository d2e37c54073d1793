package conformance_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// TestExplainNoRow calls postern.explain_no_row as an operation's statement does, and
// checks what it returns or raises.
func TestExplainNoRow(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
create table things (id text primary key, visible boolean not null, n integer not null default 0, deleted boolean not null default false);
insert into things (id, visible) values ('open', true), ('hidden', false), ('frozen', true), ('soft', true);
alter table things enable row level security;
create policy visible on things to authenticated using (visible);
grant select, update, delete on things to authenticated;
create function suppress() returns trigger language plpgsql as 'begin return null; end';
create trigger suppress before update on things for each row when (old.id = 'frozen') execute function suppress();
create function soft_delete() returns trigger language plpgsql as 'begin update things set deleted = true where id = old.id; return null; end';
create trigger soft_delete before delete on things for each row execute function soft_delete();`)
	pool, err := service.Connect(database.LoginURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	const (
		update      = `update things as t set n = n + 1 where t.id = $1::text`
		guarded     = update + ` and t.n < 0`
		unguarded   = `case when t.id is null then 'UNAUTHORIZED' end`
		drops       = `case when t.id is null then 'UNAUTHORIZED' when (t.n < 0) is not true then 'DROPPED' end`
		conflicts   = `case when t.id is null then 'UNAUTHORIZED' when (t.n < 0) is not true then 'CONFLICT' end`
		deleted     = `delete from things as t where t.id = $1::text`
		touched     = "no question"
		nonexistent = "NULL"
	)
	for _, test := range []struct {
		name, id, operation, guards string
		rejectMissing               bool
		want                        string
	}{
		{"Updated", "open", update, unguarded, false, touched},
		{"Missing", "none", update, unguarded, false, nonexistent},
		{"MissingIsRejected", "none", update, unguarded, true, "PN006 ROW_NOT_FOUND"},
		{"Hidden", "hidden", update, unguarded, false, "PN006 UNAUTHORIZED"},
		{"DroppedByAGuard", "open", guarded, drops, false, "DROPPED"},
		{"RejectedByAGuard", "open", guarded, conflicts, false, "PN006 CONFLICT"},
		{"SuppressedByATrigger", "frozen", update, unguarded, false, "TRIGGER"},
		{"ReplacedByATrigger", "soft", deleted, unguarded, false, "TRIGGER"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const row = `'public.things'::regclass, '{id}', array[$1::text]`
			sql := strings.NewReplacer("OPERATION", test.operation, "GUARDS", test.guards, "ROW", row).Replace(`
with touched as (OPERATION returning 1)
select coalesce(postern.explain_no_row(3, ROW, $2::boolean, coalesce(postern.row_version(ROW), '(0,0)'), GUARDS, 'DROPPED', null), 'NULL')
  from (select) one left join lateral postern.current_row(null::public.things, '{id}', array[$1::text], true) as t on true
 where not exists (select from touched)`)
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(t.Context())
			_, err = tx.Exec(t.Context(), `select set_config('role', 'authenticated', true)`)
			require.NoError(t, err)
			got := ""
			err = tx.QueryRow(t.Context(), sql, test.id, test.rejectMissing).Scan(&got)
			var pg *pgconn.PgError
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				got = touched
			case errors.As(err, &pg):
				got = pg.Code + " " + pg.Message
				require.Equal(t, "3", pg.Detail, "the operation's index")
			default:
				require.NoError(t, err)
			}
			require.Equal(t, test.want, got)
		})
	}
}
