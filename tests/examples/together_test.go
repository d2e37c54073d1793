package examples_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postern/service/upload"
	"postern/tests/rig"
)

// tied are tables that change each other in several ways, and hide rows by each
// other.
const tied = `
	create table boards (id text primary key, archived boolean not null default false, cards int not null default 0);
	create table cards (id text primary key, board text default 'b', up text references cards on delete cascade, title text, qty int not null default 1);
	create table notes (id text primary key, card text references cards on delete cascade, board text);
	create table people (id text primary key, board text, blocked boolean not null default false);
	create function count_cards() returns trigger language plpgsql security definer as $$ begin update boards set cards = cards + 1 where id = new.board; return new; end $$;
	create trigger n after insert on cards for each row execute function count_cards();
	create table tags (id text primary key, board text default 'b1', title text);
	create table twins (id text primary key, board text, title text);
	create function all_twins() returns trigger language plpgsql as $$ begin update twins set board = new.board where id <> new.id and board <> new.board; return null; end $$;
	create trigger b after update on twins for each row execute function all_twins();
	create function follow() returns trigger language plpgsql security definer as $$ begin update tags set board = case new.board when 'b3' then 'b4' else new.board end where 't' || substr(new.id, 2) = id; return null; end $$;
	create table movers (id text primary key, board text);
	create trigger f after insert on movers for each row execute function follow();
	create view open_boards as select * from boards where not archived;
	create function blocked(which text) returns boolean language sql stable security definer as 'select coalesce(bool_or(blocked), false) from people where board = which';
	alter table notes enable row level security;
	create policy a on notes to authenticated using (board is null or not blocked(board)) with check (true);
	alter table tags enable row level security;
	create policy a on tags to authenticated using (not exists (select from people p where p.board = tags.board and p.blocked)) with check (true);
	grant select, insert, update, delete on all tables in schema public to authenticated`

const tiedPolicies = `
tables:
  boards: {allow: all, rules: [{name: small, on: [put, patch], lookup: {n: select count(*) as n from cards where board = $id}, check: lookup.n.n < 2, code: FULL, message: No}]}
  cards:
    allow: all
    put: replace
    rules:
      - {name: open, on: [put, patch], lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}
      - {name: seen, on: [put, patch], lookup: {b: select cards from open_boards where id = $new.board}, check: lookup.b == null || lookup.b.cards < 6, code: MANY, message: No}
      - {name: divides, on: [put], when: has(data.qty), lookup: {d: select 12 / $new.qty as d}, check: lookup.d.d != 12, code: ONE, message: No}
      - {name: noted, on: [delete], lookup: {n: select count(*) as n from notes where card = $id}, check: lookup.n.n < 1, code: NOTED, message: No}
      - {name: moves, on: [patch], lookup: {p: select count(*) as n from people where board = $old.board or board = $new.board}, check: lookup.p.n < 3, code: PEOPLE, message: No}
  tags: &tags
    allow: all
    rules: [{name: open, on: [put, patch], when: has(data.title), lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}]
  twins: *tags
  movers: {allow: all}
  tags_too: {<<: *tags, table: tags, put: replace}
  people:
    allow: all
    conflict: fields
    rules: [{name: open, on: [put, patch], when: has(data.board), lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}]
  notes:
    allow: all
    rules:
      - {name: title, on: [put, patch], lookup: {c: select title from cards where id = $new.card}, check: lookup.c == null || lookup.c.title != 'x', code: TITLE, message: No}
      - {name: me, lookup: {me: select blocked from people where id = $auth.sub}, check: lookup.me == null || !lookup.me.blocked, code: BLOCKED, message: No}`

