package examples_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/apply"
	"postern/tests/rig"
)

// TestRulesApart has rules that could get in each other's way, or be asked where
// there is nothing to ask.
func TestRulesApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, `
tables:
  todos:
    table: todos
    allow: all
    rules:
      # Two lookups of one name, of different rules.
      - {name: open, on: [put], lookup: {l: select archived as v from lists where id = $new.list_id}, check: lookup.l == null || lookup.l.v == false, code: ARCHIVED, message: No}
      - {name: named, on: [put], lookup: {l: select name as v from lists where id = $new.list_id}, check: lookup.l == null || lookup.l.v == 'ok', code: BAD_NAME, message: No}
      - {name: stays, on: [delete], check: "!old.done", code: DONE, message: No}
      # Without on: not asked about DELETE.
      - {name: title, check: size(new.title) < 10, code: TOO_LONG, message: No}
      - {name: null-sent, when: has(data.title), check: size(data.title) < 100, code: TOO_LONG, message: No}
  once: {table: todos, allow: [put], put: insert, owner: owner_id, immutable: [note]}
  counted:
    table: todos
    allow: [patch]
    conflict: {increment: [qty]}
    rules:
      - {name: stock, on: [patch], check: new.qty >= 0, code: OUT_OF_STOCK, message: No}`))
	me := as(t, ann, nil)
	outcome := func(crud string) string {
		code, _ := w.upload(t, me, crud)
		return code
	}
	w.Exec(t, `insert into lists (id, name, owner_id, archived) values ($1, 'ok', $1, false), ($2, 'ok', $1, true), ($3, 'bad', $1, false)`, first, second, third)
	in := func(id, list string) string { return op("PUT", "todos", id, `"title":"x","list_id":"`+list+`"`, "") }
	require.Equal(t, "success", outcome(in(first, first)))
	require.Equal(t, "ARCHIVED", outcome(in(second, second)))
	require.Equal(t, "BAD_NAME", outcome(in(second, third)))
	require.Equal(t, "NOT_NULL_VIOLATION", outcome(op("PUT", "todos", second, `"title":null`, "")), "in better words than a rule that fails")

	require.Equal(t, "success", outcome(op("DELETE", "todos", third, "", "")), "nothing is there to ask about")
	w.Exec(t, `update todos set done = true, qty = 2`)
	require.Equal(t, "DONE", outcome(op("DELETE", "todos", first, "", "")))

	require.Equal(t, "success", outcome(op("PUT", "once", second, `"title":"x"`, "")))
	require.Equal(t, "UNIQUE_VIOLATION", outcome(op("PUT", "once", second, `"title":"x","note":"y"`, "")))

	require.Equal(t, "OUT_OF_STOCK", outcome(op("PATCH", "counted", first, `"qty":7`, `"qty":10`)), "the rule sees what will be stored, not what was sent")
	require.Equal(t, "success", outcome(op("PATCH", "counted", first, `"qty":-2`, `"qty":-1`)))
	require.Equal(t, "1", w.Text(t, `select qty from todos where id = $1`, first))
}

// TestBeyondCEL has somebody store values beyond those of CEL. They are as far as it
// goes, for rules that look at them. A rule that fails all the same comes to an end.
func TestBeyondCEL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, `
tables:
  todos:
    allow: all
    rules:
      - {name: due, on: [patch], when: has(data.title), check: old.due == null || old.due > timestamp('2000-01-01T00:00:00Z'), code: DUE, message: No}
      - {name: meta, on: [patch], when: has(data.note), check: old.meta == null || !has(old.meta.locked), code: META, message: No}
      - {name: all, on: [patch], when: has(data.qty), lookup: {l: select * from todos where id = $id}, check: lookup.l.title == 'a' && old != null, code: ALL, message: No}
      - {name: fails, on: [patch], when: has(data.weight), check: old.meta.nothing == 1, code: FAILS, message: No}
      - {name: tags, on: [patch], when: has(data.tags), check: "!('admin' in data.tags) && size(data.tags) < 3", code: TAGS, message: No}`))
	me := as(t, ann, nil)
	patch := func(data string) string {
		code, _ := w.upload(t, me, op("PATCH", "todos", first, data, ""))
		return code
	}
	code, _ := w.upload(t, me, op("PUT", "todos", first, `"title":"a","due":"10000-01-01T00:00:00Z","meta":{"a":1e400}`, ""))
	require.Equal(t, "success", code)
	require.Equal(t, "success", patch(`"note":"b"`), "a number beyond any float is an infinite one")
	require.Equal(t, "success", patch(`"qty":1`))
	require.Equal(t, "success", patch(`"title":"a"`), "a year beyond any of CEL's is the last one")
	for range 4 {
		require.Equal(t, "retryable_error", patch(`"weight":1`))
	}
	w.Exec(t, `update postern.failures set first_at = first_at - interval '30 minutes'`)
	require.Equal(t, "RULE_FAILED", patch(`"weight":1`), "no queue is frozen for ever")

	require.Equal(t, "TAGS", patch(`"tags":"{user,admin}"`), "arrays come as PowerSync sends them down: as text")
	require.Equal(t, "TAGS", patch(`"tags":["admin"]`))
	require.Equal(t, "success", patch(`"tags":"{administrator}"`))
}

