package conformance_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const driftSchema = `
create type mood as enum ('sad', 'happy');
create table entries (id uuid primary key, mood mood, qty int, note varchar(3), day date, body text, upper_body text generated always as (upper(body)) stored);
grant select, insert, update, delete on entries to authenticated;`

// TestSchemaChangesThatAcceptMore has changes after which a value fits that did not. The
// first write after each is accepted.
func TestSchemaChangesThatAcceptMore(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, driftSchema, `tables: {entries: {allow: all}}`)
	for _, test := range []struct{ name, change, data string }{
		{"EnumValue", `alter type mood add value 'calm'`, `"mood":"calm"`},
		{"IntToText", `alter table entries alter qty type text`, `"qty":"many"`},
		{"VarcharToText", `alter table entries alter note type text`, `"note":"longer than three"`},
		{"DateToTimestamptz", `alter table entries alter day type timestamptz`, `"day":"2026-11-28T10:00:00Z"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := uuid.NewString()
			require.Equal(t, "INVALID_DATA", b.outcome(t, "alice", op("PUT", "entries", id, test.data)))
			b.db.Exec(t, test.change)
			require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "entries", id, test.data)))
		})
	}
}

// TestSchemaChangesThatAnOldPlanGetsWrong has an identity that becomes ordinary, and a
// foreign key that asks for another order. The first write after each is right.
func TestSchemaChangesThatAnOldPlanGetsWrong(t *testing.T) {
	t.Parallel()
	const schema = `
		create table notes (id text primary key, title text, number int generated always as identity);
		create table replies (id text primary key, note text);
		grant select, insert, update, delete on notes, replies to authenticated;`
	for _, test := range []struct{ name, change, crud, stored string }{
		{"IdentityBecomesOrdinary", `alter table notes alter number drop identity`, op("PATCH", "notes", "a", `"number":7`), "7"},
		{"StillAnIdentity", ``, op("PATCH", "notes", "a", `"title":"b","number":7`), "1"},
		{"ForeignKey", `alter table replies add foreign key (note) references notes`,
			op("PUT", "replies", "r", `"note":"n"`) + "," + op("PUT", "notes", "n", ""), "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, schema, `tables: {notes: {allow: all}, replies: {allow: all}}`)
			b.succeed(t, "alice", op("PUT", "notes", "a", `"title":"a"`))
			b.db.Exec(t, test.change)
			require.Equal(t, "success", b.outcome(t, "alice", test.crud))
			require.Equal(t, test.stored, b.db.Text(t, `select number::text from notes where id = 'a'`))
		})
	}
}

// TestSchemaChangesThatNoErrorTells has changes after which a plan of before would do
// something else without an error.
func TestSchemaChangesThatNoErrorTells(t *testing.T) {
	t.Parallel()
	const id = "7f3a1c1e-0b7e-4a53-9d5f-0a4a5c0e9d11"
	const hide = `alter table entries enable row level security; create policy p on entries to authenticated using (body <> 'hidden') with check (true)`
	for _, test := range []struct{ name, change, crud, want, upper string }{
		{"PutOfAGeneratedColumn", `alter table entries alter upper_body drop expression`, op("PUT", "entries", id, `"body":"a","upper_body":"sent"`), "success", "sent"},
		{"PatchOfAGeneratedColumnAlone", `alter table entries alter upper_body drop expression`, op("PATCH", "entries", id, `"upper_body":"sent"`), "success", "sent"},
		{"JudgedPatchOfAGeneratedColumn", `alter table entries alter upper_body drop expression`, op("PATCH", "judged", id, `"qty":1,"upper_body":"sent"`), "success", "sent"},
		{"GeneratedAsBefore", `alter table entries alter qty set default 7`, op("PATCH", "entries", id, `"upper_body":"sent"`), "success", "HIDDEN"},
		{"PatchOfAHiddenRow", hide, op("PATCH", "entries", id, `"qty":1`), "UNAUTHORIZED", "HIDDEN"},
		{"DeleteOfAHiddenRow", hide, op("DELETE", "entries", id, ""), "UNAUTHORIZED", "HIDDEN"},
		{"SoftDeleteOfAHiddenRow", hide, op("DELETE", "softly", id, ""), "UNAUTHORIZED", "HIDDEN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, driftSchema+`alter table entries add gone boolean not null default false;`, `
tables:
  entries: {allow: all}
  softly: {table: entries, allow: all, soft_delete: gone}
  judged: {table: entries, allow: all, rules: [{name: r, check: "op == 'delete' || new.qty < 9", code: R, message: "No."}]}`)
			b.succeed(t, "alice", op("PUT", "entries", id, `"body":"hidden"`))
			b.db.Exec(t, test.change)
			require.Equal(t, test.want, b.outcome(t, "alice", test.crud))
			require.Equal(t, test.upper, b.db.Text(t, `select upper_body from entries where id = $1 and not gone`, id))
		})
	}
}

// TestSchemaChangesToText has columns become a text, which takes any value. What is stored
// is what was sent, and not what the old type made of it.
func TestSchemaChangesToText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ kind, sent, before, after string }{
		{"boolean", `1`, "true", "1"},
		{"bytea", `"aGk="`, "\\x6869", "aGk="},
		{"integer[]", `"[1,2]"`, "{1,2}", "[1,2]"},
		{"int4range", `"{\"lower\":1,\"upper\":2}"`, "[1,3)", `{"lower":1,"upper":2}`},
		{"timestamp", `"2026-11-28T10:00:00Z"`, "2026-11-28 10:00:00", "2026-11-28T10:00:00Z"},
		{"pair", `"{\"a\":1,\"b\":2}"`, "(1,2)", `{"a":1,"b":2}`},
		{"pair[]", `"[{\"a\":1,\"b\":2}]"`, `{"(1,2)"}`, `[{"a":1,"b":2}]`},
		{"own_boolean", `1`, "true", "1"},
	} {
		for _, verb := range []string{"PUT", "PATCH"} {
			t.Run(test.kind+verb, func(t *testing.T) {
				t.Parallel()
				b := setupSchema(t, `create type pair as (a int, b int); create domain own_boolean as boolean;
					create table entries (id uuid primary key, v `+test.kind+`); grant select, insert, update, delete on entries to authenticated;
					alter table entries enable row level security; create policy p on entries to authenticated using (true) with check (true)`, `tables: {entries: {allow: all}}`)
				id := uuid.NewString()
				b.succeed(t, "alice", op("PUT", "entries", id, `"v":`+test.sent))
				b.succeed(t, "alice", op(verb, "entries", id, `"v":`+test.sent))
				require.Equal(t, test.before, b.db.Text(t, `select v::text from entries`))
				b.db.Exec(t, `alter table entries alter v type text`)
				require.Equal(t, "success", b.outcome(t, "alice", op(verb, "entries", id, `"v":`+test.sent)))
				require.Equal(t, test.after, b.db.Text(t, `select v from entries`))
			})
		}
	}
}

// TestTriggerOfAChangedTable has a column get another type, which the PL/pgSQL function of a
// trigger computes with. A connection that has run the function before still has the old
// type in its plans. The first write after the change is accepted.
func TestTriggerOfAChangedTable(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table counters (id uuid primary key, n bigint not null default 0);
		grant select, insert, update, delete on counters to authenticated;
		create function count_up() returns trigger language plpgsql as $$ begin new.n := old.n + 1; return new; end $$;
		create trigger count_up before update on counters for each row execute function count_up()`, `tables: {counters: {allow: all}}`)
	id := uuid.NewString()
	put := op("PUT", "counters", id, `"n":0`)
	require.Equal(t, "success", b.outcome(t, "alice", put))
	require.Equal(t, "success", b.outcome(t, "alice", put))
	for _, kind := range []string{"numeric", "integer"} {
		b.db.Exec(t, `alter table counters alter n type `+kind)
		require.Equal(t, "success", b.outcome(t, "alice", put))
	}
	require.Equal(t, "3", b.db.Text(t, `select n::text from counters`))
}