// TestTogetherIsApart has random transactions in two databases, in one of which
// nothing is known of lookups, so that each operation makes its own. Their outcomes
// and the rows they leave are the same.
func TestTogetherIsApart(t *testing.T) {
	t.Parallel()
	worlds := make([]*world, 2)
	for i := range worlds {
		worlds[i] = newWorld(t, testdata, rig.Policies(t, "tables: {}"))
		worlds[i].Exec(t, "drop table todos, lists, members cascade;"+tied)
		require.NoError(t, worlds[i].applier.Catalog.Refresh(t.Context()))
		live := rig.Policies(t, tiedPolicies)
		if worlds[i].applier.Policies = live; i == 0 {
			require.NoError(t, worlds[i].prepare(t, live))
		}
	}
	me := as(t, "p1", nil)
	outcomes := map[string]int{}
	compare := func(r require.TestingT, crud ...string) (got [2]string) {
		body := `{"transactions":[{"crud":[` + strings.Join(crud, `]},{"crud":[`) + `]}]}`
		batch, err := upload.DecodeBatch([]byte(body))
		require.NoError(r, err)
		for i, w := range worlds {
			for _, result := range w.applier.Apply(t.Context(), slog.New(slog.NewJSONHandler(w.logs, nil)), me, batch) {
				got[i] += summary(result) + "\n"
				if f := result.FailedOperation; f != nil {
					got[i] += f.Message + "\n"
					outcomes[string(f.ErrorCode)] += i
				} else {
					outcomes[string(result.Status)] += i
				}
			}
			for _, table := range []string{"boards", "cards", "notes", "people", "tags", "twins"} {
				got[i] += w.Text(t, "select coalesce(string_agg(t::text, ' ' order by id), '') from "+table+" t") + "\n"
			}
		}
		require.Equal(r, got[1], got[0], body)
		return got
	}
	reset := func(r require.TestingT) {
		for _, w := range worlds {
			_, err := w.Owner.Exec(context.Background(), `truncate boards, cards, notes, people, tags, twins, movers; insert into boards values ('b1', false, 4), ('b2', true, 0), ('b3', false, 2), ('b4', true, 0);
				insert into cards values ('c1', 'b1', null, 'x'), ('c2', 'b1', 'c1', 'y'), ('c3', 'b3', null, 'y'); insert into notes values ('n1', 'c2', 'b1');
				insert into people values ('p1', 'b3', false), ('p2', 'b1', false), ('p3', 'b1', false), ('p4', 'b2', true); insert into tags values ('t1', 'b1', 'x'), ('t2', 'b1', 'x'), ('t4', 'b2', 'x');
				insert into twins values ('w1', 'b1'), ('w2', 'b1'), ('w3', 'b1')`)
			require.NoError(r, err)
		}
	}
	titled := func(table, id string) string { return op("PATCH", table, id, `"title":"y"`, "") }
	for _, test := range []struct {
		name    string
		crud    []string
		outcome string
	}{
		{"ARowThatATriggerOfAnotherTableChanges", []string{titled("tags", "t2"), op("PUT", "movers", "m1", `"board":"b3"`, ""), titled("tags", "t1")}, "CLOSED 2"},
		{"ARowThatIsChangedLater", []string{op("PUT", "tags_too", "t1", `"title":"x"`, ""), op("PATCH", "tags", "t1", `"board":"b4"`, ""), op("PUT", "tags_too", "t5", `"title":"x"`, "")}, "success"},
		{"ARowThatWasChanged", []string{titled("tags", "t1"), op("PATCH", "tags", "t1", `"board":"b4"`, ""), titled("tags", "t1")}, "CLOSED 2"},
		{"ARowThatWasHidden", []string{titled("tags", "t1"), op("PATCH", "people", "p4", `"blocked":false`, `"blocked":true`), titled("tags", "t4")}, "CLOSED 2"},
		{"ARowThatATriggerOfItsTableChanges", []string{titled("twins", "w1"), op("PATCH", "twins", "w2", `"board":"b4"`, ""), titled("twins", "w3")}, "CLOSED 2"},
		{"AnErrorOfTheSecond", []string{op("PUT", "cards", "c7", `"board":"b3","qty":2`, ""), op("PUT", "cards", "c8", `"board":"b3","qty":1`, ""), op("PUT", "cards", "c9", `"board":"b3","qty":0`, "")}, "retryable_error"},
		{"AnotherErrorBeforeIt", []string{op("PUT", "cards", "c7", `"board":"b3","qty":2`, ""), op("PUT", "cards", "c8", `"board":"b3","qty":2,"up":"none"`, ""), op("PUT", "cards", "c9", `"board":"b3","qty":0`, "")}, "FOREIGN_KEY_VIOLATION"},
	} {
		reset(t)
		require.Contains(t, compare(t, strings.Join(test.crud, ","))[0], test.outcome, test.name)
	}
	rapid.Check(t, func(r *rapid.T) {
		reset(r)
		for range rapid.IntRange(1, 4).Draw(r, "requests") {
			compare(r, drawTied(r)...)
		}
	})
	for _, code := range []string{"success", "CLOSED", "MANY", "ONE", "NOTED", "PEOPLE", "TITLE", "BLOCKED", "FULL", "retryable_error", "FOREIGN_KEY_VIOLATION"} {
		require.Positive(t, outcomes[code], "%s: %v", code, outcomes)
	}
}

