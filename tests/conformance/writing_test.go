package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

func setupSchema(t *testing.T, schema, policies string) *testBundle {
	t.Helper()
	database := rig.NewDatabase(t)
	database.Exec(t, schema)
	return &testBundle{Service: rig.NewServiceOn(t, database, rig.Policies(t, policies)), db: database}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create schema "Other ""Schema""";
		create table "Other ""Schema""".numbers ("the key" bigint generated always as identity primary key, name text, doubled text generated always as (name || name) stored);
		create table members (club int, person uuid, role text, since timestamptz, primary key (club, person));
		create table plain (id text primary key, n int not null default 7, note text default 'none', at timestamptz, gone boolean not null default false, gone_at timestamptz);
		create table softly (like plain including all); create table plain_at (like plain including all);
		grant usage on schema "Other ""Schema""" to authenticated;
		grant select, insert, update, delete on "Other ""Schema""".numbers, members, plain, softly, plain_at to authenticated;`, `
tables:
  numbers: {table: 'Other "Schema".numbers', allow: all}
  members: {allow: all, id: [club, person], separator: "/"}
  plain: {allow: all}
  renamed: {table: plain, allow: all, columns: {text: note}}
  inserted: {table: plain, allow: all, put: insert}
  replaced: {table: plain, allow: all, put: replace}
  softly: {allow: all, soft_delete: gone}
  softly_at: {table: plain_at, allow: all, soft_delete: gone_at}
  clocked: {table: plain, allow: all, epoch: {at: ms}}`)
	text := func(t *testing.T, sql string) string { return b.db.Text(t, sql) }

	t.Run("NumberedRowsOfAnotherSchema", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "numbers", "9007199254740993", `"name":"a","doubled":"ignored"`))
		b.succeed(t, "alice", op("PATCH", "numbers", "9007199254740993", `"name":"b"`))
		require.Equal(t, "9007199254740993 bb", text(t, `select "the key" || ' ' || doubled from "Other ""Schema""".numbers`))
		result := b.One(t, "alice", op("PUT", "numbers", "x", ""))
		require.Equal(t, "INVALID_DATA", result.FailedOperation.ErrorCode)
	})

	t.Run("CompositeKey", func(t *testing.T) {
		t.Parallel()
		const person = "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10"
		b.succeed(t, "alice", op("PUT", "members", "3/"+person, `"role":"guest","club":3`))
		b.succeed(t, "alice", op("PATCH", "members", "3/"+person, `"role":"host"`))
		require.Equal(t, "host", text(t, `select role from members where club = 3`))
		result := b.One(t, "alice", op("PUT", "members", "3", ""))
		require.Equal(t, `the id of a row of members is made of club and person, with "/" between them`, result.FailedOperation.Message)
		b.succeed(t, "alice", op("DELETE", "members", "3/"+person, ""))
		require.Equal(t, "0", text(t, `select count(*) from members`))
	})

	t.Run("AnyTextIsAnId", func(t *testing.T) {
		t.Parallel()
		for i, id := range []string{"", " ", "'; drop table plain; --", `"`, `\`, "$1", "Ω💥", strings.Repeat("x", 2000)} {
			b.succeed(t, "alice", op("PUT", "renamed", "any"+id, fmt.Sprintf(`"text":"%d"`, i)))
			b.succeed(t, "alice", op("PATCH", "plain", "any"+id, `"n":1`))
		}
		b.succeed(t, "alice", op("PUT", "plain", "", ""))
		b.succeed(t, "alice", op("DELETE", "plain", "", ""))
		require.Equal(t, "8", text(t, `select count(*) from plain where id like 'any%' and n = 1`))
	})

	t.Run("Modes", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "inserted", "m", `"n":1,"note":"first"`))
		require.Equal(t, "UNIQUE_VIOLATION", b.One(t, "alice", op("PUT", "inserted", "m", `"n":2`)).FailedOperation.ErrorCode)
		b.succeed(t, "alice", op("PUT", "plain", "m", `"n":3`))
		require.Equal(t, "3 first", text(t, `select n || ' ' || note from plain where id = 'm'`))
		b.succeed(t, "alice", op("PUT", "replaced", "m", `"note":"second"`))
		require.Equal(t, "7 second", text(t, `select n || ' ' || note from plain where id = 'm'`))
		b.succeed(t, "alice", op("PUT", "replaced", "m", ``))
		require.Equal(t, "7 none", text(t, `select n || ' ' || note from plain where id = 'm'`))
	})

	t.Run("SoftDelete", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "softly", "s", "")+","+op("DELETE", "softly", "s", "")+","+op("DELETE", "softly", "s", ""))
		require.Equal(t, "true", text(t, `select gone from softly where id = 's'`))
		b.succeed(t, "alice", op("PUT", "softly_at", "s", "")+","+op("DELETE", "softly_at", "s", ""))
		at := text(t, `select gone_at from plain_at where id = 's'`)
		require.NotEqual(t, "<null>", at)
		b.succeed(t, "alice", op("DELETE", "softly_at", "s", ""))
		require.Equal(t, at, text(t, `select gone_at from plain_at where id = 's'`), "the first moment stays")
	})

	t.Run("Epoch", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "clocked", "e", `"at":1795449030960`))
		require.Equal(t, "2026-11-23 15:50:30.96", text(t, `select (at at time zone 'UTC')::text from plain where id = 'e'`))
		b.succeed(t, "alice", op("PUT", "clocked", "e", `"at":"2026-11-23T15:50:30Z"`))
		require.Equal(t, "INVALID_DATA", b.One(t, "alice", op("PUT", "plain", "e", `"at":1795449030960`)).FailedOperation.ErrorCode)
	})
}

