package rejected_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// page calls the console as its own page does, with changes to the request.
func (b *testBundle) page(t *testing.T, method, path, body string, changes ...func(*http.Request)) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:9091/console"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Postern-Console", "1")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "http://localhost:9091")
	for _, change := range changes {
		change(r)
	}
	w := httptest.NewRecorder()
	b.Metrics.ServeHTTP(w, r)
	content, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(content)
}

// get is the answer to a GET that succeeds.
func (b *testBundle) get(t *testing.T, path string, into any) {
	t.Helper()
	status, answer := b.page(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, status, answer)
	unmarshalPage(t, answer, into)
}

func unmarshalPage(t *testing.T, answer string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(answer), into, json.MatchCaseInsensitiveNames(true)), answer)
}

type consolePage struct {
	Rejected []struct{ ID, Code, Message, Subject, Status string }
	Next     string
	Total    int
}

const because = `{"by":"carol","reason":"the name is allowed now"}`

func TestConsoleFilters(t *testing.T) {
	b := setup(t)
	_, first := b.rejectedList(t, "alice", 1)
	_, second := b.rejectedList(t, "bob", 1)
	b.db.Exec(t, `update postern.rejected_writes set first_at = '2026-01-02T03:04:05Z' where id = $1`, first)
	status, answer := b.page(t, http.MethodPost, "/api/rejected/"+second+"/dismiss", because)
	require.Equal(t, http.StatusOK, status, answer)

	for _, test := range []struct {
		query string
		want  []string
	}{
		{"", []string{first}},
		{"?status=all", []string{first, second}},
		{"?status=dismissed,open", []string{first, second}},
		{"?status=dismissed", []string{second}},
		{"?status=all&user=" + b.bob, []string{second}},
		{"?status=all&table=lists&code=CHECK_VIOLATION", []string{first, second}},
		{"?status=all&table=todos", nil},
		{"?status=all&code=UNAUTHORIZED", nil},
		{"?status=all&since=2026-06-01", []string{second}},
		{"?status=all&older-than=1h", []string{first}},
	} {
		t.Run(test.query, func(t *testing.T) {
			var page consolePage
			b.get(t, "/api/rejected"+test.query, &page)
			var ids []string
			for _, r := range page.Rejected {
				ids = append(ids, r.ID)
			}
			require.Equal(t, test.want, ids)
			require.Equal(t, len(test.want), page.Total)
		})
	}
	for _, query := range []string{"?status=odd", "?since=soon", "?older-than=1x", "?after=x"} {
		t.Run(query, func(t *testing.T) {
			status, answer := b.page(t, http.MethodGet, "/api/rejected"+query, "")
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, answer, strings.Split(query[1:], "=")[0])
		})
	}
}

// A write is shown beside the row, a dry run changes nothing, and what is done is recorded
// with who did it and why.
func TestConsoleReplay(t *testing.T) {
	b := setup(t)
	list, record := b.rejectedList(t, "alice", 1)
	path := "/api/rejected/" + record

	var shown struct {
		Operations []struct {
			Op, Table, ID, Unread string
			Failed                bool
			AsAuthor              bool `json:"as_author"`
			Now                   map[string]any
			Wanted                []struct{ Column, Wanted string }
		}
		Actions []struct{ Action, Who, Note string }
	}
	b.get(t, path, &shown)
	require.Len(t, shown.Operations, 1)
	op := shown.Operations[0]
	require.Equal(t, []any{"PUT", "lists", list, true, "", true}, []any{op.Op, op.Table, op.ID, op.Failed, op.Unread, op.AsAuthor})
	require.Nil(t, op.Now)
	require.Equal(t, "name", op.Wanted[0].Column)

	_, answer := b.page(t, http.MethodPost, path+"/rehearse", "{}")
	require.Contains(t, answer, `"code":"CHECK_VIOLATION"`)
	status, answer := b.page(t, http.MethodPost, path+"/replay", because)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, `"code":"CHECK_VIOLATION"`)
	b.fix(t)
	_, answer = b.page(t, http.MethodPost, path+"/rehearse", "{}")
	require.Contains(t, answer, `"did":"inserted"`)
	require.Contains(t, answer, `"after":{`)
	require.Equal(t, "open", b.status(t, record))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))

	status, answer = b.page(t, http.MethodPost, path+"/replay", because)
	require.Equal(t, http.StatusOK, status, answer)
	require.JSONEq(t, `{"rejection":null}`, answer)
	require.Equal(t, "replayed", b.status(t, record))
	require.Equal(t, b.alice, b.db.Text(t, `select owner_id::text from lists where id = $1`, list))

	status, answer = b.page(t, http.MethodPost, path+"/replay", because)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, answer, "it is closed")
	status, _ = b.page(t, http.MethodPost, path+"/dismiss", because)
	require.Equal(t, http.StatusConflict, status)
	b.get(t, path, &shown)
	require.Equal(t, "replay failed by carol, replayed by carol", b.actions(t, record))
	require.Equal(t, "the name is allowed now", shown.Actions[1].Note)
}

