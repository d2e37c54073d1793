package conformance_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/policies"
	wire "postern/service/upload"
	"postern/tests/rig"
)

// patch is a PATCH with the previous values.
func patch(table, id, data, previous string) string {
	return fmt.Sprintf(`{"op":"PATCH","table":%q,"id":%q,"op_data":{%s},"previous_values":{%s}}`, table, id, data, previous)
}

func setupStrategies(t *testing.T) *testBundle {
	t.Helper()
	return setupSchema(t, `
		create table docs (id text primary key, title text, body jsonb, qty int not null default 0, price numeric(10,2), rev int not null default 1, updated_at timestamptz, owner uuid);
		alter table docs enable row level security;
		create policy visible on docs to authenticated using (title is distinct from 'hidden');
		grant select, insert, update, delete on docs to authenticated;`, `
tables:
  newest: {table: docs, allow: all, conflict: {newest: updated_at}}
  version: {table: docs, allow: all, conflict: {version: rev}}
  fields: {table: docs, allow: all, conflict: fields}
  increment: {table: docs, allow: all, conflict: {increment: [qty, price]}}
  server: {table: docs, allow: all, conflict: server}
  reject: {table: docs, allow: all, conflict: reject}
  plain: {table: docs, allow: all}`)
}

func TestConflictStrategies(t *testing.T) {
	t.Parallel()
	b := setupStrategies(t)
	row := func(t *testing.T, id string) string {
		return b.db.Text(t, `select concat_ws(' ', title, qty, price, rev, body, (updated_at at time zone 'UTC')::text) from docs where id = $1`, id)
	}
	code := func(t *testing.T, crud string) string {
		result := b.One(t, "alice", crud)
		if result.FailedOperation == nil {
			return result.Status
		}
		return result.FailedOperation.ErrorCode
	}

	t.Run("Newest", func(t *testing.T) {
		t.Parallel()
		at := func(hour int) string { return fmt.Sprintf(`"updated_at":"2026-11-23T%02d:00:00Z"`, hour) }
		require.Equal(t, "success", code(t, op("PUT", "newest", "n", `"title":"a",`+at(10))))
		require.Equal(t, "success", code(t, op("PATCH", "newest", "n", `"title":"late",`+at(9))), "dropped without a word")
		require.Equal(t, "a 0 1 2026-11-23 10:00:00", row(t, "n"))
		require.Equal(t, "success", code(t, op("PATCH", "newest", "n", `"title":"newer",`+at(11))))
		require.Equal(t, "success", code(t, op("PUT", "newest", "n", `"title":"late again",`+at(10))))
		require.Equal(t, "newer 0 1 2026-11-23 11:00:00", row(t, "n"))
		require.Equal(t, "INVALID_DATA", code(t, op("PATCH", "newest", "n", `"title":"when?"`)))
		require.Equal(t, "success", code(t, op("PATCH", "newest", "nowhere", `"title":"x",`+at(1))))
	})

	t.Run("Version", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "success", code(t, op("PUT", "version", "v", `"title":"a"`)))
		require.Equal(t, "success", code(t, op("PATCH", "version", "v", `"title":"b","rev":2`)))
		require.Equal(t, "b 0 2", row(t, "v"))
		result := b.One(t, "alice", op("PATCH", "version", "v", `"title":"c","rev":2`))
		require.Equal(t, "CONFLICT", result.FailedOperation.ErrorCode)
		require.Equal(t, "b", result.FailedOperation.Details["row"].(map[string]any)["title"])
		require.Equal(t, "success", code(t, patch("version", "v", `"title":"c"`, `"title":"b","rev":2`)))
		require.Equal(t, "c 0 3", row(t, "v"))
		require.Equal(t, "CONFLICT", code(t, patch("version", "v", `"title":"d"`, `"rev":2`)))
		require.Equal(t, "INVALID_DATA", code(t, op("PATCH", "version", "v", `"title":"d"`)))
		require.Equal(t, "CONFLICT", code(t, `{"op":"DELETE","table":"version","id":"v","previous_values":{"rev":2}}`))
		require.Equal(t, "success", code(t, `{"op":"DELETE","table":"version","id":"v","previous_values":{"rev":3}}`))
	})

	t.Run("Fields", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "success", code(t, op("PUT", "fields", "f", `"title":"a","qty":1,"body":{"k":1}`)))
		require.Equal(t, "success", code(t, patch("fields", "f", `"title":"mine","qty":5,"body":{"k":2}`, `"title":"other","qty":1,"body":{"k":1}`)))
		require.Equal(t, `a 5 1 {"k": 2}`, row(t, "f"), "the title has changed meanwhile and stays")
		require.Equal(t, "INVALID_DATA", code(t, op("PATCH", "fields", "f", `"title":"x"`)))
		require.Equal(t, "success", code(t, op("PUT", "fields", "f2", `"price":99.999`)))
		require.Equal(t, "success", code(t, patch("fields", "f2", `"price":5`, `"price":99.999`)), "stored as 100.00, which the client has not seen")
		require.Equal(t, "0 5.00 1", row(t, "f2"))
	})

	t.Run("Increment", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "success", code(t, op("PUT", "increment", "i", `"qty":10,"price":1.50`)))
		require.Equal(t, "success", code(t, patch("increment", "i", `"qty":7,"price":2.00`, `"qty":10,"price":1.50`)))
		require.Equal(t, "success", code(t, patch("increment", "i", `"qty":9,"title":"sold"`, `"qty":10,"title":null`)))
		require.Equal(t, "sold 6 2.00 1", row(t, "i"))
		require.Equal(t, "success", code(t, op("PUT", "increment", "i", `"qty":100`)), "a PUT of a row that exists adds nothing")
		require.Equal(t, "sold 6 2.00 1", row(t, "i"))
		require.Equal(t, "INVALID_DATA", code(t, op("PATCH", "increment", "i", `"qty":3`)))
	})

	t.Run("Server", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "success", code(t, op("PUT", "server", "s", `"title":"a"`)))
		require.Equal(t, "success", code(t, op("PUT", "server", "s", `"title":"b"`)))
		require.Equal(t, "success", code(t, patch("server", "s", `"title":"c"`, `"title":"x"`)))
		require.Equal(t, "a 0 1", row(t, "s"))
		require.Equal(t, "success", code(t, patch("server", "s", `"title":"c"`, `"title":"a","qty":0`)))
		require.Equal(t, "c 0 1", row(t, "s"))
	})

	t.Run("Reject", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "success", code(t, op("PUT", "reject", "r", `"title":"a"`)))
		require.Equal(t, "CONFLICT", code(t, op("PUT", "reject", "r", `"title":"b"`)))
		result := b.One(t, "alice", patch("reject", "r", `"title":"c"`, `"title":"x"`))
		require.Equal(t, "CONFLICT", result.FailedOperation.ErrorCode)
		require.Equal(t, "a", result.FailedOperation.Details["row"].(map[string]any)["title"])
		require.Equal(t, "success", code(t, patch("reject", "r", `"title":"c"`, `"title":"a"`)))
	})

	t.Run("HiddenRowsShowNothing", func(t *testing.T) {
		t.Parallel()
		b.db.Exec(t, `insert into docs (id, title, rev) values ('h', 'hidden', 7)`)
		for _, table := range []string{"version", "reject", "server", "fields"} {
			result := b.One(t, "alice", patch(table, "h", `"qty":1`, `"qty":0,"rev":3`))
			require.Equal(t, "UNAUTHORIZED", result.FailedOperation.ErrorCode, table)
			require.NotContains(t, fmt.Sprint(result.FailedOperation.Details), "hidden")
		}
	})

	t.Run("ManyWritersAtOnce", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "plain", "m", `"qty":1000,"rev":1`))
		var all sync.WaitGroup
		var mu sync.Mutex
		applied := 0
		for i := range 20 {
			all.Go(func() {
				b.One(t, "alice", patch("increment", "m", fmt.Sprintf(`"qty":%d`, 990), `"qty":1000`))
				if b.One(t, "alice", patch("version", "m", fmt.Sprintf(`"title":"%d"`, i), `"rev":1`)).Status == "success" {
					mu.Lock()
					applied++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, applied, "one writer of a version wins")
		require.Equal(t, "800 2", b.db.Text(t, `select qty || ' ' || rev from docs where id = 'm'`), "and no increment is lost")
	})
}