// TestTogetherOrNot has what tells lookups apart that look alike, and what may come
// between them, each in two databases as above.
func TestTogetherOrNot(t *testing.T) {
	t.Parallel()
	const (
		boards = `create table boards (id text primary key, archived boolean not null default false); insert into boards values ('b1', false), ('b3', false), ('b4', true);
			create table cards (id text primary key, board text, title text, n int); insert into cards values ('c1', 'b1'), ('c2', 'b1');
			create table other (id text primary key, board text);
			create function archive() returns trigger language plpgsql security definer as $$ begin update boards set archived = true where id = new.board; return null; end $$;`
		open   = `{name: open, on: [put, patch], lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}`
		titled = `{name: open, on: [patch], when: has(data.title), lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}`
	)
	put := func(table, id, data string) string { return op("PUT", table, id, data, "") }
	patch := func(table, id, data string) string { return op("PATCH", table, id, data, "") }
	for _, test := range []struct {
		name, schema, policies string
		transactions           []string
		outcome                string
	}{
		{"ParametersOfOtherKinds", boards, `{cards: {allow: all, rules: [
				{name: a, lookup: {b: select archived from boards where id = $auth.sub}, check: lookup.b == null || !lookup.b.archived, code: SUB, message: No},
				{name: b, lookup: {b: select archived from boards where id = $id}, check: lookup.b == null || !lookup.b.archived, code: ID, message: No}]}}`,
			[]string{put("cards", "b3", "") + "," + put("cards", "b4", "")}, "ID 1"},
		{"ADeferredTrigger", boards + `create constraint trigger a after insert on other deferrable initially deferred for each row execute function archive()`, `{other: {allow: all}, cards: {allow: all, rules: [` + open + `]}}`,
			[]string{put("other", "1", `"board":"b3"`) + "," + put("cards", "1", `"board":"b3"`), put("cards", "2", `"board":"b3"`)}, "success\nfatal_error CLOSED 0"},
		{"ALookupThatCounts", boards + `create table hits (who text); grant all on hits to authenticated;
				create function hit(w text) returns bigint language plpgsql as $$ begin insert into hits values (w); return (select count(*) from hits where who = w); end $$`,
			`{cards: {allow: all, rules: [{name: r, lookup: {h: select hit($auth.sub) as n}, check: lookup.h.n < 3, code: RATE, message: No}]}}`,
			[]string{put("cards", "1", "") + "," + put("cards", "2", "") + "," + put("cards", "3", "")}, "RATE 2"},
		{"ALookupThatChangesWhatAnotherReads", boards + `create table hits (who text); grant all on hits to authenticated;
				create function hit(w text) returns bigint language plpgsql as $$ begin insert into hits values (w); return 1; end $$`,
			`{cards: {allow: all, rules: [{name: a, lookup: {h: select hit($id) as n}, check: lookup.h.n < 3, code: RATE, message: No}, {name: b, lookup: {h: "select count(*) as n from hits where $id <> ''"}, check: lookup.h.n < 2, code: FEW, message: No}]}}`,
			[]string{put("cards", "1", "") + "," + put("cards", "2", "")}, "FEW 1"},
		{"TwoTablesOfDifferentKeys", boards + `alter table cards add slug text unique; update cards set slug = 's' || id`, `{cards: {allow: all, rules: [` + titled + `]}, slugs: {table: cards, id: [slug], allow: all}}`,
			[]string{patch("cards", "c2", `"title":"x"`) + "," + patch("slugs", "sc1", `"board":"b4"`) + "," + patch("cards", "c1", `"title":"x"`)}, "CLOSED 2"},
		{"ATriggerThatChangesTheKey", boards + `create function low() returns trigger language plpgsql as $$ begin new.id := lower(new.id); return new; end $$; create trigger l before insert on cards for each row execute function low()`,
			`{cards: {allow: all, rules: [` + titled + `]}}`, []string{patch("cards", "c2", `"title":"x"`) + "," + put("cards", "C1", `"board":"b4"`) + "," + patch("cards", "c1", `"title":"x"`)}, "CLOSED 2"},
		{"TwoSpellingsOfAKey", boards + `create table uuids (id uuid primary key, board text, title text); insert into uuids values ('00000000-0000-4000-8000-000000000001', 'b1'), ('00000000-0000-4000-8000-000000000002', 'b1'); grant all on uuids to authenticated`,
			`{uuids: {allow: all, rules: [` + titled + `]}}`,
			[]string{patch("uuids", "00000000-0000-4000-8000-000000000001", `"title":"x"`) + "," + patch("uuids", "00000000000040008000000000000002", `"board":"b4"`) + "," + patch("uuids", "00000000-0000-4000-8000-000000000002", `"title":"x"`)}, "CLOSED 2"},
		{"ALateErrorAndAnother", boards + `alter table cards alter n set default 0; create table refers (id text primary key references boards); grant all on refers to authenticated`,
			`{refers: {allow: all}, cards: {allow: all, put: replace, rules: [{name: r, on: [put], lookup: {d: select 1 / $new.n as d}, check: lookup.d.d == 1, code: NO, message: No}]}}`,
			[]string{put("cards", "1", "") + "," + put("refers", "none", "") + "," + put("cards", "2", "")}, "retryable_error"},
		{"TheNameOfTheGroup", boards, `{cards: {allow: all, rules: [{name: r, lookup: {b: "select 1 as n from (select 'x' as postern_1) as postern_asked where $new.title = 'x'"}, check: lookup.b == null, code: NO, message: No}]}}`,
			[]string{put("cards", "1", `"title":"y"`) + "," + put("cards", "2", `"title":"x"`)}, "NO 1"},
		{"AnErrorThatPasses", boards + `create function fails(t text) returns int language plpgsql as $$ begin if t = 'x' then raise 'later' using errcode = '55000'; end if; return 1; end $$`,
			`{cards: {allow: all, rules: [{name: r, lookup: {s: select fails($new.title) as n}, check: lookup.s.n > 0, code: NO, message: No}]}}`,
			[]string{put("cards", "1", `"title":"y"`), put("cards", "2", `"title":"x"`)}, "success\nretryable_error"},
		{"AnErrorOfAClash", boards + `create function fails(t text) returns int language plpgsql as $$ begin if t = 'x' then raise 'later' using errcode = '40001'; end if; return 1; end $$`,
			`{cards: {allow: all, rules: [{name: r, lookup: {s: select fails($new.title) as n}, check: lookup.s.n > 0, code: NO, message: No}]}}`,
			[]string{put("cards", "1", `"title":"y"`), put("cards", "2", `"title":"x"`)}, "success\nretryable_error"},
		{"AGeneratedKey", boards + `create table docs (id text primary key, slug text generated always as (lower(title)) stored unique, title text, board text); insert into docs (id, title, board) values ('d1', 's1', 'b1'), ('d2', 's2', 'b4'); grant all on docs to authenticated`,
			`{docs: {id: [slug], allow: all, rules: [{name: r, on: [patch], when: data.title.startsWith('g'), lookup: {b: select archived from boards where id = $old.board}, check: "!lookup.b.archived", code: CLOSED, message: No}]}}`,
			[]string{patch("docs", "s1", `"title":"g1"`) + "," + patch("docs", "s2", `"title":"s3"`) + "," + patch("docs", "s3", `"title":"g3"`)}, "CLOSED 2"},
		{"KeysOfOneAndTwoColumns", boards + `alter table cards add unique (board, n); update cards set n = 1 where id = 'c1'`,
			`{cards: {allow: all, rules: [{name: r, check: old == null || old.title != 'x', code: NO, message: No}]}, pairs: {table: cards, id: [board, n], separator: "/", allow: all, rules: [{name: r, check: old == null || old.title != 'x', code: NO, message: No}]}}`,
			[]string{patch("cards", "c2", `"title":"x"`) + "," + patch("pairs", "b1/1", `"title":"x"`) + "," + op("DELETE", "pairs", "b1/1", "", "") + "," + op("DELETE", "cards", "c2", "", "")}, "NO 2"},
		{"AKeyThatDoesNotFit", boards + `create table hosts (id inet primary key); grant all on hosts to authenticated`, `{hosts: {allow: all, rules: [{name: r, check: old == null || old.id != 'x', code: NO, message: No}]}}`,
			[]string{op("DELETE", "hosts", "10.0.0.1", "", "") + "," + op("DELETE", "hosts", "nonsense", "", "")}, "INVALID_DATA 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got [2]string
			for i := range got {
				w := newWorld(t, testdata, rig.Policies(t, "tables: {}"))
				w.Exec(t, test.schema+"; grant select, insert, update, delete on boards, cards, other to authenticated")
				require.NoError(t, w.applier.Catalog.Refresh(t.Context()))
				live := rig.Policies(t, "tables: "+test.policies)
				if w.applier.Policies = live; i == 0 {
					require.NoError(t, w.prepare(t, live))
				}
				batch, err := upload.DecodeBatch([]byte(`{"transactions":[{"crud":[` + strings.Join(test.transactions, `]},{"crud":[`) + `]}]}`))
				require.NoError(t, err)
				for _, result := range w.applier.Apply(t.Context(), slog.New(slog.NewJSONHandler(w.logs, nil)), as(t, "b1", nil), batch) {
					got[i] += summary(result) + "\n"
				}
				got[i] += w.Text(t, "select coalesce(string_agg(t::text, ' ' order by id), '') from cards t")
			}
			require.Equal(t, got[1], got[0])
			require.Contains(t, got[0], test.outcome)
		})
	}
}