func TestForeignKeyOrder(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table parents (id text primary key, n int);
		create table children (id text primary key, parent_id text references parents, at int generated always as identity);
		create table grandchildren (id text primary key, child_id text references children on delete cascade);
		create table trees (id text primary key, parent_id text references trees);
		create table loose (id text primary key, other text, constraint loose_fk foreign key (other) references loose deferrable initially immediate);
		create table rings_a (id text primary key, b text);
		create table rings_b (id text primary key, a text references rings_a);
		alter table rings_a add foreign key (b) references rings_b;
		grant select, insert, update, delete on all tables in schema public to authenticated;`,
		`tables: {"*": {allow: all, because: "a test of order"}}`)
	for _, test := range []struct{ name, crud string }{
		{"ChildrenFirst", op("PUT", "grandchildren", "1g", `"child_id":"1c"`) + "," + op("PUT", "children", "1c", `"parent_id":"1p"`) + "," + op("PUT", "parents", "1p", "")},
		{"ParentsDeletedFirst", op("PUT", "parents", "2p", "") + "," + op("PUT", "children", "2c", `"parent_id":"2p"`) + "," + op("DELETE", "parents", "2p", "") + "," + op("DELETE", "children", "2c", "")},
		{"MovedAwayAfterwards", op("PUT", "parents", "3p", "") + "," + op("PUT", "children", "3c", `"parent_id":"3p"`) + "," + op("DELETE", "parents", "3p", "") + "," + op("PUT", "parents", "3q", "") + "," + op("PATCH", "children", "3c", `"parent_id":"3q"`)},
		{"Tree", op("PUT", "trees", "leaf", `"parent_id":"twig"`) + "," + op("PUT", "trees", "twig", `"parent_id":"trunk"`) + "," + op("PUT", "trees", "trunk", "")},
		{"TreeFelled", op("PUT", "trees", "4a", ``) + "," + op("PUT", "trees", "4b", `"parent_id":"4a"`) + "," + op("DELETE", "trees", "4b", "") + "," + op("DELETE", "trees", "4a", "")},
		{"DeletedAndMadeAgain", op("PUT", "parents", "5p", "") + "," + op("DELETE", "parents", "5p", "") + "," + op("PUT", "children", "5c", `"parent_id":"5p"`) + "," + op("PUT", "parents", "5p", `"n":5`)},
		{"Deferrable", op("PUT", "loose", "6a", `"other":"6b"`) + "," + op("PUT", "loose", "6b", `"other":"6a"`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b.succeed(t, "alice", test.crud)
		})
	}

	t.Run("DeferredAndStillBroken", func(t *testing.T) {
		t.Parallel()
		good := op("PUT", "parents", "7p", "")
		results := b.Upload(t, "alice", `{"transactions":[{"crud":[`+good+`]},{"crud":[`+good+","+op("PUT", "loose", "7a", `"other":"7b"`)+`]},{"crud":[`+op("PUT", "parents", "7q", "")+`]}]}`).Results(t)
		require.Equal(t, "success", results[0].Status)
		require.Equal(t, "FOREIGN_KEY_VIOLATION", results[1].FailedOperation.ErrorCode)
		require.Equal(t, 1, *results[1].FailedOperation.OperationIndex)
		require.Equal(t, "success", results[2].Status)
	})

	t.Run("AnIndexStaysThatOfTheClient", func(t *testing.T) {
		t.Parallel()
		result := b.One(t, "alice", op("PUT", "children", "8c", `"parent_id":"8p"`)+","+op("PUT", "parents", "8p", `"n":null`)+","+op("PUT", "children", "8d", `"parent_id":"nobody"`))
		require.Equal(t, 2, *result.FailedOperation.OperationIndex)
	})

	t.Run("CirclesAreThePostgresWay", func(t *testing.T) {
		t.Parallel()
		result := b.One(t, "alice", op("PUT", "rings_a", "a", `"b":"b"`)+","+op("PUT", "rings_b", "b", `"a":"a"`))
		require.Equal(t, "FOREIGN_KEY_VIOLATION", result.FailedOperation.ErrorCode)
		require.Equal(t, 0, *result.FailedOperation.OperationIndex)
	})
}

func TestTriggersThatTakeOver(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table notes (id text primary key, text text, owner uuid default auth.uid(), deleted boolean not null default false);
		alter table notes enable row level security;
		create policy own on notes to authenticated using (owner = auth.uid());
		grant select, insert, update, delete on notes to authenticated;
		create function keep() returns trigger language plpgsql as $$begin update notes set deleted = true where id = old.id; return null; end$$;
		create trigger keep before delete on notes for each row execute function keep();
		create function ignore() returns trigger language plpgsql as $$begin if new.text = 'ignore' then return null; end if; return new; end$$;
		create trigger ignore before update on notes for each row execute function ignore();`,
		`tables: {notes: {allow: all}}`)
	b.succeed(t, "alice", op("PUT", "notes", "1", `"text":"a"`))
	b.succeed(t, "alice", op("DELETE", "notes", "1", ""))
	require.Equal(t, "true", b.db.Text(t, `select deleted from notes`), "the application's own soft delete")
	result := b.One(t, "bob", op("DELETE", "notes", "1", ""))
	require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode, "and still nobody else's row")
}