// TestRowsThatChangeMeanwhile has another writer commit after an operation has
// judged the row, and before it says why it left it alone.
func TestRowsThatChangeMeanwhile(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table docs (id text primary key, title text, owner uuid, secret text);
		create function gate() returns boolean language sql volatile as $$ select pg_advisory_xact_lock(77) is not null $$;
		alter table docs enable row level security;
		create policy visible on docs to authenticated using (gate() and owner = auth.uid());
		grant select (id, title, owner), insert, update, delete on docs to authenticated;`, `
tables:
  reject: {table: docs, allow: all, writable: [title], conflict: reject}
  plain: {table: docs, allow: all, writable: [title]}`)
	alices, bobs := "'"+rig.UserID("alice")+"'", "'"+rig.UserID("bob")+"'"
	for _, test := range []struct{ name, before, meanwhile, crud, outcome, after string }{
		{"BecomesAsExpected", alices, `title = 'seen'`, patch("reject", "1", `"title":"new"`, `"title":"seen"`), "success", "new"},
		{"BecomesAnother", alices, `title = 'third'`, patch("reject", "1", `"title":"new"`, `"title":"seen"`), "CONFLICT", "third"},
		{"BecomesHidden", alices, `owner = ` + bobs, patch("reject", "1", `"title":"new"`, `"title":"seen"`), "UNAUTHORIZED", "first"},
		{"BecomesVisible", bobs, `owner = ` + alices, op("PATCH", "plain", "1", `"title":"new"`), "success", "new"},
		{"StaysHidden", bobs, `title = 'third'`, op("PATCH", "plain", "1", `"title":"new"`), "UNAUTHORIZED", "third"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			b.db.Exec(t, `delete from docs; insert into docs (id, title, owner, secret) values ('1', 'first', `+test.before+`, 'x')`)
			gate, err := pgx.Connect(ctx, b.db.OwnerURL)
			require.NoError(t, err)
			defer gate.Close(context.WithoutCancel(ctx))
			_, err = gate.Exec(ctx, `select pg_advisory_lock(77)`)
			require.NoError(t, err)
			outcome := make(chan string)
			go func() {
				result := b.One(t, "alice", test.crud)
				if result.FailedOperation != nil {
					require.NotContains(t, fmt.Sprint(result.FailedOperation.Details), "secret:x")
					result.Status = result.FailedOperation.ErrorCode
				}
				outcome <- result.Status
			}()
			require.Eventually(t, func() bool {
				return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`) == "1"
			}, 10*time.Second, time.Millisecond)
			b.db.Exec(t, `update docs set `+test.meanwhile)
			_, err = gate.Exec(ctx, `select pg_advisory_unlock(77)`)
			require.NoError(t, err)
			require.Equal(t, test.outcome, <-outcome)
			require.Equal(t, test.after, b.db.Text(t, `select title from docs`))
		})
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table notes (id text primary key, text text, owner uuid not null, parent text, secret text);
		grant select, insert, update, delete on notes to authenticated;`, `
