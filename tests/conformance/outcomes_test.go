package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// shop is a schema with one of everything that Postgres refuses.
const shop = `
create table parents (id text primary key, name text);
create table things (
  id        text primary key,
  required  text not null default 'x',
  unique_   text unique,
  positive  int check (positive > 0),
  parent_id text references parents (id),
  during    int4range,
  hidden    boolean not null default false,
  doubled   int generated always as (positive * 2) stored,
  exclude using gist (during with &&)
);
grant select, insert, update, delete on things, parents to authenticated;
alter table things enable row level security;
create policy visible on things to authenticated using (not hidden) with check (true);
create table closed (id text primary key);
grant select, insert, update, delete on closed to authenticated;
create table ungranted (id text primary key);
create function raise() returns trigger language plpgsql as $$
begin
  case new.name
    when 'raise' then raise exception 'Not on a Sunday' using hint = 'Come back tomorrow', detail = 'Closed';
    when 'PT402' then raise exception 'Payment required' using errcode = 'PT402';
    when 'resources' then raise exception 'full' using errcode = '53100';
    when 'odd' then raise exception 'odd' using errcode = 'ZZ001';
    when 'serialize' then raise exception 'clash' using errcode = '40001';
    else return new;
  end case;
end $$;
create trigger raise before insert or update on parents for each row execute function raise();
insert into things (id, unique_, hidden, during) values ('theirs', 'taken', true, '[1,5)'), ('mine', 'own', false, '[10,15)');
insert into parents values ('p'), ('q');
insert into things (id, parent_id) values ('child', 'p');`

const shopPolicies = `
tables:
  things: {allow: [put, patch, delete]}
  strict: {table: things, allow: [patch], on_missing: reject}
  parents: {allow: [put, patch, delete]}
  ungranted: {allow: [put]}
  ungranted_too: {table: ungranted, allow: [put, patch, delete], rules: [{name: r, check: old == null || old.id != 'x', code: NO, message: No}]}
  ruled:
    table: parents
    allow: all
    rules: [{name: stays, check: "old == null || old.name != 'fixed'", code: FIXED, message: It stays}]`

func setupShop(t *testing.T, more ...string) *testBundle {
	t.Helper()
	database := rig.NewDatabase(t)
	database.Exec(t, shop)
	for _, sql := range more {
		database.Exec(t, sql)
	}
	s := rig.NewServiceOn(t, database, rig.Policies(t, shopPolicies))
	return &testBundle{Service: s, db: database}
}