// The team corrects a table and replays at once, before the service has read its
// catalogue again. Without row-level security, an UPDATE rests on the catalogue.
func TestConsoleReplayAfterTheTableChanged(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	const id = "11111111-1111-4111-8111-111111111111"
	db.Exec(t, `create table notes (id uuid primary key, body text constraint short check (length(body) < 5))`)
	db.Exec(t, `grant select, update on notes to authenticated`)
	db.Exec(t, `insert into notes values ($1, 'old')`, id)
	b := &testBundle{Service: rig.NewServiceOn(t, db, rig.Policies(t, `tables: {notes: {allow: all}}`)), db: db}
	require.Equal(t, "fatal_error", b.One(t, "alice", `{"op":"PATCH","table":"notes","id":"`+id+`","op_data":{"body":"longer"}}`).Status)
	path := "/api/rejected/" + db.Text(t, `select id::text from postern.rejected_writes`)

	db.Exec(t, `alter table notes drop constraint short`)
	status, answer := b.page(t, http.MethodPost, path+"/rehearse", "{}")
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, `"did":"updated"`)
	db.Exec(t, `alter table notes add column added text`)
	status, answer = b.page(t, http.MethodPost, path+"/replay", because)
	require.Equal(t, http.StatusOK, status, answer)
	require.JSONEq(t, `{"rejection":null}`, answer)
	require.Equal(t, "longer", db.Text(t, `select body from notes`))
}

// A value is edited in a replay. What was sent and what was applied are both stored.
func TestConsoleReplayEdited(t *testing.T) {
	b := setup(t)
	list, record := b.rejectedList(t, "alice", 1)
	path := "/api/rejected/" + record
	edited := func(column, value string, index int) string {
		return fmt.Sprintf(`{"by":"carol","reason":"too long","edits":[{"operation_index":%d,"column":%q,"value":%q}]}`, index, column, value)
	}
	for _, test := range []struct{ name, body, want string }{
		{"no JSON", edited("name", "Short", 0), `write \"text\" in quotes`},
		{"another operation", edited("name", `"Short"`, 1), "there is no operation 1"},
		{"no column", edited("", `"Short"`, 0), "name the column"},
		{"a column that the table lacks", edited("nome", `"Short"`, 0), "SCHEMA_MISMATCH"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, answer := b.page(t, http.MethodPost, path+"/rehearse", test.body)
			require.Contains(t, answer, test.want)
			require.Equal(t, "open", b.status(t, record))
		})
	}
	_, answer := b.page(t, http.MethodPost, path+"/rehearse", edited("name", `"Short"`, 0))
	require.Contains(t, answer, `"name":"Short"`)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
	status, answer := b.page(t, http.MethodPost, path+"/replay", edited("name", `"Short"`, 0))
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "Short of "+b.alice, b.db.Text(t, `select name || ' of ' || owner_id from lists where id = $1`, list))
	var shown struct {
		Operations []struct {
			Wanted []struct{ Name, Wanted string }
		}
		Actions []struct {
			Action, Who, Note string
			Transaction       struct {
				Crud []struct {
					Data map[string]string `json:"op_data"`
				}
			}
		}
	}
	b.get(t, path, &shown)
	require.Equal(t, tooLong, shown.Operations[0].Wanted[0].Wanted)
	require.Equal(t, []string{"replayed", "carol", "too long", "Short"},
		[]string{shown.Actions[0].Action, shown.Actions[0].Who, shown.Actions[0].Note, shown.Actions[0].Transaction.Crud[0].Data["name"]})

	// Its device has not heard the answer, and sends what it has.
	body := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`, list, tooLong)
	require.Equal(t, "success", b.Upload(t, "alice", body).Results(t)[0].Status)
	require.Equal(t, "Short", b.db.Text(t, `select name from lists where id = $1`, list))
}

// A write is replayed without rules, and with a value that was not sent.
func TestConsoleReplayWithoutRules(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.Policies(t, `tables: {lists: {allow: all, rules: [{name: never, check: "false", code: NEVER, message: no}]}}`))
	b := &testBundle{Service: s, db: s.Database, alice: rig.UserID("alice")}
	require.Equal(t, "fatal_error", b.One(t, "alice", `{"op":"PUT","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{}}`).Status)
	path := "/api/rejected/" + b.db.Text(t, `select id::text from postern.rejected_writes`)
	for _, test := range []struct{ body, want string }{
		{`{}`, `"code":"NEVER"`},
		{`{"no_rules":true}`, `"code":"NOT_NULL_VIOLATION"`},
		{`{"no_rules":true,"edits":[{"column":"name","value":"\"x\""},{"column":"owner_id","value":"\"` + b.alice + `\""}]}`, `"did":"inserted"`},
	} {
		_, answer := b.page(t, http.MethodPost, path+"/rehearse", test.body)
		require.Contains(t, answer, test.want)
	}
}