tables:
  notes:
    allow: all
    owner: owner
    immutable: [parent]
    writable: [text, parent, owner]
    defaults: {text: "'untitled'"}
    set: {secret: {value: "'by ' + auth.claims.email", on: [put]}}`)
	b.succeed(t, "alice", op("PUT", "notes", "1", `"parent":"p"`))
	text := func() string {
		return b.db.Text(t, `select concat_ws(' ', text, parent, secret, owner) from notes where id = '1'`)
	}
	require.Equal(t, "untitled p by alice@example.com "+rig.UserID("alice"), text())
	for _, crud := range []string{op("PUT", "notes", "1", `"text":"x"`), op("PATCH", "notes", "1", `"text":"x"`), op("DELETE", "notes", "1", "")} {
		require.Equal(t, "UNAUTHORIZED", b.One(t, "bob", crud).FailedOperation.ErrorCode, crud)
	}
	require.Equal(t, "UNAUTHORIZED", b.One(t, "alice", op("PATCH", "notes", "1", `"owner":"`+rig.UserID("bob")+`"`)).FailedOperation.ErrorCode)
	require.Equal(t, "UNAUTHORIZED", b.One(t, "alice", op("PATCH", "notes", "1", `"secret":"x"`)).FailedOperation.ErrorCode)
	require.Equal(t, "IMMUTABLE_COLUMN", b.One(t, "alice", op("PATCH", "notes", "1", `"parent":"q"`)).FailedOperation.ErrorCode)
	require.Equal(t, "IMMUTABLE_COLUMN", b.One(t, "alice", op("PUT", "notes", "1", `"parent":"q"`)).FailedOperation.ErrorCode)
	b.succeed(t, "alice", op("PUT", "notes", "1", `"parent":"p","text":"mine","owner":"`+rig.UserID("alice")+`"`))
	require.Equal(t, "mine p by alice@example.com "+rig.UserID("alice"), text())
	b.succeed(t, "alice", op("DELETE", "notes", "1", ""))
}

func TestRules(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table lists2 (id text primary key, name text not null, archived boolean not null default false);
		create table todos2 (id text primary key, list_id text references lists2, title text, state text not null default 'open', priority int, due timestamptz, tags text[], extra jsonb, done_at timestamptz);
		grant select, insert, update, delete on lists2, todos2 to authenticated;
		create function stamp() returns trigger language plpgsql as $$begin if new.state = 'done' then new.done_at = now(); end if; return new; end$$;
		create trigger stamp before insert or update on todos2 for each row execute function stamp();`, `
tables:
  lists: {table: lists2, allow: all}
  todos:
    table: todos2
    allow: all
    client: [FOREIGN_KEY_VIOLATION]
    rules:
      - {name: title-length, on: [put, patch], when: "has(data.title)", check: "data.title != null && length(data.title) <= 10", code: TITLE_TOO_LONG, message: At most ten characters, details: {most: "10", sent: "data.title.size()"}}
      - name: state-machine
        on: [patch]
        when: has(data.state)
        check: "old == null || old.state == new.state || [old.state, new.state] in [['open', 'started'], ['started', 'done']]"
        code: WRONG_STATE
        message: A task is started before it is done
      - name: open-list
        on: [put, patch]
        lookup: {list: "select archived from lists2 where id = $new.list_id"}
        check: "lookup.list == null || !lookup.list.archived"
        code: LIST_ARCHIVED
        message: The list is archived
        client: true
      - {name: stamped, on: [put, patch], when: "new.state == 'done'", check: "new.done_at != null && new.done_at <= now + duration('1h')", code: NOT_STAMPED, message: The trigger stamps what is done}
      - {name: due-after-now, on: [put], when: "has(data.due)", check: "data.due == null || data.due > timestamp('2020-01-01T00:00:00Z')", code: TOO_OLD, message: Too old}
      - {name: mine, on: [delete], check: "old == null || old.state != 'done' || auth.claims.email == 'boss@example.com'", code: NOT_YOURS, message: Only the boss deletes what is done}
      - {name: fails, on: [put], when: "id == 'boom'", check: "parseJson(metadata).x", code: NEVER, message: never}
      - {name: tags, on: [put], when: "has(data.tags)", check: "new.tags == null || new.tags.size() <= 2", code: TOO_MANY_TAGS, message: Two tags at most}
      - {name: extra, on: [put], when: "has(data.extra)", check: "data.extra == null || !has(data.extra.admin)", code: NO_ADMIN, message: No}
transaction:
  rules:
    - {name: not-too-many, check: "tx.filter(o, o.table == 'todos').size() <= 5", code: TOO_MANY, message: Five at most}`)
	code := func(t *testing.T, user, crud string) string {
		result := b.One(t, user, crud)
		if result.FailedOperation == nil {
			return result.Status
		}
		return result.FailedOperation.ErrorCode
	}
	b.succeed(t, "alice", op("PUT", "lists", "l", `"name":"open"`)+","+op("PUT", "lists", "a", `"name":"old","archived":1`))

	for _, test := range []struct{ name, crud, want string }{
		{"Good", op("PUT", "todos", "1", `"title":"short","list_id":"l"`), "success"},
		{"TooLong", op("PUT", "todos", "2", `"title":"much too long a title"`), "TITLE_TOO_LONG"},
		{"CharactersAsPeopleCount", op("PUT", "todos", "3", `"title":"👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦"`), "success"},
		{"Lookup", op("PUT", "todos", "4", `"list_id":"a"`), "LIST_ARCHIVED"},
		{"LookupOfARowOfTheSameTransaction", op("PUT", "lists", "new", `"name":"n","archived":true`) + "," + op("PUT", "todos", "5", `"list_id":"new"`), "LIST_ARCHIVED"},
		{"LookupOfARowThatIsNotThere", op("PUT", "todos", "6", ``), "success"},
		{"TriggerSeen", op("PUT", "todos", "7", `"state":"done"`), "success"},
		{"Timestamps", op("PUT", "todos", "8", `"due":"2019-12-31T23:00:00Z"`), "TOO_OLD"},
		{"Arrays", op("PUT", "todos", "9", `"tags":"[\"a\",\"b\",\"c\"]"`), "TOO_MANY_TAGS"},
		{"JSON", op("PUT", "todos", "10", `"extra":"{\"admin\":true}"`), "NO_ADMIN"},
		{"JSONAllowed", op("PUT", "todos", "11", `"extra":{"note":"x"}`), "success"},
		{"ARuleThatFails", op("PUT", "todos", "boom", ``), "retryable_error"},
		{"Directed", op("PUT", "todos", "12", `"list_id":"nobody"`), "FOREIGN_KEY_VIOLATION"},
		{"WholeTransaction", strings.Repeat(op("DELETE", "todos", "x", "")+",", 5) + op("DELETE", "todos", "y", ""), "TOO_MANY"},
		{"PatchOfNothing", op("PATCH", "todos", "nowhere", `"state":"done"`), "success"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, code(t, "alice", test.crud))
		})
	}

	t.Run("StateMachine", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "todos", "s", `"title":"task"`))
		require.Equal(t, "WRONG_STATE", code(t, "alice", op("PATCH", "todos", "s", `"state":"done"`)))
		require.Equal(t, "success", code(t, "alice", op("PATCH", "todos", "s", `"state":"started"`)+","+op("PATCH", "todos", "s", `"state":"done"`)), "operations see those before them")
		require.Equal(t, "NOT_YOURS", code(t, "alice", op("DELETE", "todos", "s", "")))
		require.Equal(t, "success", code(t, "boss", op("DELETE", "todos", "s", "")))
	})

	t.Run("DetailsAndHandling", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "lists", "h", `"name":"held","archived":1`))
		long := b.One(t, "alice", op("PUT", "todos", "d", `"title":"much too long"`))
		require.Equal(t, map[string]any{"most": 10.0, "sent": 13.0}, long.FailedOperation.Details)
		require.False(t, *long.RequiresClientHandling)
		archived := b.Upload(t, "alice", `{"client_id":"its own","transactions":[{"transaction_id":1,"crud":[`+op("PUT", "todos", "d", `"list_id":"h"`)+`]},{"crud":[`+op("PUT", "todos", "after", "")+`]}]}`).Results(t)
		require.True(t, *archived[0].RequiresClientHandling)
		require.Equal(t, "not_attempted", archived[1].Status, "a transaction that the client keeps ends the request")
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.receipts where outcome = 'rejected' and digest in (select digest from postern.rejected_writes where code = 'LIST_ARCHIVED')`))
		require.Equal(t, "open-list held", b.db.Text(t, `select distinct rule || ' ' || status from postern.rejected_writes where code = 'LIST_ARCHIVED' and transaction_id = 1`))
		b.db.Exec(t, `update lists2 set archived = false where id = 'h'`)
		require.Equal(t, "success", b.Upload(t, "alice", `{"client_id":"its own","transactions":[{"transaction_id":1,"crud":[`+op("PUT", "todos", "d", `"list_id":"h"`)+`]}]}`).Results(t)[0].Status)
		require.Equal(t, "resolved", b.db.Text(t, `select status from postern.rejected_writes where code = 'LIST_ARCHIVED' and transaction_id = 1`))
	})

	t.Run("AmongOthers", func(t *testing.T) {
		t.Parallel()
		results := b.Upload(t, "alice", `{"transactions":[{"crud":[`+op("PUT", "todos", "o1", "")+`]},{"crud":[`+op("PUT", "todos", "o2", "")+","+op("PATCH", "todos", "o2", `"state":"done"`)+`]},{"crud":[`+op("PUT", "todos", "o3", "")+`]}]}`).Results(t)
		require.Equal(t, "success", results[0].Status)
		require.Equal(t, "WRONG_STATE", results[1].FailedOperation.ErrorCode)
		require.Equal(t, 1, *results[1].FailedOperation.OperationIndex)
		require.Equal(t, "success", results[2].Status)
		require.Equal(t, "o1,o3", b.db.Text(t, `select string_agg(id, ',' order by id) from todos2 where id like 'o_'`))
	})
}

func TestRates(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table pings (id text primary key); grant select, insert, update, delete on pings to authenticated;`, `
tables: {pings: {allow: all, rate: {most: 3, per: 1h}}, free: {table: pings, allow: all}}
rate: {most: 100, per: 1h}`)
	one := func(user, table, id string) rig.Result { return b.One(t, user, op("PUT", table, id, "")) }
	for i := range 3 {
		require.Equal(t, "success", one("alice", "pings", fmt.Sprint(i)).Status)
	}
	fourth := one("alice", "pings", "4")
	require.Equal(t, "retryable_error", fourth.Status)
	require.Greater(t, fourth.RetryAfterMS, 60_000)
	require.Equal(t, "success", one("bob", "pings", "5").Status)
	require.Equal(t, "success", one("alice", "free", "6").Status)
	again := `{"client_id":"a phone","transactions":[{"transaction_id":1,"crud":[` + op("PUT", "pings", "7", "") + `]}]}`
	for range 3 {
		require.Equal(t, "success", b.Upload(t, "carol", again).Results(t)[0].Status)
	}
	require.Equal(t, "success", b.Upload(t, "carol", `{"transactions":[{"crud":[`+op("PUT", "pings", "8", "")+`,`+op("PUT", "pings", "9", "")+`]}]}`).Results(t)[0].Status,
		"what is sent again is charged once")
	require.Equal(t, "retryable_error", one("carol", "pings", "10").Status)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}

