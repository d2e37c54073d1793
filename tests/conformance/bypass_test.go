package conformance_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"postern/policies"
	wire "postern/service/upload"
	"postern/tests/rig"
)

// outcome is success, the code of a rejection, or the status.
func (b *testBundle) outcome(t *testing.T, user, crud string) string {
	t.Helper()
	result := b.One(t, user, crud)
	if result.FailedOperation != nil {
		return result.FailedOperation.ErrorCode
	}
	return result.Status
}

// TestNoWayAround sends what might slip past a policy, or be taken for a breach of
// one that it is not. Each case is operations of a user and what is then stored.
func TestNoWayAround(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table d (id text primary key, title text, parent text, author uuid, state text not null default 'x', rev int default 1,
			price numeric(10,2), at0 timestamptz(0), gone boolean not null default false, gone_at timestamp, seq bigint generated always as identity,
			js json[], amount numeric(5,0), ratio real, role varchar(5), fixed char(6));
		create table counted_d (like d including all); create table soft_d (like d including all);
		create table h (n bigint generated always as identity, row_id text, field text, previous jsonb, value jsonb);
		create table stamped (id text primary key, title text, updated_at timestamptz not null default now(), qty int);
		create function stamp() returns trigger language plpgsql as $$ begin new.updated_at := now(); new.qty := new.qty * 10; return new; end $$;
		create trigger stamp before insert or update on stamped for each row execute function stamp();
		create table "odd" (id text primary key, t text, q text);
		create domain known as text not null; create table typed (id text primary key, e known default 'x', n int);
		create table sized (id numeric(10,2) primary key, n int);
		create table places (id text primary key, open boolean);
		insert into places values ('open', true), ('closed', false);
		create table visits (id text primary key, place text default 'closed', title text);
		insert into visits values ('1', 'closed'), ('2', 'open');
		create table members (id text primary key, role text, hidden boolean not null default false);
		create function seen(which text) returns boolean language sql stable security definer as $$ select not hidden from members where id = which $$;
		alter table members enable row level security;
		create policy s on members for select to authenticated using (coalesce(seen(id), true));
		create policy u on members for update to authenticated using (true);
		create table late (id text primary key, at int, title text);
		create function late() returns trigger language plpgsql as $$ begin if new.at < old.at then return null; end if; return new; end $$;
		create trigger late before update on late for each row execute function late();
		alter table late enable row level security;
		create policy a on late to authenticated using (true);
		create table dated (id date primary key, n int);
		grant select, insert, update, delete on all tables in schema public to authenticated`, `
tables:
  replace: {table: d, allow: all, put: replace, immutable: [parent]}
  defaults: {table: d, allow: all, defaults: {author: auth.sub, state: "'new'"}}
  stated: {table: d, allow: all, defaults: {state: "'new'"}}
  keeps: {table: d, allow: all, defaults: {author: auth.sub}, immutable: [author]}
  sets: {table: d, allow: all, set: {author: auth.sub}, immutable: [author]}
  states: {table: d, allow: all, defaults: {state: "'new'"}, rules: [{name: r, check: new.state != 'done', code: DONE, message: No}]}
  version: {table: counted_d, allow: all, conflict: {version: rev}, soft_delete: gone}
  inc: {table: d, allow: all, conflict: {increment: [price]}}
  newest: {table: d, allow: all, conflict: {newest: at0}, history: h}
  fields: {table: d, allow: all, conflict: fields, history: h, unknown_columns: ignore}
  counted: {table: d, allow: all, conflict: {increment: [price]}, history: h}
  soft: {table: soft_d, allow: all, soft_delete: gone_at}
  also_soft: {table: soft_d, allow: all, on_missing: reject}
  replaced_soft: {table: soft_d, allow: all, put: replace}
  plain: {table: d, allow: all}
  reject: {table: d, allow: all, conflict: reject}
  missing: {table: d, allow: all, on_missing: reject}
  rounds: {table: d, allow: all, rules: [{name: r, on: [put, patch], check: "new.amount == null || new.amount < 100.0", code: NO, message: No}]}
  coarse: {table: d, allow: all, rules: [{name: r, on: [put, patch], check: "new.ratio == null || new.ratio < 16777218.0", code: NO, message: No}]}
  dates: {table: d, allow: all, rules: [{name: r, when: has(data.at0), check: "data.at0 == null || data.at0 < now", code: NO, message: No}]}
  cuts: {table: d, allow: all, rules: [{name: r, on: [put, patch], check: new.role != 'admin' && new.fixed != 'admin', code: NO, message: No}]}
  stamped: {allow: all, rules: [{name: r, on: [put, patch], check: "new.updated_at <= now + duration('5m') && size(new.title) < 6 && (new.qty == null || new.qty <= 50)", code: NO, message: No}]}
  odd: {table: odd, allow: all, conflict: reject, rules: [{name: r, on: [put], lookup: {l: select 5 as q}, check: lookup.l.q == 5, code: NO, message: No}]}
  typed: {allow: all, rules: [{name: r, check: old == null || old.n != 9, code: NO, message: No}]}
  sized: {allow: all}
  locked: {table: typed, allow: all, rules: [{name: r, on: [delete], check: old.n != 9, code: LOCKED, message: No}]}
  early: {table: d, allow: all, rules: [{name: r, check: "new.gone_at == null || new.gone_at < timestamp('2024-01-01T00:00:00Z')", code: LATE, message: No}]}
  visits: {allow: all, conflict: fields, rules: &open [{name: r, on: [put, patch], lookup: {p: select open from places where id = $new.place}, check: lookup.p != null && lookup.p.open, code: CLOSED, message: No}]}
  replaced: {table: visits, allow: all, put: replace, rules: *open}
  made: {table: visits, allow: all, defaults: {place: "'open'"}, rules: *open}
  members: {allow: [patch], rules: [{name: r, check: old.role == new.role, code: ROLE, message: No}]}
  late: {allow: all}
  dated: {allow: all, rules: [{name: r, check: old == null || old.n != 1, code: NO, message: No}]}
  looked: {table: dated, allow: all, rules: [{name: r, on: [put], lookup: {l: "select 1 as n where $new.id > date '2020-01-01'"}, check: lookup.l != null, code: NO, message: No}]}`)
	b.db.Exec(t, `insert into members values ('1', 'user'), ('2', 'user')`)
	alice, bob := rig.UserID("alice"), rig.UserID("bob")
	type sent struct{ user, crud, outcome string }
	for _, test := range []struct {
		name   string
		sent   []sent
		stored string // a query
		want   string
	}{
		{"ReplaceKeepsImmutable", []sent{{"alice", op("PUT", "replace", "a", `"parent":"p","title":"x"`), "success"}, {"alice", op("PUT", "replace", "a", `"title":"y"`), "success"}},
			`select title || parent from d where id = 'a'`, "yp"},
		{"DefaultsOfNewRowsAlone", []sent{{"alice", op("PUT", "defaults", "b", `"title":"x"`), "success"}, {"alice", op("PATCH", "defaults", "b", `"state":"done"`), "success"}, {"bob", op("PUT", "defaults", "b", `"title":"z"`), "success"}},
			`select concat_ws(' ', title, state, author) from d where id = 'b'`, "z done " + alice},
		{"DefaultBesideOneThatWasSent", []sent{{"alice", op("PUT", "plain", "b3", `"state":"done"`), "success"}, {"alice", op("PUT", "stated", "b4", `"state":"sent"`) + "," + op("PUT", "stated", "b3", ""), "success"}},
			`select string_agg(state, ' ' order by id) from d where id in ('b3', 'b4')`, "done sent"},
		{"ImmutableDefault", []sent{{"alice", op("PUT", "keeps", "b2", `"title":"x"`), "success"}, {"bob", op("PUT", "keeps", "b2", `"title":"z"`), "success"}, {"bob", op("PUT", "keeps", "b2", `"author":"`+bob+`"`), "IMMUTABLE_COLUMN"}},
			`select concat_ws(' ', title, author) from d where id = 'b2'`, "z " + alice},
		{"ImmutableSet", []sent{{"alice", op("PUT", "sets", "c", `"title":"x"`), "success"}, {"bob", op("PATCH", "sets", "c", `"title":"z"`), "success"}, {"bob", op("PUT", "sets", "c", `"title":"w"`), "success"}},
			`select concat_ws(' ', title, author) from d where id = 'c'`, "w " + alice},
		{"DefaultsAreNotTheRowsOwn", []sent{{"alice", op("PUT", "plain", "c2", `"state":"done"`), "success"}, {"alice", op("PUT", "states", "c2", `"title":"x"`), "DONE"}},
			`select title from d where id = 'c2'`, "<null>"},
		{"VersionOfNull", []sent{{"alice", op("PUT", "version", "d", `"title":"x","rev":7`), "success"}, {"alice", op("PATCH", "version", "d", `"title":"z","rev":null`), "INVALID_DATA"}},
			`select title || rev from counted_d where id = 'd'`, "x7"},
		{"SoftDeleteCounts", []sent{{"alice", op("PUT", "version", "d2", `"rev":7`), "success"}, {"alice", op("DELETE", "version", "d2", ""), "success"}, {"alice", op("PATCH", "version", "d2", `"title":"z","rev":8`), "success"}, {"alice", op("DELETE", "version", "d2", ""), "success"}},
			`select concat_ws(' ', title, gone, rev) from counted_d where id = 'd2'`, "t 8"},
		{"IncrementOfNull", []sent{{"alice", op("PUT", "inc", "e", ""), "success"}, {"alice", patch("inc", "e", `"price":5`, `"price":null`), "success"}, {"alice", patch("inc", "e", `"price":7`, `"price":6`), "success"}},
			`select price::text from d where id = 'e'`, "6.00"},
		{"IncrementToNull", []sent{{"alice", op("PUT", "inc", "e2", `"price":5`), "success"}, {"alice", patch("inc", "e2", `"price":null`, `"price":5`), "success"}},
			`select price from d where id = 'e2'`, "<null>"},
		{"NewestIsRounded", []sent{{"alice", op("PUT", "newest", "f", `"title":"x","at0":"2026-11-23T10:00:00.6Z"`), "success"}, {"alice", op("PATCH", "newest", "f", `"title":"later","at0":"2026-11-23T10:00:00.9Z"`), "success"},
			{"alice", op("PATCH", "newest", "f", `"title":"stale","at0":"2020-11-23T10:00:00Z"`), "success"}, {"alice", op("PATCH", "newest", "nowhere", `"title":"none","at0":"2026-11-23T10:00:00Z"`), "success"}, {"alice", op("PATCH", "newest", "f", `"at0":null`), "INVALID_DATA"}},
			`select title || ' ' || (select string_agg(value::text, ' ' order by n) from h where field = 'title' and row_id in ('f', 'nowhere')) from d where id = 'f'`, `later "x" "later"`},
		{"FieldsHistory", []sent{{"alice", op("PUT", "fields", "f2", `"title":"x","parent":"p","id":"f2","nope":1`), "success"}, {"alice", patch("fields", "f2", `"title":"mine","parent":"q"`, `"title":"other","parent":"p"`), "success"}},
			`select title || parent || ' ' || (select string_agg(field || value::text, ' ' order by n) from h where row_id = 'f2') from d where id = 'f2'`, `xq title"x" parent"p" parent"q"`},
		{"IncrementHistory", []sent{{"alice", op("PUT", "counted", "f3", `"price":5`), "success"}, {"alice", patch("counted", "f3", `"price":7`, `"price":5`), "success"}, {"alice", op("PUT", "counted", "f3", `"price":5,"title":"x"`), "success"}},
			`select price || (select string_agg(' ' || field || value::text, '' order by n) from h where row_id = 'f3') from d where id = 'f3'`, `7.00 price5.00 price7.00 title"x"`},
		{"SoftDeleteIsFinal", []sent{{"alice", op("PUT", "soft", "h", `"title":"x","gone_at":null`), "success"}, {"alice", op("PUT", "soft", "h", `"title":"y"`), "success"}, {"alice", op("PATCH", "also_soft", "h", `"title":"z","gone_at":null`), "success"},
			{"alice", op("PUT", "replaced_soft", "h", `"title":"z"`), "success"}, {"alice", op("DELETE", "also_soft", "h", ""), "success"}, {"alice", op("PUT", "soft", "h", `"title":"again"`), "ROW_DELETED"}, {"alice", op("PUT", "replaced_soft", "h", `"gone_at":null`), "ROW_DELETED"},
			{"alice", op("PATCH", "soft", "h", `"title":"again"`), "success"}, {"alice", op("PATCH", "also_soft", "h", `"title":"again"`), "ROW_NOT_FOUND"}, {"alice", op("PATCH", "also_soft", "h", ""), "ROW_NOT_FOUND"}, {"alice", op("DELETE", "soft", "h", ""), "success"}},
			`select title || (gone_at is not null) from soft_d where id = 'h'`, "ztrue"},
		{"SoftDeleteIsNotSent", []sent{{"alice", op("PUT", "soft", "h3", `"gone_at":"2026-11-24T12:00:00Z"`), "UNAUTHORIZED"}, {"alice", op("PUT", "also_soft", "h3", ""), "success"}, {"alice", op("PATCH", "also_soft", "h3", `"gone_at":"2026-11-24T12:00:00Z"`), "UNAUTHORIZED"}},
			`select gone_at from soft_d where id = 'h3'`, "<null>"},
		{"SoftDeleteInOneTransaction", []sent{{"alice", op("PUT", "soft", "h4", "") + "," + op("DELETE", "soft", "h4", "") + "," + op("PATCH", "soft", "h4", `"title":"x"`), "success"}},
			`select title from soft_d where id = 'h4'`, "<null>"},
		{"SoftDeleteInUTC", []sent{{"alice", op("PUT", "soft", "h2", "") + "," + op("DELETE", "soft", "h2", ""), "success"}},
			`select abs(extract(epoch from gone_at - (now() at time zone 'UTC'))) < 100 from soft_d where id = 'h2'`, "true"},
		{"IdentityComesBack", []sent{{"alice", op("PUT", "plain", "q", `"title":"x","seq":500`), "success"}, {"alice", op("PATCH", "plain", "q", `"title":"y","seq":77`), "success"}, {"alice", op("PUT", "plain", "q", `"title":"z","seq":1`), "success"}},
			`select title || (seq < 77) from d where id = 'q'`, "ztrue"},
		{"ListsOfJSON", []sent{{"alice", op("PUT", "reject", "v", `"title":"x","js":[{"a":1}]`), "success"}, {"alice", patch("reject", "v", `"title":"y"`, `"title":"x","js":[{"a":2}]`), "CONFLICT"}},
			`select title from d where id = 'v'`, "x"},
		{"NothingOfARowThatIsMissing", []sent{{"alice", op("PATCH", "missing", "nowhere", ""), "ROW_NOT_FOUND"}}, `select count(*) from d where id = 'nowhere'`, "0"},
		{"RoundedUp", []sent{{"alice", op("PUT", "rounds", "z", `"amount":99.9`), "NO"}, {"alice", op("PUT", "rounds", "z", `"amount":99`), "success"}}, `select amount::text from d where id = 'z'`, "99"},
		{"RoundedToSingle", []sent{{"alice", op("PUT", "coarse", "z9", `"ratio":16777217.4`), "NO"}, {"alice", op("PUT", "coarse", "z9", `"ratio":0.1`), "success"}}, `select ratio::text from d where id = 'z9'`, "0.1"},
		{"NoSuchDate", []sent{{"alice", op("PUT", "dates", "z3", `"at0":"2023-02-29T00:00:00Z"`), "INVALID_DATA"}, {"alice", op("PUT", "dates", "z3", `"at0":"2099-01-01"`), "NO"}}, `select count(*) from d where id = 'z3'`, "0"},
		{"CutOff", []sent{{"alice", op("PUT", "cuts", "z2", `"role":"admin "`), "NO"}, {"alice", op("PUT", "cuts", "z2", `"fixed":"admin"`), "success"}}, `select role from d where id = 'z2'`, "<null>"},
		{"NullThatATriggerFillsIn", []sent{{"alice", op("PUT", "stamped", "1", `"title":"too long","updated_at":null`), "NO"}, {"alice", op("PUT", "stamped", "1", `"title":"short","updated_at":null`), "success"}}, `select title from stamped where id = '1'`, "short"},
		{"WhatATriggerSets", []sent{{"alice", op("PUT", "stamped", "2", `"title":"x","qty":6`), "NO"}, {"alice", op("PUT", "stamped", "2", `"title":"x","qty":5`), "success"}}, `select qty from stamped where id = '2'`, "50"},
		{"OddNames", []sent{{"alice", op("PUT", "odd", "1", `"t":"tee"`), "success"}, {"alice", patch("odd", "1", `"q":"x"`, `"t":"other","q":null`), "CONFLICT"}}, `select (details ->> 'row')::jsonb::text from postern.rejected_writes where code = 'CONFLICT' and tables = '{odd}'`, `{"q": null, "t": "tee", "id": "1"}`},
		{"LookupOfWhatIsStored", []sent{{"alice", patch("visits", "1", `"title":"x"`, `"title":null`), "CLOSED"}, {"alice", patch("visits", "1", `"title":"x","place":"open"`, `"title":null,"place":"other"`), "CLOSED"},
			{"alice", patch("visits", "1", `"title":"x","place":"open"`, `"title":null,"place":"closed"`), "success"}, {"alice", op("PUT", "replaced", "2", `"title":"x"`), "CLOSED"}, {"alice", op("PUT", "visits", "3", ""), "CLOSED"},
			{"alice", op("PUT", "made", "4", `"title":"x"`), "success"}}, `select string_agg(concat_ws(' ', place, title), ', ' order by id) from visits`, "open x, open, open x"},
		{"LocksWithDomains", []sent{{"alice", op("PUT", "typed", "1", `"n":1`) + "," + op("PUT", "typed", "2", `"n":1`), "success"}, {"alice", op("PATCH", "typed", "1", `"n":2`) + "," + op("PATCH", "typed", "2", `"n":2`), "success"}}, `select sum(n) from typed where id in ('1', '2')`, "4"},
		{"IDsThatWouldBeOthers", []sent{{"alice", op("PUT", "sized", "1.234", ""), "INVALID_DATA"}, {"alice", op("PUT", "sized", "1.2", ""), "success"}}, `select count(*) from sized`, "1"},
		{"MoreDigitsThanKept", []sent{{"alice", op("PUT", "early", "e9", `"gone_at":"2023-12-31T23:59:59.9999999Z"`), "LATE"}}, `select count(*) from d where id = 'e9'`, "0"},
		{"NothingTwice", []sent{{"alice", op("PUT", "missing", "n1", "") + "," + op("PUT", "missing", "n2", ""), "success"}, {"alice", op("PATCH", "missing", "n1", "") + "," + op("PATCH", "missing", "n2", ""), "success"}}, `select count(*) from d where id in ('n1', 'n2')`, "2"},
		{"HidesItself", []sent{{"alice", op("PATCH", "members", "1", `"role":"admin"`), "ROLE"}, {"alice", op("PATCH", "members", "1", `"role":"admin","hidden":true`), "ROLE"}, {"alice", op("PATCH", "members", "2", `"hidden":true`), "success"}},
			`select string_agg(role || hidden, ' ' order by id) from members`, "userfalse usertrue"},
		{"CancelledByATrigger", []sent{{"alice", op("PUT", "late", "1", `"at":2,"title":"x"`), "success"}, {"alice", op("PATCH", "late", "1", `"at":1,"title":"y"`), "success"}}, `select title from late`, "x"},
		{"KeyThatIsNone", []sent{{"alice", op("PATCH", "dated", "2026-02-30", `"n":1`), "INVALID_DATA"}, {"alice", op("PATCH", "dated", "2026-02-30", `"n":1`) + "," + op("PATCH", "dated", "2026-02-01", `"n":1`), "INVALID_DATA"},
			{"alice", op("PUT", "looked", "2026-02-30", ""), "INVALID_DATA"}}, `select count(*) from dated`, "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range test.sent {
				require.Equal(t, s.outcome, b.outcome(t, s.user, s.crud), s.crud)
			}
			require.Equal(t, test.want, b.db.Text(t, test.stored))
		})
	}
}

// TestRowsThatAppearBetween has a row appear after a rule has looked for it and
// before the operation: it is judged all the same.
func TestRowsThatAppearBetween(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table bills (id text primary key, state text, note text);
		create function gate() returns boolean language sql volatile as $$ select pg_advisory_xact_lock(77) is not null $$;
		grant select, insert, update, delete on bills to authenticated`, `
tables:
  bills: {allow: all, rules: [{name: r, on: [put, patch, delete], lookup: {g: select gate() as g}, check: "(old == null || old.state != 'paid') && lookup.g.g", code: PAID, message: No}]}`)
	for _, crud := range []string{op("DELETE", "bills", "1", ""), op("PATCH", "bills", "1", `"note":"x"`), op("PUT", "bills", "1", `"note":"x"`)} {
		b.db.Exec(t, `delete from bills`)
		gate, err := pgx.Connect(t.Context(), b.db.OwnerURL)
		require.NoError(t, err)
		defer gate.Close(context.WithoutCancel(t.Context()))
		_, err = gate.Exec(t.Context(), `select pg_advisory_lock(77)`)
		require.NoError(t, err)
		outcome := make(chan string)
		go func() { outcome <- b.outcome(t, "alice", crud) }()
		require.Eventually(t, func() bool {
			return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`) == "1"
		}, 10*time.Second, time.Millisecond)
		b.db.Exec(t, `insert into bills values ('1', 'paid')`)
		require.NoError(t, gate.Close(t.Context()))
		require.Equal(t, "PAID", <-outcome, crud)
		require.Equal(t, "paid", b.db.Text(t, `select concat_ws(' ', state, note) from bills`), crud)
	}
}

// TestRowsThatAreReplaced has another writer delete the row that a rule waits for,
// and make it anew.
func TestRowsThatAreReplaced(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table bills (id text primary key, state text, note text);
		grant select, insert, update, delete on bills to authenticated`, `
tables:
  bills: {allow: all, rules: [{name: r, on: [put, patch, delete], check: old == null || old.state != 'paid', code: PAID, message: No}]}`)
	for _, crud := range []string{op("DELETE", "bills", "1", ""), op("PATCH", "bills", "1", `"note":"x"`), op("PUT", "bills", "1", `"note":"x"`)} {
		b.db.Exec(t, `delete from bills; insert into bills values ('1', 'open')`)
		other, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		defer other.Rollback(context.WithoutCancel(t.Context()))
		_, err = other.Exec(t.Context(), `delete from bills`)
		require.NoError(t, err)
		_, err = other.Exec(t.Context(), `insert into bills values ('1', 'paid')`)
		require.NoError(t, err)
		outcome := make(chan string)
		go func() { outcome <- b.outcome(t, "alice", crud) }()
		require.Eventually(t, func() bool {
			return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
		}, 10*time.Second, time.Millisecond)
		require.NoError(t, other.Commit(t.Context()))
		require.Equal(t, "PAID", <-outcome, crud)
		require.Equal(t, "paid", b.db.Text(t, `select concat_ws(' ', state, note) from bills`), crud)
	}
}

// TestRuledRowsThatAreNotThere has rules over the stored row of rows that do not exist, in a
// table that Postgres must scan for them, and of one that is hidden.
func TestRuledRowsThatAreNotThere(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table scanned (id text, club text, note text);
		insert into scanned select n, 'c', 'kept' from generate_series(1, 3) as n;
		create table hidden (id text primary key, note text);
		insert into hidden values ('theirs', 'kept');
		alter table hidden enable row level security;
		create policy readable on hidden for select to authenticated using (note <> 'kept');
		create policy writable on hidden to authenticated using (note <> 'kept');
		grant select, insert, update, delete on scanned, hidden to authenticated`, `
tables:
  scanned: {allow: [patch, delete], id: [club, id], rules: [{name: r, check: old.note == 'none', code: NO, message: No}]}
  hidden: {allow: all, rules: [{name: r, check: old == null, code: NO, message: No}]}`)
	for _, test := range []struct{ crud, want string }{
		{op("PATCH", "scanned", "c:4", `"note":"x"`), "success"},
		{op("DELETE", "scanned", "c:4", ""), "success"},
		{op("PATCH", "scanned", "c:3", `"note":"x"`), "NO"},
		{op("DELETE", "scanned", "c:3", ""), "NO"},
		{op("PUT", "hidden", "theirs", `"note":"x"`), "UNAUTHORIZED"},
		{op("PUT", "hidden", "mine", `"note":"x"`), "success"},
		{op("PUT", "hidden", "mine", `"note":"y"`), "NO"},
	} {
		require.Equal(t, test.want, b.outcome(t, "alice", test.crud), test.crud)
	}
	require.Equal(t, "kept kept kept", b.db.Text(t, `select string_agg(note, ' ') from scanned`))
	require.Equal(t, "kept x", b.db.Text(t, `select string_agg(note, ' ' order by note) from hidden`))
}

// TestRulesOverRowsThatATriggerChanges has a rule over the row as it was and as it will be,
// which an AFTER trigger gives another value than the one that was sent.
func TestRulesOverRowsThatATriggerChanges(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table totals (id text primary key, total int);
		create function halve() returns trigger language plpgsql as $$ begin update totals set total = new.total / 2 where id = new.id and total > 9; return null; end $$;
		create trigger halve after insert or update on totals for each row execute function halve();
		grant select, insert, update, delete on totals to authenticated`, `
tables:
  totals: {allow: all, rules: [{name: r, check: old == null || new.total >= old.total, code: LESS, message: No}]}`)
	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "totals", "1", `"total":8`)))
	require.Equal(t, "LESS", b.outcome(t, "alice", op("PUT", "totals", "1", `"total":12`)), "6 is stored")
	require.Equal(t, "LESS", b.outcome(t, "alice", op("PATCH", "totals", "1", `"total":12`)))
	require.Equal(t, "success", b.outcome(t, "alice", op("PATCH", "totals", "1", `"total":16`)))
}