func TestAsTheUser(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table seen (id text primary key, sub uuid default auth.uid(), role text default auth.role(), who text default current_user, session text default session_user,
		  email text default (auth.jwt() ->> 'email'), method text default current_setting('request.method', true), path text default current_setting('request.path', true),
		  setting text default current_setting('app.colour', true), stopwatch text default current_setting('statement_timeout'), checked text default current_setting('app.checked', true));
		grant select, insert, update, delete on seen to authenticated;
		create function check_request() returns void language plpgsql as $$
		begin
		  if auth.jwt() ->> 'email' = 'mallory@example.com' then raise insufficient_privilege using message = 'You are banned'; end if;
		  perform set_config('app.checked', 'yes', true);
		end $$;
		do $$begin
		  execute format('alter role authenticated in database %I set app.colour = %L', current_database(), 'blue');
		  execute format('alter role authenticated in database %I set statement_timeout = %L', current_database(), '8s');
		  execute format('alter role authenticated in database %I set log_statement = %L', current_database(), 'none');
		  if not exists (select from pg_roles where rolname = 'authenticator') then create role authenticator noinherit; end if;
		  execute format('alter role authenticator in database %I set pgrst.db_pre_request = %L', current_database(), 'public.check_request');
		end$$;`, `tables: {seen: {allow: all}}`)
	b.succeed(t, "alice", op("PUT", "seen", "1", ""))
	require.Equal(t, "authenticated authenticated postern alice@example.com POST /api/data blue 8s yes",
		b.db.Text(t, `select concat_ws(' ', role, who, session, email, method, path, setting, stopwatch, checked) from seen`))
	require.Equal(t, "UNAUTHORIZED", func() string {
		result := b.One(t, "mallory", op("PUT", "seen", "2", ""))
		require.NotNil(t, result.FailedOperation, "%+v", result)
		require.Equal(t, "You are banned", result.FailedOperation.Message)
		return result.FailedOperation.ErrorCode
	}())
}

// TestPartitions writes a partitioned table, whose partitions are not open.
func TestPartitions(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table events (id int primary key, kind text) partition by range (id);
		create table events_1 partition of events for values from (0) to (100);
		create function hush() returns trigger language plpgsql as $$ begin new.kind := lower(new.kind); return new; end $$;
		create trigger hush before insert or update on events_1 for each row execute function hush();
		grant select, insert, update, delete on events, events_1 to authenticated`, `
tables:
  events: {allow: all, rules: [{name: r, check: new.kind != 'bad', code: BAD, message: No}]}
  "*": {allow: all, because: the partitions are meant}`)
	b.succeed(t, "alice", op("PUT", "events", "1", `"kind":"good"`))
	b.succeed(t, "alice", op("PATCH", "events", "1", `"kind":"better"`))
	require.Equal(t, "BAD", b.outcome(t, "alice", op("PATCH", "events", "1", `"kind":"bad"`)))
	require.Equal(t, "BAD", b.outcome(t, "alice", op("PATCH", "events", "1", `"kind":"BAD"`)), "as the partition's trigger leaves it")
	require.Equal(t, "SCHEMA_MISMATCH", b.outcome(t, "alice", op("PATCH", "events_1", "1", `"kind":"bad"`)))
	require.Equal(t, "better", b.db.Text(t, `select kind from events`))
}