// folderOfPolicies is a folder that is written as editors do it, and its policies.
func folderOfPolicies(t *testing.T, yaml string) (write func(yaml string), live *policies.Live) {
	t.Helper()
	dir := t.TempDir()
	write = func(yaml string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "app.tmp"), []byte(yaml), 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, "app.tmp"), filepath.Join(dir, "app.yaml")))
	}
	write(yaml)
	live, err := policies.Load(dir)
	require.NoError(t, err)
	return write, live
}

func TestReload(t *testing.T) {
	t.Parallel()
	write, live := folderOfPolicies(t, `tables: {lists: {allow: [put]}}`)
	s := rig.NewServiceOn(t, rig.NewDatabase(t), live)
	const id = "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10"
	require.Equal(t, "success", s.One(t, "alice", op("PUT", "lists", id, `"name":"x"`)).Status)
	first := live.SHA256()

	for _, bad := range []struct{ yaml, why string }{
		{`tables: {lists: {allow: [put, delete], columns: {name: nmae}}}`, `did you mean \"name\"?`},
		{`tables: {lists: {allow: [put, delete], rules: [{name: r, lookup: {l: "select nmae from lists where id = $id"}, check: lookup.l == null, code: NO, message: No}]}}`, `column \"nmae\" does not exist`},
	} {
		write(bad.yaml)
		require.Eventually(t, func() bool { return strings.Contains(s.Logs.String(), bad.why) }, 10*time.Second, 10*time.Millisecond)
		require.Contains(t, s.Logs.String(), "the new policies are not taken")
		require.Equal(t, first, live.SHA256())
		require.Equal(t, "UNAUTHORIZED", s.One(t, "alice", op("DELETE", "lists", id, "")).FailedOperation.ErrorCode)
		require.Equal(t, http.StatusOK, s.Send(t, http.MethodGet, "/readyz", "").Status)
	}

	write(`tables: {lists: {allow: [put, delete]}}`)
	require.Eventually(t, func() bool { return live.SHA256() != first }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, "success", s.One(t, "alice", op("DELETE", "lists", id, "")).Status)
	require.JSONEq(t, `{"status":"ready"}`, s.Send(t, http.MethodGet, "/readyz", "").Body, "it tells strangers nothing of policies")
	metrics := httptest.NewRecorder()
	s.Metrics.ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Contains(t, metrics.Body.String(), `postern_policies_info{sha256="`+live.SHA256()+`"} 1`)
}