// A bulk action does what the filters select, a step at a time, and nothing that came later.
func TestConsoleBulk(t *testing.T) {
	b := setup(t)
	_, bobs := b.rejectedList(t, "bob", 1)
	for i := range 3 {
		b.rejectedList(t, "alice", i)
	}
	b.db.Exec(t, `delete from postern.rejected_identities where id in (select id from postern.rejected_writes where subject = $1 order by first_at limit 1)`, b.alice)
	var list struct{ At string }
	b.get(t, "/api/rejected", &list)
	b.rejectedList(t, "alice", 9)
	type step struct {
		Done   int
		Failed []struct{ ID, Code, Message string }
		Next   string
	}
	act := func(action, query, body string) (s step) {
		status, answer := b.page(t, http.MethodPost, "/api/rejected?action="+action+"&at="+url.QueryEscape(list.At)+query, body)
		require.Equal(t, http.StatusOK, status, answer)
		unmarshalPage(t, answer, &s)
		return s
	}
	ofAlice := "&user=" + b.alice
	s := act("rehearse", ofAlice, "{}")
	require.Equal(t, 0, s.Done)
	require.Len(t, s.Failed, 3)
	require.Equal(t, "its author's role and claims are not stored", strings.Trim(strings.SplitN(s.Failed[0].Message, ": ", 2)[1], "."))
	require.Equal(t, "CHECK_VIOLATION", s.Failed[2].Code)
	b.fix(t)
	require.Equal(t, 2, act("rehearse", ofAlice, "{}").Done)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from lists`))
	s = act("replay", ofAlice, because)
	require.Equal(t, []int{2, 1}, []int{s.Done, len(s.Failed)})
	require.Equal(t, "2", b.db.Text(t, `select count(*) from postern.rejected_actions where action = 'replayed' and who = 'carol' and note = 'the name is allowed now'`))
	require.Equal(t, "open", b.status(t, bobs))
	require.Equal(t, "2", b.db.Text(t, `select count(*) from postern.rejected_writes where subject = $1 and status = 'open'`, b.alice), "that without an author, and the later one")

	for _, test := range []struct{ name, query, body string }{
		{"no reason", "action=dismiss&at=" + url.QueryEscape(list.At), `{"by":"carol"}`},
		{"no time", "action=dismiss", because},
		{"no action", "at=" + url.QueryEscape(list.At), because},
		{"edits", "action=replay&at=" + url.QueryEscape(list.At), `{"by":"carol","reason":"why","edits":[{"column":"name","value":"1"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := b.page(t, http.MethodPost, "/api/rejected?"+test.query, test.body)
			require.Equal(t, http.StatusBadRequest, status, answer)
		})
	}

	b.fillRejected(t, bobs, 250)
	b.get(t, "/api/rejected", &list)
	done, next := 0, ""
	for steps := 1; ; steps++ {
		s = act("dismiss", "&user="+b.bob+"&after="+next, because)
		done += s.Done
		if next = s.Next; next == "" {
			require.Equal(t, []int{3, 251}, []int{steps, done})
			break
		}
	}
	require.Equal(t, "251", b.db.Text(t, `select count(*) from postern.rejected_actions where action = 'dismissed' and who = 'carol'`))
}