// TestOtherName has a client send a column by the name that it has in the database
// only, which no rule over the transaction would look for.
func TestOtherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, `
tables:
  todos: {allow: all, columns: {heading: title}}
  swapped: {table: todos, allow: all, columns: {title: note, note: title}}
  lax: {table: todos, allow: all, columns: {heading: title}, unknown_columns: ignore}
transaction:
  rules:
    - {name: short, check: "tx.all(o, !has(o.data.heading) || size(o.data.heading) < 5)", code: TOO_LONG, message: No}`))
	me := as(t, ann, nil)
	code, _ := w.upload(t, me, op("PUT", "todos", first, `"heading":"long title"`, ""))
	require.Equal(t, "TOO_LONG", code)
	code, result := w.upload(t, me, op("PUT", "todos", first, `"title":"long title"`, ""))
	require.Equal(t, "SCHEMA_MISMATCH", code)
	require.Equal(t, `clients know column "title" of table todos as "heading": send it under that name`, result.FailedOperation.Message)
	code, _ = w.upload(t, me, op("PUT", "swapped", first, `"title":"a note","note":"a title"`, ""))
	require.Equal(t, "success", code)
	code, _ = w.upload(t, me, op("PATCH", "lax", first, `"title":"long title"`, ""))
	require.Equal(t, "success", code)
	require.Equal(t, "a title", w.Text(t, `select title from todos`))
}

// lookup is a policy of a rule with one lookup.
func lookup(sql, check string) string {
	return `
tables:
  todos:
    allow: all
    rules:
      - {name: r, on: [put, patch], check: ` + strconv.Quote(check) + `, code: "NO", message: No, lookup: {l: ` + strconv.Quote(sql) + `}}`
}

func (w *world) prepare(t testing.TB, live *policies.Live) error {
	t.Helper()
	w.applier.Policies = live
	set, err := live.For(w.applier.Catalog.Snapshot())
	require.NoError(t, err)
	_, problems, err := apply.PrepareLookups(t.Context(), w.applier.DB, "authenticated", w.applier.Catalog.Snapshot().Settings("authenticated"), set)
	require.NoError(t, err)
	return problems
}