// TestReloadWithAMigration is that policies are taken whether they come just after
// the migration that they are for, or before it.
func TestReloadWithAMigration(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	write, live := folderOfPolicies(t, `tables: {lists: {allow: all}}`)
	s := rig.NewServiceOn(t, database, live)
	taken := func(table string) {
		require.Eventually(t, func() bool {
			result := s.One(t, "alice", op("PUT", table, "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", ""))
			return result.Status == "success"
		}, 20*time.Second, 20*time.Millisecond, table)
		require.NoError(t, live.Problem())
	}

	database.Exec(t, `create table fresh (id uuid primary key); grant select, insert, update, delete on fresh to authenticated`)
	write(`tables: {fresh: {allow: all}}`)
	taken("fresh")

	write(`tables: {fresher: {allow: all}}`)
	require.Eventually(t, func() bool { return live.Problem() != nil }, 10*time.Second, 10*time.Millisecond)
	database.Exec(t, `create table fresher (id uuid primary key); grant select, insert, update, delete on fresher to authenticated`)
	taken("fresher")
}

func TestLookupsThatCannotRun(t *testing.T) {
	t.Parallel()
	s := rig.NewServiceUnready(t, rig.NewDatabase(t), rig.Policies(t, `
tables:
  lists:
    allow: all
    rules: [{name: r, lookup: {l: "select nmae from lists where id = $id"}, check: lookup.l == null, code: NO, message: No}]`))
	require.Eventually(t, func() bool {
		unready := s.Send(t, http.MethodGet, "/readyz", "")
		return strings.Contains(unready.Body, "the policies cannot be used") && strings.Contains(s.Logs.String(), `column \"nmae\" does not exist`)
	}, 10*time.Second, 10*time.Millisecond)
}

// TestLookupsPutRight is that what a lookup lacked may come without a change of
// policies or tables.
func TestLookupsPutRight(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	s := rig.NewServiceUnready(t, database, rig.Policies(t, `
tables:
  lists:
    allow: all
    rules: [{name: r, lookup: {l: "select name from archive where id = $id"}, check: lookup.l == null, code: NO, message: No}]`))
	require.Eventually(t, func() bool {
		unready := s.Send(t, http.MethodGet, "/readyz", "")
		return strings.Contains(unready.Body, "the policies cannot be used") && strings.Contains(s.Logs.String(), `relation \"archive\" does not exist`)
	}, 10*time.Second, 10*time.Millisecond)
	database.Exec(t, `create view archive as select * from lists where false; grant select on archive to authenticated`)
	require.Eventually(t, func() bool { return s.Send(t, http.MethodGet, "/readyz", "").Status == http.StatusOK }, 10*time.Second, 50*time.Millisecond)
}

// sell is the example of a rule in Go: a sale takes stock under a lock, is refused
// where there is too little, and leaves a line in the ledger.
var sell = policies.CodeRule{
	Name:   "sell",
	Tables: []string{"sales"},
	Decide: func(ctx context.Context, tx *policies.Tx) error {
		for i, op := range tx.Operations {
			if op.Table != "sales" || op.Op != wire.Put {
				continue
			}
			var item string
			var qty, left int
			for _, m := range op.Data {
				switch m.Name {
				case "item":
					item = strings.Trim(string(m.Value), `"`)
				case "qty":
					qty, _ = strconv.Atoi(string(m.Value))
				}
			}
			err := tx.DB.QueryRow(ctx, `update stock set qty = qty - $1 where item = $2 returning qty`, qty, item).Scan(&left)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return policies.NewRejection("NO_SUCH_ITEM", "There is no such item", i)
			case err != nil:
				return err
			case left < 0:
				return policies.NewRejection("OUT_OF_STOCK", "There are not that many left", i)
			}
			tx.Operations = append(tx.Operations, wire.Operation{Op: wire.Put, Table: "ledger", ID: op.ID + "-line", Data: []wire.Member{{Name: "note", Value: []byte(fmt.Sprintf(`"%d of %s"`, qty, item))}}})
		}
		return nil
	},
}

