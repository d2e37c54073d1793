package rejected_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// page calls the console as its own page does, with changes to the request.
func (b *testBundle) page(t *testing.T, method, path, body string, changes ...func(*http.Request)) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:9091/console"+path, strings.NewReader(body))
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
func (b *testBundle) fillRejected(t *testing.T, n int) {
	t.Helper()
	b.db.Exec(t, `insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message,
       requires_client_handling, policy_sha256, identified, first_at)
 select int8send(n), issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message, requires_client_handling, policy_sha256, identified,
        first_at + n * interval '1 s'
   from postern.rejected_writes, generate_series(1, $1::bigint) as n`, n)
	b.db.Exec(t, `analyze postern.rejected_writes`)
}

// Pages of a long list follow each other without gaps or repetitions. -v prints how long they take.
func TestConsoleOfManyWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("it stores 100,000 rejected writes")
	}
	b := setup(t)
	b.rejectedList(t, "alice", 1)
	b.fillRejected(t, 99_999)
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
	require.Equal(t, "1000", b.db.Text(t, `select count(*) from (select id::text from postern.rejected_writes order by first_at, id limit 1000) as first where id = any($1)`,
		slices.Collect(maps.Keys(seen))))
	began := time.Now()
	b.get(t, "/api/rejected", &page)
	t.Logf("a page took at most %v, and the first one, which counts all, %v", slowest, time.Since(began))
}