func op(verb, table, id, data string) string {
	if data != "" {
		data = `,"op_data":{` + data + `}`
	}
	return fmt.Sprintf(`{"op":%q,"table":%q,"id":%q%s}`, verb, table, id, data)
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	for _, test := range []struct {
		name, op, code, message string
	}{
		{"NotNull", op("PUT", "things", "1", `"required":null`), "NOT_NULL_VIOLATION", "things.required must have a value"},
		{"Unique", op("PUT", "things", "1", `"unique_":"taken"`), "UNIQUE_VIOLATION", "another row of things already has this unique_"},
		{"Check", op("PUT", "things", "1", `"positive":-1`), "CHECK_VIOLATION", "things.positive has a value that is not allowed"},
		{"ForeignKey", op("PUT", "things", "1", `"parent_id":"nobody"`), "FOREIGN_KEY_VIOLATION", "things.parent_id refers to a row of parents that does not exist"},
		{"StillReferenced", op("DELETE", "parents", "p", ""), "FOREIGN_KEY_VIOLATION", "still refer"},
		{"Exclusion", op("PUT", "things", "1", `"during":{"lower":12,"upper":20}`), "CONSTRAINT_VIOLATION", "this row of things conflicts with another one in its during"},
		{"DoesNotFit", op("PUT", "things", "1", `"positive":"abc"`), "INVALID_DATA", `things.positive cannot hold "abc": send a whole number`},
		{"DoesNotFitInPostgresEyes", op("PUT", "things", "1", `"during":"[5,1]"`), "INVALID_DATA", "range lower bound must be less than or equal to range upper bound"},
		{"UnreadableForPostgres", op("PUT", "things", "1", `"during":"five"`), "INVALID_DATA", `things.during cannot hold "five"`},
		{"UnknownColumn", op("PUT", "things", "1", `"colour":"red"`), "SCHEMA_MISMATCH", `no column "colour"`},
		{"UnknownTable", op("PUT", "nothing", "1", ``), "UNAUTHORIZED", `writes to table "nothing" are not allowed`},
		{"ClosedTable", op("PUT", "closed", "1", ``), "UNAUTHORIZED", `writes to table "closed" are not allowed`},
		{"OpNotAllowed", op("DELETE", "ungranted", "1", ``), "UNAUTHORIZED", "deleting a row of table"},
		{"HiddenFromPut", op("PUT", "things", "theirs", `"required":"y"`), "UNAUTHORIZED", "you are not allowed to write this row of things"},
		{"HiddenFromPatch", op("PATCH", "things", "theirs", `"required":"y"`), "UNAUTHORIZED", "not yours to change"},
		{"HiddenFromDelete", op("DELETE", "things", "theirs", ``), "UNAUTHORIZED", "not yours to change"},
		{"MissingWhereThatMatters", op("PATCH", "strict", "nowhere", `"required":"y"`), "ROW_NOT_FOUND", "does not exist"},
		{"Raise", op("PUT", "parents", "1", `"name":"raise"`), "REJECTED_BY_DATABASE", "Not on a Sunday"},
		{"RaisePT", op("PATCH", "parents", "q", `"name":"PT402"`), "REJECTED_BY_DATABASE", "Payment required"},
		{"KeyThatCannotBe", op("PUT", "things", "1", `"id":"2"`), "INVALID_DATA", "part of the row's id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Between two that go through on their own.
			good := uuid.NewString()
			crud := op("PUT", "things", good, "") + "," + test.op
			result := b.One(t, "alice", crud)
			require.Equal(t, "fatal_error", result.Status, "%+v", result)
			require.Equal(t, test.code, result.FailedOperation.ErrorCode, "%+v", result.FailedOperation)
			require.Contains(t, result.FailedOperation.Message, test.message)
			require.Equal(t, 1, *result.FailedOperation.OperationIndex)
			require.False(t, *result.RequiresClientHandling)
			require.Equal(t, "0", b.db.Text(t, `select count(*) from things where id = $1`, good))
			require.Equal(t, test.code, b.db.Text(t, `select code from postern.rejected_writes where transaction::text like '%' || $1 || '%'`, good))
		})
	}

	t.Run("RaiseCarriesHintAndDetail", func(t *testing.T) {
		t.Parallel()
		result := b.One(t, "alice", op("PUT", "parents", "9", `"name":"raise"`))
		require.Equal(t, map[string]any{"sqlstate": "P0001", "hint": "Come back tomorrow", "detail": "Closed"}, result.FailedOperation.Details)
	})

	t.Run("NoDetailsAreNULL", func(t *testing.T) {
		t.Parallel()
		for range 2 { // the second time, the answer comes from the record
			result := b.Upload(t, "alice", `{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[`+op("PATCH", "strict", "no details", `"required":"y"`)+`]}]}`).Results(t)[0]
			require.Equal(t, "ROW_NOT_FOUND", result.FailedOperation.ErrorCode)
			require.Nil(t, result.FailedOperation.Details)
		}
		require.Equal(t, "<null>", b.db.Text(t, `select details from postern.rejected_writes where transaction::text like '%no details%'`))
	})

	t.Run("DetailsOfAValueThatDoesNotFit", func(t *testing.T) {
		t.Parallel()
		result := b.One(t, "alice", op("PUT", "things", "1", `"positive":"`+strings.Repeat("9", 60)+`"`))
		require.Equal(t, map[string]any{"table": "things", "column": "positive", "type": "integer", "value": `"` + strings.Repeat("9", 39) + "…"}, result.FailedOperation.Details)
	})

	for _, name := range []string{"resources", "odd", "serialize"} {
		t.Run("Retryable/"+name, func(t *testing.T) {
			t.Parallel()
			b := setupShop(t)
			first := b.One(t, "alice", op("PUT", "parents", "1", `"name":"`+name+`"`))
			require.Equal(t, "retryable_error", first.Status)
			require.NotContains(t, first.Message, "ZZ001")
			require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
			second := b.One(t, "alice", op("PUT", "parents", "1", `"name":"`+name+`"`))
			require.Equal(t, 2*first.RetryAfterMS, second.RetryAfterMS, "it waits longer each time")
			b.succeed(t, "alice", op("PUT", "parents", "1", ``))
			require.Equal(t, first.RetryAfterMS, b.One(t, "alice", op("PUT", "parents", "1", `"name":"`+name+`"`)).RetryAfterMS)
		})
	}

	t.Run("UnlessItCannotBeStored", func(t *testing.T) {
		t.Parallel()
		b := setupShop(t)
		b.db.Exec(t, `revoke insert on postern.rejected_writes from postern`)
		result := b.One(t, "alice", op("PUT", "things", "1", `"positive":-1`))
		require.Equal(t, "retryable_error", result.Status, "a write that is not stored must not be dropped")
	})

	t.Run("SomeoneElsesLock", func(t *testing.T) {
		t.Parallel()
		b := setupShop(t, `do $$begin execute format('alter role authenticated in database %I set lock_timeout = %L', current_database(), '200ms'); end$$`)
		tx, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `select from things where id = 'mine' for update`)
		require.NoError(t, err)
		result := b.One(t, "alice", op("PATCH", "things", "mine", `"required":"y"`))
		require.Equal(t, "retryable_error", result.Status)
		require.NoError(t, tx.Rollback(t.Context()))
		b.succeed(t, "alice", op("PATCH", "things", "mine", `"required":"y"`))
	})
}