// TestAloneAsTogether has a lookup whose parameter is no number, where the number is
// not needed. Whether that is an error is not a matter of what else is sent.
func TestAloneAsTogether(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, `tables: {todos: {allow: all, rules: [{name: r, lookup: {l: "select $new.note::int as n from lists where name = $new.title"}, check: lookup.l == null, code: "NO", message: No}]}}`)
	w := newWorld(t, testdata, live)
	require.NoError(t, w.prepare(t, live))
	me := as(t, ann, nil)
	put := func(id, data string) string { return op("PUT", "todos", id, data, "") }
	for _, crud := range []string{put(first, `"title":"x","note":"none"`), put(first, `"title":"x","note":"none"`) + "," + put(second, `"title":"x","note":"1"`)} {
		code, _ := w.upload(t, me, crud)
		require.Equal(t, "success", code, crud)
	}
	w.Exec(t, `insert into lists (id, name, owner_id) values ($1, 'y', $1)`, first)
	code, result := w.upload(t, me, put(first, `"title":"y","note":"none"`))
	require.Equal(t, "INVALID_DATA", code)
	require.Equal(t, 0, *result.FailedOperation.OperationIndex)
	code, result = w.upload(t, me, put(first, `"title":"x"`)+","+put(second, `"title":"y","note":"none"`))
	require.Equal(t, "INVALID_DATA", code)
	require.Equal(t, 1, *result.FailedOperation.OperationIndex)
}