func TestRulesInGo(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `
		create table stock (item text primary key, qty int not null);
		create table sales (id text primary key, item text, qty int);
		create table ledger (id text primary key, note text);
		grant select, insert, update, delete on stock, sales, ledger to authenticated;
		insert into stock values ('tea', 5)`)
	s := rig.NewServiceOn(t, database, rig.Policies(t, `tables: {sales: {allow: all}, ledger: {allow: all}}`).WithCode(sell))
	b := &testBundle{Service: s, db: database}
	state := func() string {
		return database.Text(t, `select (select qty from stock) || ' ' || (select count(*) from sales) || ' ' || (select count(*) from ledger)`)
	}
	sale := func(id string, qty int) string {
		return op("PUT", "sales", id, fmt.Sprintf(`"item":"tea","qty":%d`, qty))
	}
	b.succeed(t, "alice", sale("1", 3))
	require.Equal(t, "2 1 1", state())
	result := b.One(t, "alice", op("PUT", "ledger", "other", "")+","+sale("2", 3))
	require.Equal(t, "OUT_OF_STOCK", result.FailedOperation.ErrorCode)
	require.Equal(t, 1, *result.FailedOperation.OperationIndex)
	require.Equal(t, "sell", database.Text(t, `select rule from postern.rejected_writes`))
	require.Equal(t, "2 1 1", state(), "nothing of it has happened")

	results := b.Upload(t, "alice", `{"transactions":[{"transaction_id":1,"crud":[`+sale("3", 1)+`]},{"transaction_id":2,"crud":[`+sale("4", 9)+`]},{"transaction_id":3,"crud":[`+sale("5", 1)+`]}]}`).Results(t)
	require.Equal(t, "success", results[0].Status)
	require.Equal(t, "OUT_OF_STOCK", results[1].FailedOperation.ErrorCode)
	require.Equal(t, "success", results[2].Status)
	require.Equal(t, "0 3 3", state())

	database.Exec(t, `update stock set qty = 10`)
	var all sync.WaitGroup
	var sold atomic.Int64
	for i := range 15 {
		all.Go(func() {
			if b.One(t, "alice", sale(fmt.Sprint("c", i), 1)).Status == "success" {
				sold.Add(1)
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(10), sold.Load())
	require.Equal(t, "0 13 13", state())
}

// TestHistory has what each operation adds to a history: what was stored before and
// after it, whatever the device claims.
func TestHistory(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table tasks (id text primary key, title text, points int, done boolean default false, at timestamptz, tags text[], doubled int generated always as (points * 2) stored, gone boolean not null default false);
		create table softly (like tasks including all);
		create table inserted (like tasks including all);
		alter table inserted enable row level security; create policy i on inserted for insert to authenticated with check (true);
		create table task_changes (n bigint generated always as identity primary key, row_id text, field text, previous jsonb, value jsonb, metadata text, by uuid default auth.uid());
		create table texts (n bigint generated always as identity primary key, row_id varchar(9), field text, previous text, value json);
		grant select, insert, update, delete on tasks, softly, task_changes, texts to authenticated; grant insert on inserted to authenticated;`, `
tables:
  tasks: {allow: all, history: task_changes}
  softly: {allow: all, history: task_changes, soft_delete: gone}
  replaced: {table: tasks, allow: all, put: replace, history: task_changes}
  inserted: {allow: [put], put: insert, history: task_changes}
  in_texts: {table: tasks, allow: all, history: texts}
  set: {table: tasks, allow: all, set: {points: "7"}, history: task_changes}
  owned: {table: tasks, allow: all, owner: title, history: task_changes}`)
	first := func(table, id string) string { return op("PUT", table, id, `"title":"a","points":1,"done":1`) + "," }
	for _, test := range []struct{ name, crud, want, query string }{
		{"Put", op("PUT", "tasks", "put", `"title":"a","points":1,"done":0,"at":null,"doubled":3`), `title null "a", points null 1, done null false`, ""},
		{"PutOfARowThatExists", first("tasks", "merge") + op("PUT", "tasks", "merge", `"title":"b","points":1`), `title null "a", points null 1, done null true, title "a" "b"`, ""},
		{"Patch", first("tasks", "patch") + patch("tasks", "patch", `"title":"b","points":1,"done":0,"tags":["x"]`, `"title":"claimed","points":9`), `title null "a", points null 1, done null true, title "a" "b", done true false, tags null ["x"]`, ""},
		{"PatchToNull", first("tasks", "null") + op("PATCH", "tasks", "null", `"title":null`), `title null "a", points null 1, done null true, title "a" null`, ""},
		{"PatchOfNoRow", op("PATCH", "tasks", "nowhere", `"title":"b"`), "", ""},
		{"Delete", first("tasks", "delete") + op("DELETE", "tasks", "delete", ""), `title null "a", points null 1, done null true, title "a" null, points 1 null, done true null, gone false null`, ""},
		{"DeleteOfNoRow", op("DELETE", "tasks", "nothing", ""), "", ""},
		{"SoftDelete", op("PUT", "softly", "soft", `"title":"a"`) + "," + op("DELETE", "softly", "soft", "") + "," + op("DELETE", "softly", "soft", ""), `title null "a", gone false true`, ""},
		{"Replace", op("PUT", "replaced", "replace", `"title":"a","points":1`) + "," + op("PUT", "replaced", "replace", `"title":"b"`), `title null "a", points null 1, title "a" "b", points 1 null`, ""},
		{"InsertOfARowThatIsHidden", op("PUT", "inserted", "hidden", `"title":"a","points":"2","done":1`), `title null "a", points null 2, done null true`, ""},
		{"SetByThePolicy", op("PUT", "set", "set", `"title":"a","points":1`) + "," + op("PATCH", "set", "set", `"title":"b","points":2`), `title null "a", title "a" "b"`, ""},
		{"InText", first("in_texts", "text") + op("PATCH", "in_texts", "text", `"title":"b","done":0,"tags":["x"]`), `title "a", points 1, done true, title a "b", done true false, tags ["x"]`,
			`select string_agg(concat_ws(' ', field, previous, value), ', ' order by n) from texts where row_id = $1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b.succeed(t, "alice", test.crud)
			id := regexp.MustCompile(`"id":"(\w+)"`).FindStringSubmatch(test.crud)[1]
			query := cmp.Or(test.query, `select coalesce(string_agg(concat_ws(' ', field, coalesce(previous::text, 'null'), coalesce(value::text, 'null')), ', ' order by n), '') from task_changes where row_id = $1`)
			require.Equal(t, test.want, b.db.Text(t, query, id))
		})
	}
	t.Run("Metadata", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", `{"op":"PUT","table":"tasks","id":"noted","op_data":{"title":"b"},"metadata":"by hand"}`)
		require.Equal(t, "title by hand", b.db.Text(t, `select concat_ws(' ', field, metadata) from task_changes where row_id = 'noted' and by = $1`, rig.UserID("alice")))
	})
	t.Run("OfARowThatIsNotOnesOwn", func(t *testing.T) {
		t.Parallel()
		b.succeed(t, "alice", op("PUT", "owned", "own", ""))
		require.Equal(t, "UNAUTHORIZED", b.One(t, "bob", op("PATCH", "owned", "own", `"points":1`)).FailedOperation.ErrorCode)
		require.Equal(t, "0", b.db.Text(t, `select count(*) from task_changes where row_id = 'own'`))
	})
}