// TestTurnedDownBeforeTheNextFails has a transaction fail on what an earlier one
// did, which its rule then turns down.
func TestTurnedDownBeforeTheNextFails(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table boards (id text primary key, locked boolean);
		create table cards (id text primary key, board text references boards);
		insert into boards values ('1', true);
		grant select, insert, update, delete on boards, cards to authenticated`, `
tables:
  boards: {allow: all, rules: [{name: r, on: [delete], check: "!old.locked", code: LOCKED, message: No}]}
  cards: {allow: all}`)
	results := b.Upload(t, "alice", `{"transactions":[{"transaction_id":1,"crud":[`+op("DELETE", "boards", "1", "")+`]},{"transaction_id":2,"crud":[`+op("PUT", "cards", "a", `"board":"1"`)+`]}]}`).Results(t)
	require.Equal(t, "LOCKED", results[0].FailedOperation.ErrorCode)
	require.Equal(t, "success", results[1].Status)
	require.Equal(t, "1", b.db.Text(t, `select board from cards`))
}

// TestQuotaUnderManyWriters has a user's devices fill a quota at the same time.
func TestQuotaUnderManyWriters(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table todos3 (id text primary key, owner uuid default auth.uid());
		grant select, insert, update, delete on todos3 to authenticated`, `
tables:
  todos3: {allow: all, rules: [{name: r, on: [put], lookup: {mine: select count(*) as n from todos3 where owner = $auth.sub}, check: lookup.mine.n < 3, code: FULL, message: No}]}`)
	var all sync.WaitGroup
	var full atomic.Int64
	for i := range 20 {
		all.Go(func() {
			if b.outcome(t, "alice", op("PUT", "todos3", fmt.Sprint(i), "")) == "FULL" {
				full.Add(1)
			}
		})
	}
	all.Wait()
	require.Equal(t, "3", b.db.Text(t, `select count(*) from todos3`))
	require.Equal(t, int64(17), full.Load())
}