// The row is shown as its author sees it, because the service's own role may not read it.
func TestConsoleShowsTheRow(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `insert into lists (id, name, owner_id) values ('11111111-1111-4111-8111-111111111111', 'Groceries', $1)`, b.alice)
	for _, user := range []string{"alice", "bob"} {
		t.Run(user, func(t *testing.T) {
			result := b.Upload(t, user, `{"client_id":"phone","transactions":[{"transaction_id":7,"crud":[{"op_id":1,"op":"PATCH","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"`+tooLong+`"}}]}]}`).Results(t)[0]
			require.Equal(t, "fatal_error", result.Status)
			record := b.db.Text(t, `select id::text from postern.rejected_writes where subject = $1`, rig.UserID(user))
			var shown struct {
				Operations []struct{ Now map[string]any }
			}
			b.get(t, "/api/rejected/"+record, &shown)
			if user == "bob" {
				require.Nil(t, shown.Operations[0].Now)
				return
			}
			require.Equal(t, "Groceries", shown.Operations[0].Now["name"])
		})
	}
}

// A value is shown as its column would hold it, however the device spells it.
func TestConsoleComparesByType(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `create domain positive as integer check (value > 0)`)
	db.Exec(t, `create table samples (id uuid primary key, done boolean, qty numeric(8,2), at timestamptz, doc jsonb, code varchar(3), n positive)`)
	db.Exec(t, `grant select, insert, update on samples to authenticated`)
	db.Exec(t, `insert into samples values ('11111111-1111-4111-8111-111111111111', true, 1.5, '2026-01-02T03:04:05Z', '{"a": 1}', 'abc', 1)`)
	s := rig.NewServiceOn(t, db, rig.Policies(t, `tables: {samples: {allow: all, rules: [{name: never, check: "false", code: NEVER, message: no}]}}`))
	b := &testBundle{Service: s, db: db}
	for _, test := range []struct{ name, column, sent, stored, now string }{
		{"a boolean as a number", "done", `1`, "true", "true"},
		{"another boolean", "done", `"0"`, "false", "true"},
		{"a numeric as text", "qty", `"150.500"`, "150.50", "1.50"},
		{"an instant with another zone", "at", `"2026-01-02T04:04:05+01:00"`, `"2026-01-02T03:04:05+00:00"`, `"2026-01-02T03:04:05+00:00"`},
		{"a document as text", "doc", `"{\"a\":1}"`, `{"a":1}`, `{"a":1}`},
		{"null", "doc", "null", "null", `{"a":1}`},
		{"a text that is too long", "code", `"abcdef"`, "", `"abc"`},
		{"a value that does not fit", "done", `"perhaps"`, "", "true"},
		{"a value that its domain refuses", "n", "-1", "", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			db.Exec(t, `delete from postern.rejected_writes`)
			operation := fmt.Sprintf(`{"op":"PATCH","table":"samples","id":"11111111-1111-4111-8111-111111111111","op_data":{%q:%s}}`, test.column, test.sent)
			require.Equal(t, "fatal_error", b.One(t, "alice", operation).Status)
			var shown struct {
				Operations []struct {
					Wanted []struct{ Wanted, Stored, Now jsontext.Value }
				}
			}
			b.get(t, "/api/rejected/"+db.Text(t, `select id::text from postern.rejected_writes`), &shown)
			value := shown.Operations[0].Wanted[0]
			require.Equal(t, []string{test.sent, test.stored, test.now}, []string{string(value.Wanted), string(value.Stored), string(value.Now)})
		})
	}
}