// TestServersTrouble has errors that are the setup's fault, and not the write's: the
// device keeps its transaction and sends it again.
func TestServersTrouble(t *testing.T) {
	t.Parallel()
	const put = `"body":"a"`
	for _, test := range []struct {
		name, change string
		want         string
	}{
		{"TriggerNamesATableThatIsGone", `create function f() returns trigger language plpgsql as $$ begin perform from gone; return new; end $$;
			create trigger t before insert on entries for each row execute function f()`, "retryable_error"},
		{"TriggerMayNotWrite", `create table closed (id int); create function f() returns trigger language plpgsql as $$ begin insert into closed values (1); return new; end $$;
			create trigger t before insert on entries for each row execute function f()`, "retryable_error"},
		{"TriggerRejectsTheRowsData", `create function f() returns trigger language plpgsql as $$ begin perform new.body::int; return new; end $$;
			create trigger t before insert on entries for each row execute function f()`, "REJECTED_BY_DATABASE"},
		{"PolicyFailsOnData", `create function broken() returns boolean language plpgsql as $$ begin return 'x'::int = 1; end $$;
			alter table entries enable row level security; create policy p on entries to authenticated using (broken()) with check (broken())`, "retryable_error"},
		{"PolicyFailsOnAClaim", `alter table entries enable row level security;
			create policy p on entries to authenticated using (true) with check ((current_setting('request.jwt.claims')::json ->> 'email')::uuid is not null)`, "retryable_error"},
		{"RaiseOf503", `create function f() returns trigger language plpgsql as $$ begin raise sqlstate 'PT503' using message = 'later'; end $$;
			create trigger t before insert on entries for each row execute function f()`, "retryable_error"},
		{"RaiseOf429", `create function f() returns trigger language plpgsql as $$ begin raise sqlstate 'PT429' using message = 'slow down'; end $$;
			create trigger t before insert on entries for each row execute function f()`, "retryable_error"},
		{"RaiseOf409", `create function f() returns trigger language plpgsql as $$ begin raise sqlstate 'PT409' using message = 'no'; end $$;
			create trigger t before insert on entries for each row execute function f()`, "REJECTED_BY_DATABASE"},
		{"GrantRevokedForAll", `revoke all on entries from authenticated`, "retryable_error"},
		{"TableOfThePolicyIsGone", `drop table entries`, "retryable_error"},
		{"ColumnOfThePolicyIsGone", `alter table entries drop column note`, "retryable_error"},
		{"ColumnOfTheClientIsUnknown", `alter table entries drop column body cascade`, "SCHEMA_MISMATCH"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, driftSchema, `tables: {entries: {allow: all, columns: {remark: note}}}`)
			require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "entries", uuid.NewString(), put)))
			b.db.Exec(t, test.change)
			require.Equal(t, test.want, b.outcome(t, "alice", op("PUT", "entries", uuid.NewString(), put+`,"remark":"x"`)))
		})
	}
}
