package conformance_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

const statementsSchema = `
create table notes (id text primary key, title text, qty int, at timestamp, secret boolean);
grant select, insert, update, delete on notes to authenticated;
create table kept (id text primary key);
grant select, insert, update on kept to authenticated;`

// recordedService is a service with one connection, whose messages are recorded.
func recordedService(t *testing.T, settings string) (*testBundle, *rig.Recorder) {
	database := rig.NewDatabase(t)
	database.Exec(t, statementsSchema)
	recorder := &rig.Recorder{}
	through, err := rig.NewProxy(t, rig.HostPort(t, database.LoginURL), rig.ProxyOptions{Requests: recorder}).URL(database.LoginURL)
	require.NoError(t, err)
	s := rig.NewServiceOn(t, database, rig.Policies(t, `tables: {notes: {allow: all}, kept: {allow: all}}`), func(c *service.Config) {
		c.DatabaseURL = through + "&pool_max_conns=1" + settings
	})
	b := &testBundle{Service: s, db: database}
	b.succeed(t, "alice", op("PUT", "kept", "first", "")) // connects
	s.AwaitTidy(t)
	return b, recorder
}

// TestParsedOnce has Postgres parse a statement once on a direct connection, and each
// time through a pooler, whose connections are not ours.
func TestParsedOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, settings string
		parsed         bool
	}{
		{"FoundOut", "", rig.Pooled()},
		{"Named", "&statements=named", false},
		{"Unnamed", "&statements=unnamed", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.settings == "&statements=named" && rig.Pooled() {
				t.Skip("this PgBouncer keeps no prepared statements")
			}
			b, recorder := recordedService(t, test.settings)
			send := func() {
				for _, user := range []string{"alice", "bob"} {
					put := op("PUT", "notes", user, `"title":"a"`) + "," + op("PATCH", "notes", user, `"qty":1`) + "," + op("PUT", "kept", user, "")
					require.Equal(t, "success", b.outcome(t, user, put))
				}
			}
			recorder.Reset()
			send()
			// A pooler keeps a statement by its text, so that names the catalogue.
			for _, sql := range recorder.Parsed(t) {
				named := test.name == "Named" || test.name == "FoundOut" && strings.Contains(b.db.LoginURL, "statements=named")
				require.Equal(t, named, regexp.MustCompile(`/\* [0-9a-f]{64} \*/$`).MatchString(sql), sql)
			}
			send()
			require.Equal(t, test.parsed, len(recorder.Parsed(t)) > 0)
		})
	}
}

// TestPlannedOnce has Postgres plan statements without a name for any values, but not if the
// application's own queries are among them, or a table whose partitions they would all lock.
func TestPlannedOnce(t *testing.T) {
	t.Parallel()
	note, looks, triggers := op("PUT", "planned", "a", `"note":"a"`), op("PUT", "looking", "a", `"note":"a"`), op("PUT", "triggering", "a", `"note":"a"`)
	for _, test := range []struct{ name, settings, crud, mode string }{
		{"Operations", "&statements=unnamed", note, "force_generic_plan"},
		{"BesideALookup", "&statements=unnamed", note + "," + looks, "auto"},
		{"BesideAPartitionedTable", "&statements=unnamed", note + "," + op("PATCH", "parted", "a", `"note":"a"`), "auto"},
		{"BesideATrigger", "&statements=unnamed", note + "," + triggers, "auto"},
		{"Direct", "&statements=named", note, "auto"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.name == "Direct" && rig.Pooled() {
				t.Skip("this PgBouncer keeps no prepared statements")
			}
			database := rig.NewDatabase(t)
			database.Exec(t, `create table planned (id text primary key, note text, mode text default current_setting('plan_cache_mode'));
				create table looking (like planned including all);
				create table triggering (like planned including all);
				create table parted (id text primary key, note text) partition by hash (id);
				create table part partition of parted for values with (modulus 1, remainder 0);
				create function nothing() returns trigger language plpgsql as 'begin return null; end';
				create trigger later after insert on triggering for each row execute function nothing();
				grant select, insert, update on planned, looking, triggering, parted to authenticated`)
			live := rig.Policies(t, `tables: {planned: {allow: all}, triggering: {allow: all}, parted: {allow: all}, looking: {allow: all, rules: [{name: r, lookup: {l: select 1 as n}, check: lookup.l.n == 1, code: NO, message: No}]}}`)
			s := rig.NewServiceOn(t, database, live, func(c *service.Config) { c.DatabaseURL = database.LoginURL + test.settings })
			b := &testBundle{Service: s, db: database}
			require.Equal(t, "success", b.outcome(t, "alice", test.crud))
			require.Equal(t, test.mode, database.Text(t, `select mode from planned`))
		})
	}
}

