package conformance_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// statements are those that a client of Postgres executes on its one connection,
// read from what it sends. See
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
type statements struct {
	mu       sync.Mutex
	sent     []byte
	started  bool   // what has no type is behind us
	parsed   string // the unnamed statement
	executed []string
}

func (s *statements) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, p...)
	for {
		header := 4
		if s.started {
			header = 5
		}
		if len(s.sent) < header {
			return len(p), nil
		}
		end := int(binary.BigEndian.Uint32(s.sent[header-4:header])) + header - 4
		if len(s.sent) < end {
			return len(p), nil
		}
		if body := s.sent[header:end]; s.started {
			switch s.sent[0] {
			case 'P':
				s.parsed = string(bytes.Split(body, []byte{0})[1])
			case 'B':
				s.executed = append(s.executed, s.parsed)
			}
		}
		s.started, s.sent = true, s.sent[end:]
	}
}

// take counts the statements executed since it was last asked that have some text.
func (s *statements) take(containing string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sql := range s.executed {
		if strings.Contains(sql, containing) {
			n++
		}
	}
	s.executed = nil
	return n
}

// TestLookupsTogether counts the statements of lookups: one for all operations of a
// kind, as long as none of them changes what it reads.
func TestLookupsTogether(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create table boards (id text primary key, archived boolean not null default false);
		insert into boards select 'b' || i from generate_series(0, 9) i; insert into boards values ('closed', true);
		create table cards (id text primary key, board text default 'b1', title text); alter table cards enable row level security;
		create policy a on cards to authenticated using (exists (select from boards b where b.id = cards.board)) with check (true);
		create table comments (id text primary key, card text references cards on delete cascade);
		create table pins (id text primary key, card text);
		create table people (sub text primary key, blocked boolean); insert into people values ('`+rig.UserID("alice")+`', false);
		create table noisy (id text primary key, board text);
		create function noise() returns trigger language plpgsql security definer as $$ begin update boards set archived = true where id = new.board; return null; end $$;
		create trigger n after insert on noisy for each row execute function noise();
		create table quiet (id text primary key, board text, at timestamptz);
		create function stamp() returns trigger language plpgsql as $$ begin new.at := now(); return new; end $$;
		create trigger s before insert or update on quiet for each row execute function stamp();
		grant select, insert, update, delete on all tables in schema public to authenticated`)
	open := `{name: open, on: [put, patch], lookup: {b: select archived from boards where id = $new.board}, check: lookup.b == null || !lookup.b.archived, code: CLOSED, message: No}`
	log := &statements{}
	proxy := rig.NewProxy(t, rig.HostPort(t, database.LoginURL), rig.ProxyOptions{Requests: log})
	url, err := proxy.URL(database.LoginURL)
	require.NoError(t, err)
	behind := *database
	behind.LoginURL = url + "&pool_max_conns=1"
	s := rig.NewServiceOn(t, &behind, rig.Policies(t, `
tables:
  boards: {allow: all}
  comments: {allow: all}
  pins: {allow: all}
  discussed: {table: cards, allow: all, rules: [{name: r, on: [delete], lookup: {c: select count(*) as n from comments where card = $id}, check: lookup.c.n < 2, code: DISCUSSED, message: No}]}
  people: {allow: all}
  cards:
    allow: all
    rules:
      - `+open+`
      - {name: silent, on: [delete], lookup: {c: select count(*) as n from pins where card = $id}, check: lookup.c.n == 0, code: PINNED, message: No}
  noisy: {allow: all, rules: [`+open+`]}
  quiet: {allow: all, rules: [`+open+`]}
  mine: {table: cards, allow: all, rules: [{name: blocked, lookup: {me: select blocked from people where sub = $auth.sub}, check: "!lookup.me.blocked", code: BLOCKED, message: No}]}
  few: {table: cards, allow: [put], rules: [{name: quota, lookup: {all: select count(*) as n from cards}, check: lookup.all.n < 10000, code: QUOTA, message: No}]}
  lists: {allow: all}
  todos: {allow: all, rules: [{name: open, on: [put, patch], lookup: {l: select name from lists where id = $new.list_id}, check: lookup.l != null && lookup.l.name != 'closed', code: CLOSED, message: No}]}
  defaulted: {table: cards, allow: all, put: replace, rules: [`+open+`]}`))
	many := func(n int, f func(int) string) string {
		list := make([]string, n)
		for i := range list {
			list[i] = f(i)
		}
		return strings.Join(list, ",")
	}
	put := func(i int) string { return op("PUT", "cards", fmt.Sprint("c", i), fmt.Sprintf(`"board":"b%d"`, i%10)) }
	rename := func(i int) string { return op("PATCH", "cards", fmt.Sprint("c", i), `"title":"x"`) }
	id := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
	remove := func(i int) string { return op("DELETE", "cards", fmt.Sprint("c", i), "") }
	for _, test := range []struct {
		name         string
		transactions []string
		lookups      int
		outcome      string // of the last transaction
	}{
		{"Put", []string{many(50, put)}, 1, "success"},
		{"PutWithOneThatMayNot", []string{many(20, put) + "," + op("PUT", "cards", "no", `"board":"closed"`) + "," + put(1)}, 1, "CLOSED"},
		{"OtherTransactions", []string{put(1), put(2), put(3)}, 1, "success"},
		{"PatchThatReadsTheStoredRow", []string{many(50, rename)}, 1, "success"},
		{"TheSameRowTwice", []string{rename(1) + "," + rename(1)}, 2, "success"},
		{"TwoShapes", []string{put(1) + "," + rename(2) + "," + put(3) + "," + rename(4)}, 2, "success"},
		{"ChangedInBetween", []string{put(1) + "," + op("PATCH", "boards", "b2", `"archived":true`) + "," + put(2)}, 2, "CLOSED"},
		{"ChangedByATransactionBefore", []string{op("PATCH", "boards", "b2", `"archived":true`), put(1) + "," + put(2)}, 1, "CLOSED"},
		{"SomethingElseInBetween", []string{put(1) + "," + op("PUT", "comments", "1", `"card":"c1"`) + "," + put(2)}, 1, "success"},
		{"ChangedByATrigger", []string{op("PUT", "noisy", "1", `"board":"b3"`) + "," + op("PUT", "noisy", "2", `"board":"b3"`)}, 2, "CLOSED"},
		{"ATriggerOfNoMatter", []string{many(5, func(i int) string { return op("PUT", "quiet", fmt.Sprint(i), `"board":"b3"`) })}, 1, "success"},
		{"OfTheUser", []string{many(5, func(i int) string { return op("PATCH", "mine", fmt.Sprint("c", i), `"title":"y"`) })}, 1, "success"},
		{"Counting", []string{many(5, func(i int) string { return op("PUT", "few", fmt.Sprint("q", i), "") })}, 5, "success"},
		{"Late", []string{many(5, func(i int) string { return op("PUT", "defaulted", fmt.Sprint("d", i), `"title":"z"`) })}, 1, "success"},
		{"LateAndTheSameRow", []string{op("PUT", "defaulted", "d1", "") + "," + op("PUT", "defaulted", "d1", `"title":"z"`)}, 2, "success"},
		{"Delete", []string{many(50, remove)}, 1, "success"},
		{"DeleteWhatIsCounted", []string{put(1) + "," + put(2) + "," + op("PUT", "pins", "8", `"card":"c2"`) + "," + remove(1) + "," + remove(2)}, 2, "PINNED"},
		// The demo's tables, whose row-level security asks auth.uid() and each other.
		{"UnderRowLevelSecurity", []string{op("PUT", "lists", id(0), `"name":"open"`), many(20, func(i int) string { return op("PUT", "todos", id(i), `"list_id":"`+id(0)+`","description":"x"`) })}, 1, "success"},
		{"PatchUnderRowLevelSecurity", []string{many(20, func(i int) string { return op("PATCH", "todos", id(i), `"description":"y"`) }) + "," + op("PATCH", "lists", id(0), `"name":"closed"`) + "," + op("PATCH", "todos", id(1), `"description":"z"`)}, 2, "CLOSED"},
		{"DeleteThatCascades", []string{many(5, func(i int) string { return op("DELETE", "discussed", fmt.Sprint("c", i), "") })}, 5, "success"},
	} {
		crud := make([]string, len(test.transactions))
		for i, operations := range test.transactions {
			crud[i] = fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, time.Now().UnixNano(), operations)
		}
		log.take("")
		results := s.Upload(t, "alice", `{"transactions":[`+strings.Join(crud, ",")+`]}`).Results(t)
		last := results[len(results)-1]
		if last.FailedOperation != nil {
			last.Status = last.FailedOperation.ErrorCode
		}
		require.Equal(t, test.outcome, last.Status, "%s: %+v\n%s", test.name, last, s.Logs)
		require.Equal(t, test.lookups, log.take("to_jsonb(q.*)"), test.name)
		database.Exec(t, `update boards set archived = (id = 'closed')`)
	}
}