// TestNothingReachesSQLAsText tries names and values that would mean something
// to Postgres if they did.
func TestNothingReachesSQLAsText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := `auth.users`
	b.db.Exec(t, `create table auth.users (id uuid primary key); create table "odd""name" (id text primary key, "a""b" text, "c; drop table lists" text);
		grant select, insert, update, delete on "odd""name" to authenticated`)
	open := rig.NewServiceOn(t, b.db, rig.Policies(t, `tables: {"*": {allow: all, because: "the worst case"}}`))
	for _, table := range []string{
		secret, "pg_catalog.pg_authid", "pg_authid", "postern.receipts", "postern.rejected_writes", "information_schema.tables", `lists"; drop table lists; --`, "lists; drop table lists",
		"LISTS", "public.lists", `"lists"`, "lists ", "lists\n", "*", "", "ｌｉｓｔｓ",
	} {
		for _, service := range []*rig.Service{b.Service, open} {
			result := service.One(t, "alice", fmt.Sprintf(`{"op":"PUT","table":%q,"id":"x","op_data":{"name":"x"}}`, table))
			require.Equal(t, "fatal_error", result.Status, table)
			require.Contains(t, []string{"UNAUTHORIZED", "SCHEMA_MISMATCH"}, result.FailedOperation.ErrorCode, table)
		}
	}
	for _, column := range []string{`name" = 'x'; --`, "name) values ('x'); --", "NAME", "ctid", "xmin", "tableoid", "*", ""} {
		result := b.One(t, "alice", fmt.Sprintf(`{"op":"PATCH","table":"lists","id":"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10","op_data":{%q:"x"}}`, column))
		require.Equal(t, "SCHEMA_MISMATCH", result.FailedOperation.ErrorCode, column)
	}
	odd := open.One(t, "alice", `{"op":"PUT","table":"odd\"name","id":"'; drop table lists; --","op_data":{"a\"b":"$1","c; drop table lists":"\\'; select 1"}}`)
	require.Equal(t, "success", odd.Status, "%+v", odd)
	require.Equal(t, `'; drop table lists; -- $1 \'; select 1`, b.db.Text(t, `select concat_ws(' ', id, "a""b", "c; drop table lists") from "odd""name"`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
}

func TestLarge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var crud []string
	for i := range 1000 {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		crud = append(crud, op("PUT", "lists", id, fmt.Sprintf(`"name":"%d"`, i)))
		if i%10 == 0 {
			crud = append(crud, op("PATCH", "lists", id, `"name":"patched"`))
		}
	}
	b.succeed(t, "alice", strings.Join(crud, ","))
	require.Equal(t, "1000", b.db.Text(t, `select count(*) from lists`))
	require.Equal(t, "100", b.db.Text(t, `select count(*) from lists where name = 'patched'`))
	crud = append(crud, op("PUT", "lists", "not a uuid", ""))
	require.Equal(t, 1100, *b.One(t, "alice", strings.Join(crud, ",")).FailedOperation.OperationIndex)
}

func TestMissingGrantsAreSaid(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table half (id text primary key, n int);
		grant select, insert on half to authenticated;
		create table whole (id text primary key);
		grant select, insert, update, delete on whole to authenticated;`,
		`tables: {half: {allow: all}, whole: {allow: all}}`)
	require.Eventually(t, func() bool {
		return strings.Contains(b.Logs.String(), `"sql":["grant update, delete on \"public\".\"half\" to authenticated"]`)
	}, 10*time.Second, 10*time.Millisecond)
}