func TestConsoleShowsTheRule(t *testing.T) {
	t.Parallel()
	policies := rig.Policies(t, `tables:
  lists:
    allow: all
    rules:
      - name: short-name
        on: [put]
        check: size(new.name) <= 3
        code: TOO_LONG
        message: "At most 3 characters"
      - {name: other, on: [put], check: "true", code: X, message: y}
`)
	s := rig.NewService(t, policies)
	b := &testBundle{Service: s, db: s.Database, alice: rig.UserID("alice")}
	require.Equal(t, "fatal_error", b.One(t, "alice", `{"op":"PUT","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"Groceries"}}`).Status)
	var shown struct {
		Rule     string
		RuleAt   string `json:"rule_at"`
		RuleText string `json:"rule_text"`
		Changed  bool   `json:"policies_changed"`
	}
	b.get(t, "/api/rejected/"+b.db.Text(t, `select id::text from postern.rejected_writes`), &shown)
	require.Equal(t, "short-name", shown.Rule)
	require.Contains(t, shown.RuleAt, ":5:")
	require.Equal(t, "      - name: short-name\n        on: [put]\n        check: size(new.name) <= 3\n        code: TOO_LONG\n        message: \"At most 3 characters\"", shown.RuleText)
	require.False(t, shown.Changed)
}

// No answer has what a token or the author's claims say.
func TestConsoleShowsNoClaims(t *testing.T) {
	b := setup(t)
	_, record := b.rejectedList(t, "alice", 1)
	b.db.Exec(t, `update postern.rejected_identities set claims = (claims::jsonb || '{"email":"alice@secret.example"}')::json`)
	for _, path := range []string{"/api/rejected", "/api/rejected/" + record} {
		_, answer := b.page(t, http.MethodGet, path, "")
		require.NotContains(t, answer, "secret.example")
		require.NotContains(t, answer, b.Token(t, "alice"))
	}
}

// Whatever the console answers, a browser may load and call nothing of other hosts.
func TestConsoleCallsNoOtherHost(t *testing.T) {
	b := setup(t)
	for _, path := range []string{"/", "/console.js", "/none", "/api/rejected", "/api/none"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:9091/console"+path, nil)
		r.RemoteAddr = "127.0.0.1:50000"
		w := httptest.NewRecorder()
		b.Metrics.ServeHTTP(w, r)
		directives := strings.Split(w.Result().Header.Get("Content-Security-Policy"), "; ")
		require.Equal(t, "default-src 'none'", directives[0], path)
		for _, directive := range directives {
			require.Regexp(t, `^[a-z-]+ '(none|self)'$`, directive, path)
		}
	}
}