// TestQuotaOfATeam has many users of one team write at the same time, under quotas that
// count for the team in different words.
func TestQuotaOfATeam(t *testing.T) {
	t.Parallel()
	const team = "5c000000-0000-4000-8000-00000000000a"
	for _, test := range []struct{ name, lookup string }{
		{"OfTheNewRow", "select count(*) as n from chores where team_id = $new.team_id"},
		{"OfTheUser", "select count(*) as n from chores t join crews m on m.team_id = t.team_id where m.user_id = $auth.sub "},
		{"OfTheUserInASubquery", "select count(*) as n from chores where team_id = any(select team_id from crews where user_id = $auth.sub )"},
		{"InAView", "select coalesce(sum(n), 0) as n from sizes where team_id = $new.team_id"},
		{"InAViewOverAView", "select count(*) as n from \"Open Chores\" where team_id = $new.team_id"},
		{"InAFunction", "select team_size($new.team_id) as n"},
		{"InAFunctionOverAView", "select viewed_size($new.team_id) as n"},
		{"InAFunctionOverAFunction", "select public.own_size() as n"},
		{"InAFunctionBesideTheUsersOwn", "select count(*) + team_size($new.team_id) as n from chores where id = $auth.sub"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, `
				create table crews (user_id uuid, team_id uuid);
				create table chores (id text primary key, team_id uuid, done boolean default false);
				create view sizes as select team_id, count(*) as n from chores group by team_id;
				create view open_chores as select * from chores where not done;
				create view "Open Chores" as select * from open_chores;
				create function team_size(team uuid) returns bigint language plpgsql as $$begin return (select count(*) from public.chores where team_id = team); end$$;
				create function viewed_size(team uuid) returns bigint begin atomic; select count(*) from open_chores where team_id = team; end;
				create function own_size() returns bigint language sql as $$ select sum(team_size(team_id)) from crews where user_id = auth.uid() $$;
				grant select on sizes, open_chores, "Open Chores" to authenticated;
				grant select, insert, update, delete on crews, chores to authenticated`, `
tables:
  chores: {allow: [put], put: insert, rules: [{name: r, on: [put], lookup: {team: '`+test.lookup+`'}, check: lookup.team.n < 3, code: FULL, message: No}]}`)
			users := []string{"alice", "bob", "carol", "dave"}
			for _, user := range users {
				b.db.Exec(t, `insert into crews values ('`+rig.UserID(user)+`', '`+team+`')`)
			}
			var all sync.WaitGroup
			var full atomic.Int64
			for i := range 20 {
				all.Go(func() {
					id := team
					if i%2 == 0 {
						id = strings.ToUpper(team)
					}
					if b.outcome(t, users[i%4], op("PUT", "chores", fmt.Sprint(i), `"team_id":"`+id+`"`)) == "FULL" {
						full.Add(1)
					}
				})
			}
			all.Wait()
			require.Equal(t, "3", b.db.Text(t, `select count(*) from chores`))
			require.Equal(t, int64(17), full.Load())
		})
	}
}