// TestHistoryAfterAnotherWriter has operations wait for another writer of their row. The
// value before is what that writer has left, not what was there when they arrived.
func TestHistoryAfterAnotherWriter(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table tasks (id text primary key, n int, gone boolean not null default false);
		create table softly (like tasks including all);
		create table task_changes (row_id text, field text, previous jsonb, value jsonb);
		grant select, insert, update, delete on tasks, softly, task_changes to authenticated;`,
		`tables: {tasks: {allow: all, history: task_changes}, softly: {allow: all, history: task_changes, soft_delete: gone}}`)
	for _, test := range []struct{ name, before, other, crud, want string }{
		{"Put", `insert into tasks values ('1', 1)`, `update tasks set n = 2`, op("PUT", "tasks", "1", `"n":3`), "n 2 3"},
		{"Patch", `insert into tasks values ('1', 1)`, `update tasks set n = 2`, op("PATCH", "tasks", "1", `"n":3`), "n 2 3"},
		{"PatchToTheSame", `insert into tasks values ('1', 1)`, `update tasks set n = 3`, op("PATCH", "tasks", "1", `"n":3`), "<null>"},
		{"Delete", `insert into tasks values ('1', 1)`, `update tasks set n = 2`, op("DELETE", "tasks", "1", ""), "gone false null, n 2 null"},
		{"PutOfARowThatAppears", `select`, `insert into tasks values ('1', 2)`, op("PUT", "tasks", "1", `"n":3`), "n 2 3"},
		{"PutOfARowThatDisappears", `insert into tasks values ('1', 1)`, `delete from tasks`, op("PUT", "tasks", "1", `"n":3`), "n null 3"},
		{"PatchOfARowThatDisappears", `insert into tasks values ('1', 1)`, `delete from tasks`, op("PATCH", "tasks", "1", `"n":3`), "<null>"},
		{"SoftDelete", `insert into softly values ('1', 1)`, `update softly set gone = true`, op("DELETE", "softly", "1", ""), "<null>"},
	} {
		b.db.Exec(t, `truncate tasks, softly, task_changes; `+test.before)
		other, err := b.db.Owner.Begin(t.Context())
		require.NoError(t, err)
		defer other.Rollback(context.WithoutCancel(t.Context()))
		_, err = other.Exec(t.Context(), test.other)
		require.NoError(t, err)
		outcome := make(chan string)
		go func() { outcome <- b.outcome(t, "alice", test.crud) }()
		require.Eventually(t, func() bool {
			return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
		}, 10*time.Second, time.Millisecond, test.name)
		require.NoError(t, other.Commit(t.Context()))
		require.Equal(t, "success", <-outcome, test.name)
		require.Equal(t, test.want, b.db.Text(t, `select string_agg(concat_ws(' ', field, coalesce(previous::text, 'null'), coalesce(value::text, 'null')), ', ' order by field) from task_changes`), test.name)
	}
}

// TestNowRises has transactions of one request make rows. Their times follow the order
// of the operations, and stay as they are.
func TestNowRises(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table notes (id int primary key, title text, created_at timestamptz);
		grant select, insert, update, delete on notes to authenticated;`,
		`tables: {notes: {allow: all, set: {created_at: now}, immutable: [created_at]}}`)
	var transactions []string
	for i := range 20 {
		var crud []string
		for j := range 10 {
			crud = append(crud, op("PUT", "notes", fmt.Sprint(10*i+j), `"title":"x"`))
		}
		transactions = append(transactions, fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, i+1, strings.Join(crud, ",")))
	}
	for _, result := range b.Upload(t, "alice", `{"client_id":"c","transactions":[`+strings.Join(transactions, ",")+`]}`).Results(t) {
		require.Equal(t, "success", result.Status)
	}
	require.Equal(t, "200 0.000199", b.db.Text(t, `select concat_ws(' ', count(distinct created_at), extract(epoch from max(created_at) - min(created_at))) from notes`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from (select id, row_number() over (order by created_at) - 1 as at from notes) n where id <> at`))
	before := b.db.Text(t, `select max(created_at)::text from notes`)
	b.succeed(t, "alice", op("PUT", "notes", "199", `"title":"y"`)+","+op("PATCH", "notes", "199", `"title":"z"`))
	require.Equal(t, before, b.db.Text(t, `select max(created_at)::text from notes`))
}

// TestTablesThatChange changes tables under a running service, which reads them
// again when a transaction does not fit, at most once a second.
func TestTablesThatChange(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table notes (id text primary key, text text, owner uuid, extra int);
		create table other (id text primary key);
		grant select, insert, update, delete on notes, other to authenticated`, `
tables:
  notes: {allow: all, owner: owner}
  other: {allow: all}`)
	b.succeed(t, "alice", op("PUT", "notes", "1", `"text":"x","extra":1`))
	becomes := func(crud, want string) {
		require.Eventually(t, func() bool {
			result := b.One(t, "alice", crud)
			return result.Status == want || result.FailedOperation != nil && result.FailedOperation.ErrorCode == want
		}, 10*time.Second, 50*time.Millisecond, "%s: %s", crud, want)
	}
	b.db.Exec(t, `alter table notes add column colour text; alter table notes drop column extra`)
	becomes(op("PATCH", "notes", "1", `"colour":"red"`), "success")
	becomes(op("PATCH", "notes", "1", `"extra":2`), "SCHEMA_MISMATCH")

	b.db.Exec(t, `drop table notes; create table notes (id text primary key, text text); grant select, insert, update, delete on notes to authenticated`)
	becomes(op("PUT", "notes", "3", `"text":"y"`), "retryable_error")
	require.Contains(t, b.Logs.String(), `no longer has column \"owner\"`)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from notes`))
	b.succeed(t, "alice", op("PUT", "other", "1", ""))
	notReady(t, b.Service, "the policies cannot be used")

	b.db.Exec(t, `alter table notes add column owner uuid`)
	becomes(op("PUT", "notes", "3", `"text":"y"`), "success")
	b.AwaitReady(t)

	b.db.Exec(t, `alter table other rename to gone`)
	becomes(op("PUT", "other", "2", ""), "retryable_error")
	notReady(t, b.Service, "the policies cannot be used")
}

// TestRulesLockInOneOrder has many requests need the same rows, each in an order
// of its own.
func TestRulesLockInOneOrder(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table seats (show int, row text, taken int not null default 0, primary key (show, row));
		create table halls (id bigint primary key, visits int not null default 0);
		grant select, insert, update, delete on seats, halls to authenticated;
		insert into seats select 1, r from unnest(array['a', 'b', 'c', 'd']) r;
		insert into halls select generate_series(1, 4);`, `
tables:
  seats: {allow: [patch], id: [show, row], rules: [{name: r, check: "old == null || new.taken >= 0", code: NO, message: No}]}
  halls: {allow: [patch], rules: [{name: r, check: "old == null || new.visits >= 0", code: NO, message: No}]}`)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 10 {
				var crud []string
				for _, n := range rand.Perm(4) {
					crud = append(crud, op("PATCH", "seats", "1:"+string(rune('a'+n)), fmt.Sprintf(`"taken":%d`, i)), op("PATCH", "halls", fmt.Sprint(n+1), fmt.Sprintf(`"visits":%d`, i)))
				}
				if result := b.One(t, "alice", strings.Join(crud, ",")); result.Status != "success" {
					t.Errorf("%+v", result)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, "0", b.db.Text(t, `select deadlocks from pg_stat_database where datname = current_database()`))
}