// drawTied draws the operations of transactions.
func drawTied(r *rapid.T) []string {
	transactions := make([]string, rapid.IntRange(1, 4).Draw(r, "transactions"))
	for i := range transactions {
		crud := make([]string, rapid.IntRange(1, 8).Draw(r, "operations"))
		for j := range crud {
			crud[j] = drawTiedOperation(r)
		}
		transactions[i] = strings.Join(crud, ",")
	}
	return transactions
}

func drawTiedOperation(r *rapid.T) string {
	one := func(of ...string) string { return rapid.SampledFrom(of).Draw(r, "value") }
	table := one("boards", "cards", "cards", "notes", "people", "tags", "tags", "tags_too")
	values := map[string]func() string{
		"archived": func() string { return one("true", "false", "false") },
		"board":    func() string { return one(`"b1"`, `"b2"`, `"b3"`, "null") },
		"up":       func() string { return one("null", "null", `"c1"`, `"c2"`) },
		"title":    func() string { return one(`"x"`, `"y"`) },
		"qty":      func() string { return one("2", "3", "4", "5", "6", "7", "8", "9", "1", "0") },
		"card":     func() string { return one("null", `"c1"`, `"c2"`, `"c3"`) },
		"blocked":  func() string { return one("true", "false", "false") },
	}
	columns := map[string][]string{"boards": {"archived"}, "cards": {"board", "up", "title", "qty"}, "notes": {"card", "board"}, "people": {"board", "blocked"}, "tags": {"board", "title"}, "tags_too": {"board", "title"}}[table]
	var data []string
	for _, c := range columns {
		if rapid.Bool().Draw(r, "sent") {
			data = append(data, `"`+c+`":`+values[c]())
		}
	}
	verb := one("PUT", "PUT", "PATCH", "PATCH", "PATCH", "DELETE")
	if verb == "DELETE" {
		data = nil
	}
	previous := ""
	if table == "people" && verb == "PATCH" {
		previous = `"board":"b1","blocked":false`
	}
	return op(verb, table, table[:1]+one("1", "1", "2", "2", "3", "4"), strings.Join(data, ","), previous)
}