// TestRulesInGoAndWhatWasSent are rules in Go that add operations, change what they
// were given, and reorder nothing.
func TestRulesInGoAndWhatWasSent(t *testing.T) {
	t.Parallel()
	adds := policies.CodeRule{Name: "adds", Tables: []string{"sales"}, Decide: func(_ context.Context, tx *policies.Tx) error {
		tx.Operations = append(tx.Operations, wire.Operation{Op: wire.Put, Table: "ledger", ID: "same"})
		return nil
	}}
	var calls atomic.Int64
	changes := policies.CodeRule{Name: "changes", Tables: []string{"notes"}, Decide: func(ctx context.Context, tx *policies.Tx) error {
		value := tx.Operations[0].Data[0].Value
		copy(value, `"X`)
		tx.Operations[0].Data[0].Value = append(value[:len(value)-1], `!"`...)
		if calls.Add(1) == 1 {
			return &pgconn.PgError{Code: "40001", Message: "a clash, as Postgres words it"}
		}
		return nil
	}}
	watches := policies.CodeRule{Name: "watches", Tables: []string{"c"}, Decide: func(context.Context, *policies.Tx) error { return nil }}
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create table sales (id text primary key);
		create table ledger (id text primary key);
		create table notes (id text primary key, title text check (title <> 'Xad!'));
		create table p (id text primary key, name text unique);
		create table c (id text primary key, p text references p);
		insert into p values ('5', 'bread');
		insert into c values ('loose', null);
		grant select, insert, update, delete on all tables in schema public to authenticated`)
	s := rig.NewServiceOn(t, database, rig.Policies(t, `tables: {sales: {allow: all}, ledger: {allow: all, put: insert}, notes: {allow: all}, p: {allow: all}, c: {allow: all}}`).WithCode(adds, changes, watches))
	b := &testBundle{Service: s, db: database}

	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "sales", "1", "")))
	result := b.One(t, "alice", op("PUT", "sales", "2", ""))
	require.Equal(t, "UNIQUE_VIOLATION", result.FailedOperation.ErrorCode)
	require.Nil(t, result.FailedOperation.OperationIndex, "it is the rule's")
	require.Equal(t, "1", database.Text(t, `select string_agg(id, ' ') from sales`))

	require.Equal(t, "success", b.outcome(t, "alice", op("PUT", "notes", "1", `"title":"hello"`)))
	require.Equal(t, "Xello!", database.Text(t, `select title from notes`), "changed once, however often it was tried")
	require.Equal(t, "CHECK_VIOLATION", b.outcome(t, "alice", op("PUT", "notes", "2", `"title":"bad"`)))
	require.Equal(t, "bad", database.Text(t, `select transaction #>> '{crud,0,op_data,title}' from postern.rejected_writes where code = 'CHECK_VIOLATION'`), "as it was sent")

	require.Equal(t, "success", b.outcome(t, "alice", op("DELETE", "p", "5", "")+","+op("PUT", "p", "6", `"name":"bread"`)+","+op("PATCH", "c", "loose", `"p":"6"`)), "the client's order works")
}