// TestLookups has lookups of all sorts: what Postgres takes when the policies are
// checked, it runs.
func TestLookups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, "tables: {}"))
	w.Exec(t, `create schema kinds; grant usage on schema kinds to authenticated; create type kinds.mood as enum ('fine', 'bad');
		create schema felt; grant usage on schema felt to authenticated; create table felt.feelings (feeling text); insert into felt.feelings values ('good'); grant select on felt.feelings to authenticated;
		create table things (id uuid primary key, "listId" uuid, mood kinds.mood, spot inet, price numeric(10,2));
		create table moods (mood kinds.mood primary key, "q" text); insert into moods values ('bad', 'no');
		grant all on things, moods to authenticated; alter role authenticated in database `+w.Text(t, `select quote_ident(current_database())`)+` set search_path = public, felt`)
	w.Exec(t, `insert into lists (id, name, owner_id) values ($1, 'ok', $1)`, first)
	require.NoError(t, w.applier.Catalog.Refresh(t.Context()))
	me := as(t, ann, nil)
	for _, c := range []struct{ name, sql, check, table, data, want string }{
		{"numbers are compared as numbers", "select $new.qty > $new.price as v", "!lookup.l.v", "todos", `"qty":9,"price":10`, "success"},
		{"numbers are compared as numbers", "select $new.qty > $new.price as v", "!lookup.l.v", "todos", `"qty":10,"price":9`, "NO"},
		{"arithmetic", "select $new.price * 2 as v", "lookup.l.v == 5.0", "todos", `"price":2.5`, "success"},
		{"a null", "select $new.price is null as v", "lookup.l.v == true", "todos", `"price":null`, "success"},
		{"the stored row", "select $old.qty + $new.qty as v", "lookup.l.v == null", "todos", ``, "success"},
		{"times", "select $new.due < $new.updated_at as v", "lookup.l.v == true", "todos", `"due":"2026-02-10","updated_at":"2026-11-01T00:00:00Z"`, "success"},
		{"times that come as texts", "select now() as at, localtimestamp as l, current_date as day", "timestamp(lookup.l.at) < now + duration('1d') && timestamp(lookup.l.l + 'Z') < now + duration('1d') && timestamp(lookup.l.day + 'T00:00:00Z') < now + duration('1d12h')", "todos", ``, "success"},
		{"the user and the id", "select $auth.sub as sub, $auth.role as role, $id as id from lists where $id <> owner_id", "lookup.l.sub == auth.sub && lookup.l.role == 'authenticated' && lookup.l.id == id", "todos", ``, "success"},
		{"a comment at the end", "select name from lists where id = $new.list_id -- the task's, of $new.nothing", "lookup.l.name == 'ok'", "todos", `"list_id":"` + first + `"`, "success"},
		{"a comment within", "select /* of /* $new.nothing; */ ' */ name from lists", "lookup.l.name == 'ok'", "todos", ``, "success"},
		{"quoted text", "select 'costs $new.price; or''$1' as a, $q$it's $id;$q$ as b, E'\\' $id' as c, 1 as \"$id;\"", "lookup.l.a == 'costs $new.price; or\\'$1' && lookup.l.b == 'it\\'s $id;' && lookup.l.c == '\\' $id'", "todos", ``, "success"},
		{"lines", "\n  select\n\tname\n  from lists\n", "lookup.l.name == 'ok'", "todos", ``, "success"},
		{"with", "with\n\tl as (select * from lists) select name from l", "lookup.l.name == 'ok'", "todos", ``, "success"},
		{"a column named q", "select 'x' as q", "lookup.l.q == 'x'", "todos", ``, "success"},
		{"no column", "select from lists", "lookup.l != null", "todos", ``, "success"},
		{"a type of another schema", "select q from moods where mood = $new.mood", "lookup.l.q != 'no'", "things", `"mood":"bad"`, "NO"},
		{"a table that the role's search path finds", "select feeling from feelings", "lookup.l.feeling == 'good'", "todos", ``, "success"},
		{"a column in capitals", "select name from lists where id = $new.listId", "lookup.l.name == 'ok'", "things", `"listId":"` + first + `"`, "success"},
	} {
		live := rig.Policies(t, strings.Replace(lookup(c.sql, c.check), "todos:", c.table+":", 1))
		require.NoError(t, w.prepare(t, live), c.name)
		data := c.data
		if c.table == "todos" {
			data = strings.TrimSuffix(`"title":"x",`+data, ",")
		}
		code, result := w.upload(t, me, op("PUT", c.table, second, data, ""))
		require.Equal(t, c.want, code, "%s: %s\n%s", c.name, result.Message, w.logs)
		w.Exec(t, `delete from todos; delete from things`)
	}
	for sql, want := range map[string]string{
		"with x as (insert into lists values (gen_random_uuid(), 'x', gen_random_uuid()) returning 1) select 1 as n from x": "WITH clause containing a data-modifying statement must be at the top level",
		"select 1 as n into temp table t":    "SELECT ... INTO is not allowed here",
		"select 1 as n where $new.qty = 'x'": "invalid input syntax for type integer",
	} {
		require.ErrorContains(t, w.prepare(t, rig.Policies(t, lookup(sql, "lookup.l != null"))), want)
	}
}

