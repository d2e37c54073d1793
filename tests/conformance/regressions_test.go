package conformance_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// What tests/model has found, each in its smallest form.

// TestNothingSentForAnIdentityKey makes and repeats a row of which only the key
// is known. Postgres refuses to set an identity column to its own value.
func TestNothingSentForAnIdentityKey(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table numbered (id bigint generated always as identity primary key, name text);
		create table bare (id bigint generated always as identity primary key);
		grant select, insert, update, delete on numbered, bare to authenticated;`,
		`tables: {numbered: {allow: all}, bare: {allow: all}}`)
	b.succeed(t, "alice", op("PUT", "numbered", "1", `"name":"kept"`))
	for _, table := range []string{"numbered", "bare", "numbered", "bare"} {
		b.succeed(t, "alice", op("PUT", table, "1", ""))
	}
	require.Equal(t, "1 kept 1", b.db.Text(t, `select concat_ws(' ', n.id, n.name, b.id) from numbered n, bare b`))
}

// TestHiddenByAnEarlierOperation gives a row away, and changes it: that a trigger
// might have done it must not hide that nothing was done.
func TestHiddenByAnEarlierOperation(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table h (id text primary key, owner text default auth.uid()::text, n int);
		alter table h enable row level security;
		create policy s on h for select to authenticated using (true);
		create policy i on h for insert to authenticated with check (true);
		create policy u on h for update to authenticated using (owner = auth.uid()::text) with check (true);
		create function nothing() returns trigger language plpgsql as 'begin return new; end';
		create trigger nothing before update on h for each row execute function nothing();
		grant select, insert, update, delete on h to authenticated;`, `tables: {h: {allow: all}}`)
	result := b.One(t, "alice", op("PUT", "h", "1", `"owner":"someone","n":1`)+","+op("PATCH", "h", "1", `"n":2`))
	require.NotNil(t, result.FailedOperation, "%+v", result)
	require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode)
	require.Equal(t, 1, *result.FailedOperation.OperationIndex)
}

// TestTwinsInOneRequest sends the same transaction twice in one request.
func TestTwinsInOneRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	twin := func(name string) string {
		return `{"transaction_id":5,"crud":[` + op("PUT", "lists", "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", `"name":"`+name+`"`) + `]}`
	}
	good, bad := twin("x"), twin(strings.Repeat("x", 201))
	results := b.Upload(t, "alice", `{"transactions":[`+good+`,`+bad+`,`+good+`,`+bad+`]}`).Results(t)
	require.Equal(t, []string{"success", "fatal_error", "success", "fatal_error"}, []string{results[0].Status, results[1].Status, results[2].Status, results[3].Status})
	require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}

// TestTheClientsOrderWhereItWorks has foreign keys ask for an order that other
// constraints forbid, and deletes that change what comes after them.
func TestTheClientsOrderWhereItWorks(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table p (id text primary key, name text unique);
		create table c (id text primary key, p text references p);
		create table cc (id text primary key, p text references p on delete cascade, note text);
		create table d (id text primary key, p text references p deferrable initially deferred);
		create table n (id text primary key, p text references p on delete cascade, next text references n on delete set null, note text);
		insert into p values ('1', 'groceries'), ('3', 'x'), ('4', 'y'), ('5', 'bread'), ('7', 'z');
		insert into n values ('a', null), ('x', '7');
		insert into c values ('loose', null);
		insert into cc values ('x', '3', 'old');
		insert into d values ('ref', '4');
		grant select, insert, update, delete on p, c, cc, d, n to authenticated;`,
		`tables: {p: {allow: all}, c: {allow: all}, cc: {allow: all}, d: {allow: all}, n: {allow: all}}`)
	b.succeed(t, "alice", op("DELETE", "p", "1", "")+","+op("PUT", "p", "2", `"name":"groceries"`)+","+op("PUT", "c", "t", `"p":"2"`))
	b.succeed(t, "alice", op("DELETE", "p", "5", "")+","+op("PUT", "p", "6", `"name":"bread"`)+","+op("PATCH", "c", "loose", `"p":"6"`))
	b.succeed(t, "alice", op("DELETE", "p", "3", "")+","+op("PUT", "cc", "x", `"p":null`))
	require.Equal(t, "<null>", b.db.Text(t, `select note from cc where id = 'x'`), "the cascade came first")
	b.succeed(t, "alice", op("PATCH", "n", "a", `"next":"x"`)+","+op("DELETE", "p", "7", "")+","+op("PUT", "n", "x", `"note":"again"`))
	require.Equal(t, "a x:again", b.db.Text(t, `select string_agg(concat_ws(':', id, p, next, note), ' ' order by id) from n`), "x was made again after the cascade")
	result := b.One(t, "alice", op("PUT", "d", "z", "")+","+op("DELETE", "p", "4", ""))
	require.Equal(t, "FOREIGN_KEY_VIOLATION", result.FailedOperation.ErrorCode)
	require.Equal(t, 1, *result.FailedOperation.OperationIndex)
}

// TestDeferrablePrimaryKey is a key that ON CONFLICT cannot use.
func TestDeferrablePrimaryKey(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `create table k (id text primary key deferrable, n int); grant select, insert, update, delete on k to authenticated`)
	s := rig.NewServiceUnready(t, database, rig.Policies(t, `tables: {k: {allow: all}}`))
	require.Eventually(t, func() bool {
		_ = s.Send(t, http.MethodGet, "/readyz", "")
		return strings.Contains(s.Logs.String(), "make the key not deferrable")
	}, 20*time.Second, 10*time.Millisecond)
	open := &testBundle{Service: rig.NewServiceOn(t, database, rig.Policies(t, `tables: {k: {allow: all, put: insert}}`)), db: database}
	open.succeed(t, "alice", op("PUT", "k", "1", ""))
	open.succeed(t, "alice", op("PATCH", "k", "1", `"n":2`))
}