// TestRejectionsThatCannotBeKept are never answered as final, however often they
// come.
func TestRejectionsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table x (id text primary key); grant select, insert, update, delete on x to authenticated`, `
tables:
  "*": {allow: all, because: the test is about other things}`)
	require.Equal(t, "SCHEMA_MISMATCH", b.outcome(t, "alice", `{"op":"PUT","table":"a\u0000b","id":"1"}`), "a name that Postgres cannot keep is kept all the same")
	b.db.Exec(t, `revoke insert on postern.rejected_writes from postern`)
	for range 53 {
		require.Equal(t, "retryable_error", b.outcome(t, "alice", op("PUT", "x", "1", `"nope":1`)))
	}
}

// TestNameTwiceInJSON sends JSON, as text and as it is, in which a name appears twice. A rule would see
// the two merged, and jsonb would keep the second.
func TestNameTwiceInJSON(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table profiles (id text primary key, extra jsonb); grant select, insert, update on profiles to authenticated`,
		`tables: {profiles: {allow: [put], rules: [{name: no-admins, check: "!has(new.extra.admin)", code: NO_ADMINS, message: "No"}]}}`)
	put := func(extra string) string {
		return fmt.Sprintf(`{"op":"PUT","table":"profiles","id":"1","op_data":{"extra":%q}}`, extra)
	}
	require.Equal(t, "NO_ADMINS", b.outcome(t, "alice", put(`{"admin":true}`)))
	const twice = `{"role":{"a":1},"role":{"b":2}}`
	for _, operation := range []string{put(twice), fmt.Sprintf(`{"op":"PUT","table":"profiles","id":"1","op_data":{"extra":%s}}`, twice)} {
		result := b.One(t, "alice", operation)
		require.NotNil(t, result.FailedOperation, result)
		require.Equal(t, "INVALID_DATA", result.FailedOperation.ErrorCode)
		require.Contains(t, result.FailedOperation.Message, `profiles.extra cannot hold`)
		require.Contains(t, result.FailedOperation.Message, `the name "role" appears twice`)
	}
	require.Equal(t, "success", b.outcome(t, "alice", put(`{"role":{"b":2}}`)))
	listed := b.Send(t, http.MethodGet, "/api/rejected", "", "Authorization", "Bearer "+b.Token(t, "alice"))
	require.Equal(t, http.StatusOK, listed.Status)
	require.Contains(t, listed.Body, twice, "what was sent is stored")
}