// TestLookupMistakes has what a rule asks of a lookup that is not there for it.
func TestLookupMistakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, "tables: {}"))
	w.Exec(t, `create table secrets (id int primary key, word text); revoke all on secrets from authenticated;
		create function strict(id uuid) returns text language plpgsql immutable as $$ begin if id is null then raise 'null'; end if; return 'x'; end $$`)
	const query = "select archived, name from lists where id = $new.list_id"
	for _, test := range []struct{ name, sql, check, want string }{
		{"Right", query, "lookup.l == null || lookup.l.archived", ""},
		{"MisspeltColumn", query, "lookup.l == null || lookup.l.archivd", "lookup l has no column \"archivd\": did you mean \"archived\"?\n    lookup.l == null || lookup.l.archivd\n                                ^"},
		{"MisspeltColumnByIndex", query, "lookup['l'].nam == 'x'", "lookup l has no column \"nam\": did you mean \"name\"?"},
		{"MisspeltColumnInHas", query, "has(lookup.l.nam)", "lookup l has no column \"nam\""},
		{"EveryColumn", "select * from lists", "lookup.l.owner_id == 'x'", ""},
		{"MisspeltColumnOfAll", "select * from lists", "lookup.l.owner == 'x'", "did you mean \"owner_id\"?"},
		{"Types", "select true as b, 1 as n, 1.5 as d, 'x' as t, now() as at, current_date as day, localtimestamp as l, '{}'::jsonb as j, array[1] as a", "lookup.l.b == true && !lookup.l.b && lookup.l.n == 1 && lookup.l.n < 1.5 && lookup.l.d > 1 && lookup.l.t in ['x', new.title] && timestamp(lookup.l.at) < now && timestamp(lookup.l.day + 'T00:00:00Z') < now && timestamp(lookup.l.l + 'Z') < now && lookup.l.j == 1 && lookup.l.a != ['x'] && lookup.l.t == null", ""},
		{"BooleanAsAText", query, "lookup.l.archived == 'yes'", "lookup.l.archived is a boolean, and is compared with a text"},
		{"TextAsANumber", query, "1 < lookup.l.name", "lookup.l.name is a text, and is compared with a number"},
		{"TextAsAColumn", query, "lookup.l.name == new.qty", "lookup.l.name is a text, and is compared with a number"},
		{"TextAsANumberInAList", query, "lookup.l.name in ['x', 1]", "lookup.l.name is a text, and is compared with a number"},
		{"TextAsACondition", query, "lookup.l == null || lookup.l.name", "lookup.l.name is a text, and no condition"},
		{"TextAsATime", "select now() as at", "lookup.l.at < now", "lookup.l.at is a text with a time: write timestamp(lookup.l.at)"},
		{"TextAsADate", "select current_date as day", "now > lookup.l.day", "write timestamp(lookup.l.day + 'T00:00:00Z')"},
		{"ForbiddenTable", "select word from secrets where id = $new.qty", "lookup.l.word == 'x'", "permission denied for table secrets"},
		{"FunctionThatTakesNoNull", "select strict($new.list_id) as x", "lookup.l.y == 'x'", ""}, // its columns are not known
	} {
		err := w.prepare(t, rig.Policies(t, lookup(test.sql, test.check)))
		if test.want == "" {
			require.NoError(t, err, test.name)
		} else {
			require.ErrorContains(t, err, test.want, test.name)
		}
	}
}

// TestTransactionLookups has lookups of rules over whole transactions, for each qty of the
// todos that are written. What Postgres takes when the policies are checked, it runs.
func TestTransactionLookups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, "tables: {}"))
	w.Exec(t, `create table secrets (id int primary key, word text); revoke all on secrets from authenticated`)
	for _, test := range []struct{ name, sql, check, want string }{
		{"Right", "select title, $each + 1 as next from todos where qty = $each", "lookup.l.title == 'x' && lookup.l.next == each + 1", ""},
		{"CommonTable", "with mine as (select * from todos where qty = $each) select title from mine -- $each", "lookup.l.title == 'x'", ""},
		{"User", "select $auth.sub = 'a' as a, $auth.role as role", "!lookup.l.a && lookup.l.role == 'authenticated'", ""},
		{"NoRow", "select 1 as n where $each = 3", "lookup.l == null", ""},
		{"ForbiddenTable", "select word from secrets where id = $each", "lookup.l.word == 'x'", "permission denied for table secrets"},
		{"AnotherType", "select 1 as n from lists where id = $each", "lookup.l.n == 1", "operator does not exist: uuid = integer"},
		{"MisspeltColumn", "select title from todos", "lookup.l.titel == 'x'", `lookup l has no column "titel": did you mean "title"?`},
	} {
		err := w.prepare(t, rig.Policies(t, "tables: {todos: {allow: all}}\ntransaction: {rules: [{name: r, each: {todos: qty}, lookup: {l: "+strconv.Quote(test.sql)+"}, check: "+strconv.Quote(test.check)+`, code: "NO", message: No}]}`))
		if test.want != "" {
			require.ErrorContains(t, err, test.want, test.name)
			continue
		}
		require.NoError(t, err, test.name)
		code, result := w.upload(t, as(t, ann, nil), op("PUT", "todos", first, `"title":"x","qty":2`, ""))
		require.Equal(t, "success", code, "%s: %s\n%s", test.name, result.Message, w.logs)
	}
}