// TestManyStatements has more statements than a connection keeps.
func TestManyStatements(t *testing.T) {
	t.Parallel()
	if rig.Pooled() {
		t.Skip("through a pooler no statement is kept")
	}
	b, recorder := recordedService(t, "")
	var columns []string
	for i := range 8 {
		columns = append(columns, fmt.Sprintf("c%d", i))
	}
	b.db.Exec(t, `alter table notes add `+strings.Join(columns, ` int, add `)+` int`)
	send := func(n int) {
		var data []string
		for i, column := range columns {
			if n>>i&1 == 1 {
				data = append(data, fmt.Sprintf("%q:%d", column, n))
			}
		}
		require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "notes", fmt.Sprint(n), strings.Join(data, ","))))
	}
	for n := range 1 << len(columns) {
		send(n)
	}
	recorder.Reset()
	send(1<<len(columns) - 1)
	require.Empty(t, recorder.Parsed(t), "the last one is kept")
	recorder.Reset()
	send(1)
	require.NotEmpty(t, recorder.Parsed(t), "the first ones are not")
	require.Equal(t, "256", b.db.Text(t, `select count(*)::text from notes where coalesce(c0, c1, c2, c3, c4, c5, c6, c7, 0)::text = id`))
}

// TestStatementsOutdated changes what named statements rest on. The next write is judged
// by what is true now, and has its effect once.
func TestStatementsOutdated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, change, before, after, want, stored string }{
		{"TypeOfAColumn", `alter table notes alter qty type text`, `"qty":1`, `"qty":"many"`, "success", `(a,n,many,"2026-01-01 00:00:00",)`},
		{"TypeThatReadsTimesDifferently", `alter table notes alter at type timestamptz using at at time zone 'UTC'`,
			`"at":"2026-01-01T10:00:00Z"`, `"at":"2026-01-02T10:00:00+02:00"`, "success", `(a,n,1,"2026-01-02 08:00:00+00",)`},
		{"OrderOfColumns", `alter table notes drop title; alter table notes add title text`, `"title":"s"`, `"title":"t"`, "success", `(a,1,"2026-01-01 00:00:00",,t)`},
		{"Grant", `revoke insert, update on notes from authenticated`, `"title":"n"`, `"title":"t"`, "retryable_error", `(a,n,1,"2026-01-01 00:00:00",)`},
		{"Trigger", `create function loud() returns trigger language plpgsql as $$ begin new.title := upper(new.title); return new; end $$;
			create trigger loud before insert or update on notes for each row execute function loud()`, `"title":"n"`, `"title":"t"`, "success", `(a,T,1,"2026-01-01 00:00:00",)`},
		{"StatementsGone", `create function gone() returns trigger language plpgsql as $$ begin execute 'deallocate all'; return null; end $$;
			create trigger gone after insert or update on notes for each row execute function gone()`, `"title":"n"`, `"title":"t"`, "success", `(a,t,1,"2026-01-01 00:00:00",)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, _ := recordedService(t, "")
			b.succeed(t, "alice", op("PUT", "notes", "a", `"title":"n","qty":1,"at":"2026-01-01T00:00:00Z"`))
			for range 7 { // from the sixth time on, Postgres may keep the plan, too
				b.succeed(t, "alice", op("PATCH", "notes", "a", test.before))
			}
			b.db.Exec(t, test.change)
			for range 2 {
				require.Equal(t, test.want, b.outcome(t, "alice", op("PATCH", "notes", "a", test.after)))
			}
			require.Equal(t, test.stored, b.db.Text(t, `select n::text from notes n`))
		})
	}
}

// TestStatementsSetting refuses what is no way to send statements.
func TestStatementsSetting(t *testing.T) {
	t.Parallel()
	_, err := service.Connect("postgres://postern@localhost/db?statements=" + "sometimes")
	require.EqualError(t, err, "DATABASE_URL: statements=sometimes is unknown: write statements=named, statements=unnamed, or leave it out")
}