// TestManyAtOnce has transactions of every kind share a request.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	transactions := []string{
		op("PUT", "parents", "a", ""),
		op("PUT", "parents", "b", `"name":"raise"`),
		op("PUT", "things", "t1", `"parent_id":"a"`),
		op("PUT", "things", "t2", `"positive":"no"`),
		"",
		op("PATCH", "things", "theirs", `"required":"y"`),
		op("PATCH", "parents", "a", `"name":"renamed"`) + "," + op("PUT", "things", "t3", `"parent_id":"nobody"`),
		op("PATCH", "parents", "a", `"name":"kept"`),
		op("PUT", "nothing", "1", ""),
		op("PUT", "parents", "c", `"name":"resources"`),
		op("PUT", "parents", "d", ""),
	}
	var body []string
	for i, crud := range transactions {
		body = append(body, fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, i, crud))
	}
	request := `{"transactions":[` + strings.Join(body, ",") + `]}`
	var got []string
	for _, result := range b.Upload(t, "alice", request).Results(t) {
		code := result.Status
		if result.FailedOperation != nil {
			code = result.FailedOperation.ErrorCode
		}
		got = append(got, code)
	}
	require.Equal(t, []string{"success", "REJECTED_BY_DATABASE", "success", "INVALID_DATA", "success", "UNAUTHORIZED", "FOREIGN_KEY_VIOLATION", "success", "UNAUTHORIZED",
		"retryable_error", "not_attempted"}, got)
	require.Equal(t, "kept", b.db.Text(t, `select name from parents where id = 'a'`))
	require.Equal(t, "a,p,q", b.db.Text(t, `select string_agg(id, ',' order by id) from parents`))
	require.Equal(t, "5", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	require.Equal(t, "8", b.db.Text(t, `select count(*) from postern.receipts`), "all but the empty one, the one to retry and the one not attempted")

	// The client comes again with all that it could not complete, and more.
	again := b.Upload(t, "alice", strings.Replace(request, "resources", "enough", 1)).Results(t)
	for i, result := range again[:9] {
		if result.FailedOperation != nil {
			require.Equal(t, got[i], result.FailedOperation.ErrorCode)
		} else {
			require.Equal(t, got[i], result.Status)
		}
	}
	require.Equal(t, "success", again[9].Status)
	require.Equal(t, "success", again[10].Status)
	require.Equal(t, "5", b.db.Text(t, `select count(*) from postern.rejected_writes`))
	require.Equal(t, "2", b.db.Text(t, `select max(attempts) from postern.rejected_writes`))
}

// TestMissingGrants has tables that a policy names and the role may not write: somebody
// forgot the grant, or revoked it for all. Devices keep their writes until it is there.
func TestMissingGrants(t *testing.T) {
	t.Parallel()
	b := setupShop(t)
	for name, crud := range map[string]string{
		"Put": op("PUT", "ungranted", "1", ``), "PutUnderARule": op("PUT", "ungranted_too", "1", ``),
		"PatchUnderARule": op("PATCH", "ungranted_too", "1", ``), "DeleteUnderARule": op("DELETE", "ungranted_too", "1", ``),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, "retryable_error", b.outcome(t, "alice", crud))
		})
	}
}