// TestLookupOfAColumnThatIsGone has a migration take a column away that a lookup
// asks for, while the policies stay in force.
func TestLookupOfAColumnThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testdata, rig.Policies(t, lookup("select $new.mood as mood", "lookup.l.mood == null")))
	me := as(t, ann, nil)
	code, _ := w.upload(t, me, op("PUT", "todos", first, `"title":"x"`, ""))
	require.Equal(t, "success", code)
	w.Exec(t, `alter table todos drop column mood`)
	require.NoError(t, w.applier.Catalog.Refresh(t.Context()))
	for _, o := range []string{"PUT", "PATCH"} {
		code, _ = w.upload(t, me, op(o, "todos", first, `"title":"x"`, ""))
		require.Equal(t, "retryable_error", code, o)
	}
}

// TestLocksOfAGrowingTable has plans that Postgres made while the table was empty, and
// keeps. They must find each row by its key once there are many.
func TestLocksOfAGrowingTable(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, "tables: {todos: {allow: all, rules: [{name: r, check: old == null || old.qty <= new.qty, code: NO, message: No}]}}")
	w := newWorld(t, testdata, live)
	w.Exec(t, `alter table todos set (autovacuum_enabled = false)`)
	two := func() {
		crud := op("PUT", "todos", uuid.NewString(), `"title":"a","qty":1`, "") + "," + op("PUT", "todos", uuid.NewString(), `"title":"b","qty":1`, "")
		code, _ := w.upload(t, as(t, ann, nil), crud)
		require.Equal(t, "success", code)
	}
	for range 10 { // Postgres keeps a plan from the sixth time on
		two()
	}
	w.Exec(t, `insert into todos (id, title) select gen_random_uuid(), 'many' from generate_series(1, 5000)`)
	two()
	w.applier.DB.Close() // then Postgres counts what the connections have read
	require.Eventually(t, func() bool {
		return w.Text(t, `select n_tup_ins >= 5022 from pg_stat_user_tables where relname = 'todos'`) == "true"
	}, time.Minute, 50*time.Millisecond)
	require.Equal(t, "true", w.Text(t, `select seq_tup_read < 5000 from pg_stat_user_tables where relname = 'todos'`))
}

// TestChanged has rules about the columns that a write changes.
func TestChanged(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, `
tables:
  todos:
    allow: all
    set: {mood: {value: "'calm'", on: [create]}, price: {when: new.done, value: "2.0"}}
    rules:
      - {name: few, on: [create, update], check: "changed.hasOnly(['title', 'qty', 'done'])", code: CLOSED, message: No, details: {changed: changed}}`)
	w := newWorld(t, testdata, live)
	require.NoError(t, w.prepare(t, live))
	w.Exec(t, `insert into todos (id, title, note, qty, done) values ($1, 'a', 'kept', 1, false)`, first)
	me := as(t, ann, nil)
	for _, test := range []struct{ name, verb, id, data, want string }{
		{"AnAllowedColumn", "PATCH", first, `"title":"b"`, "success"},
		{"AnotherColumn", "PATCH", first, `"title":"b","note":"c"`, "CLOSED"},
		{"AnotherColumnWithItsValue", "PATCH", first, `"title":"c","note":"kept"`, "success"},
		{"APutOfTheRow", "PUT", first, `"title":"d","note":"c"`, "CLOSED"},
		{"APutWithTheStoredValue", "PUT", first, `"title":"d","note":"kept","done":0`, "success"},
		{"ANull", "PATCH", first, `"note":null`, "CLOSED"},
		{"ANewRow", "PUT", second, `"title":"a","qty":1`, "success"},
		{"ANewRowWithAnotherColumn", "PUT", third, `"title":"a","note":"c"`, "CLOSED"},
		{"AColumnThatThePolicySets", "PATCH", first, `"title":"e","price":7`, "success"},
		{"AColumnThatThePolicySetsInNewRows", "PUT", third, `"title":"a","mood":"wild","price":7`, "success"},
		{"AColumnThatThePolicySetsInNewRowsAlone", "PUT", third, `"title":"a","mood":"wild"`, "CLOSED"},
	} {
		code, result := w.upload(t, me, op(test.verb, "todos", test.id, test.data, ""))
		require.Equal(t, test.want, code, "%s: %+v", test.name, result)
	}
}