// TestRulesOverRowsTheWriterCannotSee is a table that is only inserted into.
func TestRulesOverRowsTheWriterCannotSee(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table log (id text primary key, line text, level int default 1);
		alter table log enable row level security;
		create policy i on log for insert to authenticated with check (true);
		grant select, insert on log to authenticated;`, `
tables:
  log: {allow: [put], put: insert, rules: [{name: r, check: "old == null && new.line != 'bad' && new.level != 9", code: NO, message: No}]}`)
	b.succeed(t, "alice", op("PUT", "log", "1", `"line":"good"`))
	require.Equal(t, "NO", b.One(t, "alice", op("PUT", "log", "2", `"line":"bad"`)).FailedOperation.ErrorCode)
	require.Equal(t, "1", b.db.Text(t, `select count(*) from log`))
}

// TestQuota is the README's: a lookup that counts.
// TestRulesOverRowsTheWriterMayOnlyDelete are deletes by users who may not change,
// and so not lock, the row: by grants, or by row-level security.
func TestRulesOverRowsTheWriterMayOnlyDelete(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table bills (id text primary key, state text);
		alter table bills enable row level security;
		create policy s on bills for select to authenticated using (true);
		create policy d on bills for delete to authenticated using (true);
		grant select, update, delete on bills to authenticated;
		create table drafts (id text primary key, state text);
		grant select, delete on drafts to authenticated;`, `
tables:
  bills: {allow: [delete], rules: [{name: r, check: old.state != 'paid', code: PAID, message: No}]}
  drafts: {allow: [delete], rules: [{name: r, check: old.state != 'paid', code: PAID, message: No}]}`)
	for _, table := range []string{"bills", "drafts"} {
		t.Run(table, func(t *testing.T) {
			b.db.Exec(t, `insert into `+table+` values ('1', 'paid'), ('2', 'open'), ('3', 'open')`)
			require.Equal(t, "PAID", b.One(t, "alice", op("DELETE", table, "1", "")).FailedOperation.ErrorCode)
			b.succeed(t, "alice", op("DELETE", table, "2", ""))

			ctx := t.Context()
			other, err := b.db.Owner.Begin(ctx)
			require.NoError(t, err)
			defer other.Rollback(context.WithoutCancel(ctx))
			_, err = other.Exec(ctx, `update `+table+` set state = 'paid' where id = '3'`)
			require.NoError(t, err)
			code := make(chan string)
			go func() { code <- b.One(t, "alice", op("DELETE", table, "3", "")).FailedOperation.ErrorCode }()
			require.Eventually(t, func() bool {
				return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
			}, 10*time.Second, time.Millisecond)
			require.NoError(t, other.Commit(ctx))
			require.Equal(t, "PAID", <-code, "it was paid before the delete could happen")
		})
	}
}

// TestRulesOverRowsThatAppear has 20 writers make one row, which a rule allows the
// first of them.
func TestRulesOverRowsThatAppear(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table seats (show int, place text, taken_by int, primary key (show, place));
		grant select, insert, update, delete on seats to authenticated`, `
tables:
  seats: {allow: [put], id: [show, place], rules: [{name: r, check: old == null, code: TAKEN, message: No}]}`)
	for round := range 10 {
		var all sync.WaitGroup
		var taken atomic.Int64
		for i := range 20 {
			all.Go(func() {
				if b.One(t, "alice", op("PUT", "seats", fmt.Sprint(round, ":a"), fmt.Sprintf(`"taken_by":%d`, i))).Status == "success" {
					taken.Add(1)
				}
			})
		}
		all.Wait()
		require.Equal(t, int64(1), taken.Load())
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table todos2 (id text primary key, created_by uuid not null);
		grant select, insert, update, delete on todos2 to authenticated;`, `
tables:
  todos:
    table: todos2
    allow: [put]
    set: {created_by: auth.sub}
    rules:
      - name: hundred-todos
        on: [put]
        lookup: {mine: "select count(*) as n from todos2 where created_by = $auth.sub"}
        check: old != null || lookup.mine.n < 3
        code: TOO_MANY_TODOS
        message: "Three to-dos at most"`)
	b.succeed(t, "alice", op("PUT", "todos", "1", "")+","+op("PUT", "todos", "2", "")+","+op("PUT", "todos", "3", ""))
	require.Equal(t, "TOO_MANY_TODOS", b.One(t, "alice", op("PUT", "todos", "4", "")).FailedOperation.ErrorCode)
	b.succeed(t, "alice", op("PUT", "todos", "3", ""))
	b.succeed(t, "bob", op("PUT", "todos", "b1", ""))
	result := b.One(t, "bob", op("PUT", "todos", "b2", "")+","+op("PUT", "todos", "b3", "")+","+op("PUT", "todos", "b4", ""))
	require.Equal(t, 2, *result.FailedOperation.OperationIndex, "each sees those before it")
}
