package conformance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestRowDataNeverReachesTheLog has writes that fail in ways whose messages quote what was
// sent or stored. The decision log has none of it either.
func TestRowDataNeverReachesTheLog(t *testing.T) {
	t.Parallel()
	const secret = "a-word-nobody-may-read"
	trigger := func(body string) string {
		return `create function f() returns trigger language plpgsql as $$ begin ` + body + ` return new; end $$;
			create trigger t before insert on notes for each row execute function f()`
	}
	rules := func(check string) string {
		return `tables: {notes: {allow: all, rules: [{name: r, on: [put], check: "` + check + `", code: NO, message: No}]}}`
	}
	const open = `tables: {notes: {allow: all}}`
	for _, test := range []struct{ name, change, policies, want, logged string }{
		{"NotUnique", `insert into notes (id, body) values (gen_random_uuid(), '` + secret + `')`, open, "UNIQUE_VIOLATION", `"code":"UNIQUE_VIOLATION"`},
		{"RaiseInATrigger", trigger(`raise exception 'not %', new.body using detail = new.body;`), open, "REJECTED_BY_DATABASE", `"code":"REJECTED_BY_DATABASE"`},
		{"RaiseOf503", trigger(`raise sqlstate 'PT503' using message = new.body, hint = new.body;`), open, "retryable_error", `"function":"f() line 1"`},
		{"RaiseOfAnotherClass", trigger(`raise sqlstate '54000' using message = new.body, table = new.body;`), open, "retryable_error", `"function":"f() line 1"`},
		{"SQLOfATrigger", trigger(`execute 'select ' || quote_ident(new.body);`), open, "retryable_error", `"function":"f() line 1"`},
		{"DataInAPolicy", `create function broken(body text) returns boolean language plpgsql as $$ begin return body::int = 1; end $$;
			alter table notes enable row level security; create policy p on notes to authenticated using (true) with check (broken(body))`, open, "retryable_error", `"sqlstate":"22P02"`},
		{"Timestamp", ``, rules(`timestamp(new.body) > now`), "retryable_error", `timestamp(new.body) > now: invalid RFC 3339 timestamp"`},
		{"Key", ``, rules(`{'a': 1}[new.body] == 1`), "retryable_error", `[new.body] == 1: no such key"`},
		{"Conversion", ``, rules(`int(new.body) == 1`), "retryable_error", `int(new.body) == 1: type conversion error"`},
		{"Pattern", ``, rules(`'a'.matches('[' + new.body)`), "retryable_error", `error parsing regexp"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, lines := setupDecisions(t, `create table notes (id uuid primary key, body text unique); grant select, insert, update, delete on notes to authenticated; `+test.change,
				rig.Policies(t, test.policies))
			require.Equal(t, test.want, b.outcome(t, "alice", op("PUT", "notes", uuid.NewString(), `"body":"`+secret+`"`)))
			require.Contains(t, b.Logs.String(), test.logged)
			decided := fmt.Sprint(lines(t))
			require.Contains(t, decided, "notes")
			require.NotContains(t, b.Logs.String()+decided, secret)
		})
	}
}

// TestLongNamesAreCut has names that a client chose: none is longer than 100 characters
// in an answer or in the log.
func TestLongNamesAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 30_000)
	id := uuid.NewString()
	b := setup(t)
	token := "Bearer " + b.Token(t, "alice")
	wild := rig.NewService(t, rig.Policies(t, `tables: {"*": {allow: all, because: "anybody may"}}`))
	transaction := func(crud string) string {
		return `{"client_id":"` + long + `","transactions":[{"crud":[` + crud + `]}]}`
	}
	for _, test := range []struct {
		name         string
		service      *rig.Service
		method, path string
		body, token  string
		want         string
	}{
		{"Table", b.Service, "POST", "/api/data", transaction(op("PUT", long, id, `"name":"a"`)), token, "no policy names the table"},
		{"TableOfTheDatabase", wild, "POST", "/api/data", transaction(op("PUT", long, id, `"name":"a"`)), "Bearer " + wild.Token(t, "alice"), "there is no table"},
		{"Column", b.Service, "POST", "/api/data", transaction(op("PUT", "lists", id, `"`+long+`":"a"`)), token, "has no column"},
		{"Member", b.Service, "POST", "/api/data", transaction(op("PUT", "lists", id, `"name":{"`+long+`":1,"`+long+`":2}`)), token, ""},
		{"Operation", b.Service, "POST", "/api/data", transaction(op(long, "lists", id, `"name":"a"`)), token, ""},
		{"TransactionID", b.Service, "POST", "/api/data", `{"transactions":[{"transaction_id":"` + long + `","crud":[` + op(long, "lists", id, `"name":"a"`) + `]}]}`, token, ""},
		{"UserID", b.Service, "POST", "/api/data", `{"user_id":"` + long + `","transactions":[{"crud":[]}]}`, token, "user_id"},
		{"Path", b.Service, "GET", "/" + long, "", token, "Cannot GET"},
		{"Record", b.Service, "POST", "/api/rejected/" + long + "/dismiss", "", token, ""},
		{"Token", b.Service, "POST", "/api/data", transaction(""), "Bearer " + long, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), test.method, test.service.URL+test.path, strings.NewReader(test.body))
			require.NoError(t, err)
			request.Header.Set("Authorization", test.token)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Contains(t, string(answer), test.want)
			require.NotContains(t, string(answer), long[:101])
			require.NotContains(t, test.service.Logs.String(), long[:101])
		})
	}
}

// TestLongValuesAreCut has a value that only Postgres can read. Its message quotes all of it.
func TestLongValuesAreCut(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `create table notes (id uuid primary key, address inet); grant select, insert, update, delete on notes to authenticated`, `tables: {notes: {allow: all}}`)
	result := b.One(t, "alice", op("PUT", "notes", uuid.NewString(), `"address":"`+strings.Repeat("n", 100_000)+`"`))
	require.Equal(t, "INVALID_DATA", result.FailedOperation.ErrorCode)
	require.Equal(t, "address", result.FailedOperation.Details["column"])
	require.Less(t, len(result.Message), 400)
}

// TestBrokenHeadersAreNotQuoted has a request whose headers cannot be read. Whoever is in
// front of the service may log its answer.
func TestBrokenHeadersAreNotQuoted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("POST / HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: x\r\n\r\n"))
	require.NoError(t, err)
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	require.NoError(t, err)
	require.Contains(t, string(answer[:n]), " 400 ")
	require.NotContains(t, string(answer[:n])+b.Logs.String(), "secret")
}