func TestConsoleRefuses(t *testing.T) {
	b := setup(t)
	_, record := b.rejectedList(t, "alice", 1)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, test := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		want                     int
	}{
		{"another site's form", http.MethodPost, "/dismiss", because, header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"a site of the same domain", http.MethodPost, "/dismiss", because, header("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		{"another origin", http.MethodPost, "/dismiss", because, header("Origin", "http://localhost:3000"), http.StatusForbidden},
		{"an origin that is hidden", http.MethodPost, "/dismiss", because, header("Origin", "null"), http.StatusForbidden},
		{"no header of the page", http.MethodPost, "/dismiss", because, func(r *http.Request) { r.Header.Del("Postern-Console") }, http.StatusForbidden},
		{"a rebound name", http.MethodGet, "", "", host("evil.example:9091"), http.StatusMisdirectedRequest},
		{"a rebound name that begins with an address", http.MethodGet, "", "", host("127.0.0.1.evil.example"), http.StatusMisdirectedRequest},
		{"no host", http.MethodGet, "", "", host(""), http.StatusMisdirectedRequest},
		{"no reason", http.MethodPost, "/dismiss", `{"by":"carol","reason":" "}`, nil, http.StatusBadRequest},
		{"no name", http.MethodPost, "/replay", `{"reason":"why"}`, nil, http.StatusBadRequest},
		{"a long reason", http.MethodPost, "/dismiss", `{"by":"carol","reason":"` + strings.Repeat("a", 5000) + `"}`, nil, http.StatusBadRequest},
		{"no such write", http.MethodGet, "/../11111111-1111-4111-8111-111111111111", "", nil, http.StatusTemporaryRedirect},
		{"a GET that changes", http.MethodGet, "/dismiss", "", nil, http.StatusNotFound},
		{"an IPv6 address", http.MethodGet, "", "", host("[fdaa::1]:9091"), http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			change := test.change
			if change == nil {
				change = func(*http.Request) {}
			}
			status, answer := b.page(t, test.method, "/api/rejected/"+record+test.path, test.body, change)
			require.Equal(t, test.want, status, answer)
			require.Equal(t, "open", b.status(t, record))
		})
	}
	for path, want := range map[string]int{"/api/rejected/11111111-1111-4111-8111-111111111111": 404, "/api/rejected/x": 404, "/": 200, "/console.js": 200, "/none": 404} {
		status, _ := b.page(t, http.MethodGet, path, "")
		require.Equal(t, want, status, path)
	}
	require.Equal(t, http.StatusNotFound, b.Send(t, http.MethodGet, "/console/", "").Status, "on the public listener")
}

// fillRejected stores n copies of a rejected write.
func (b *testBundle) fillRejected(t *testing.T, record string, n int) {
	t.Helper()
	b.db.Exec(t, `insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message,
       requires_client_handling, policy_sha256, identified, first_at)
 select int8send(n), issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message, requires_client_handling, policy_sha256, identified,
        first_at + n * interval '1 us'
   from postern.rejected_writes, generate_series(1, $1::bigint) as n where id = $2::uuid`, n, record)
	b.db.Exec(t, `analyze postern.rejected_writes`)
}

// Pages of a long list follow each other without gaps or repetitions. -v prints how long they take.
func TestConsoleOfManyWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("it stores 100,000 rejected writes")
	}
	b := setup(t)
	_, record := b.rejectedList(t, "alice", 1)
	b.fillRejected(t, record, 99_999)
	var page consolePage
	b.get(t, "/api/rejected", &page)
	require.Equal(t, 100_000, page.Total)
	seen, slowest := map[string]bool{}, time.Duration(0)
	for range 20 {
		require.Len(t, page.Rejected, 50)
		for _, r := range page.Rejected {
			require.False(t, seen[r.ID])
			seen[r.ID] = true
		}
		next := page.Next
		page = consolePage{}
		began := time.Now()
		b.get(t, "/api/rejected?after="+next, &page)
		slowest = max(slowest, time.Since(began))
	}
	// Each page is read from the index, and reads no more than it shows. Postgres counts with some delay.
	require.Eventually(t, func() bool {
		return b.db.Text(t, `select idx_scan >= 20 from pg_stat_user_indexes where indexrelname = 'rejected_writes_first_at'`) == "true"
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, "true", b.db.Text(t, `select idx_tup_read <= idx_scan * 51 from pg_stat_user_indexes where indexrelname = 'rejected_writes_first_at'`))
	require.Equal(t, "1000", b.db.Text(t, `select count(*) from (select id::text from postern.rejected_writes order by first_at, id limit 1000) as first where id = any($1)`,
		slices.Collect(maps.Keys(seen))))
	for query, total := range map[string]int{
		"": 100_000, "status=all": 100_000, "status=dismissed": 0, "user=" + b.alice: 100_000, "user=" + b.bob: 0, "table=lists": 100_000, "table=todos": 0,
		"code=CHECK_VIOLATION": 100_000, "code=NONE": 0, "since=36h": 100_000, "older-than=36h": 0, "code=NONE&table=lists&user=" + b.alice: 0,
	} {
		page = consolePage{}
		began := time.Now()
		b.get(t, "/api/rejected?"+query, &page)
		t.Logf("the first page of %q, which counts all, took %v", query, time.Since(began))
		require.Equal(t, total, page.Total, query)
	}
	t.Logf("another page took at most %v", slowest)
}
