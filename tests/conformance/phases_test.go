package conformance_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestPhases counts each phase of an upload once, however often the upload had it, and not
// at all if it did not have it.
func TestPhases(t *testing.T) {
	t.Parallel()
	whole := []string{"token", "body", "decode", "plan", "pool", "database", "answer"}
	const serializationFailure = `create sequence tries; grant usage on tries to authenticated;
		create function clash() returns trigger language plpgsql as $$ begin
			if nextval('tries') = 1 then raise sqlstate '40001'; end if; return new;
		end $$; create trigger clash before insert on notes for each row execute function clash()`
	for _, test := range []struct {
		name, schema, rule string
		body, token        string
		status             int
		want               []string
	}{
		{name: "Plain", status: http.StatusOK, want: whole},
		{name: "TwoRoundTrips", rule: `rules: [{name: r, check: "old == null", code: NO, message: No}]`, status: http.StatusOK, want: whole},
		{name: "Retried", schema: serializationFailure, status: http.StatusOK, want: append([]string{"retry"}, whole...)},
		{name: "OlderForm", body: `{"batch":[` + op("PUT", "notes", uuid.NewString(), `"body":"a"`) + `]}`, status: http.StatusOK, want: whole},
		{name: "NothingToDo", body: `{"transactions":[{"crud":[]}]}`, status: http.StatusOK, want: []string{"token", "body", "decode", "plan", "answer"}},
		{name: "Malformed", body: `{`, status: http.StatusBadRequest, want: []string{"token", "body"}},
		{name: "NoToken", token: "none", status: http.StatusUnauthorized, want: []string{"token"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupSchema(t, `create table notes (id uuid primary key, body text); grant select, insert, update, delete on notes to authenticated; `+test.schema,
				`tables: {notes: {allow: all, `+test.rule+`}}`)
			if test.body == "" {
				test.body = `{"transactions":[{"crud":[` + op("PUT", "notes", uuid.NewString(), `"body":"a"`) + `]}]}`
			}
			if test.token == "" {
				test.token = b.Token(t, "alice")
			}
			answer := b.Send(t, http.MethodPost, "/api/data", test.body, "Authorization", "Bearer "+test.token)
			require.Equal(t, test.status, answer.Status, answer.Body)
			counts := map[string]string{}
			for _, line := range counted(t, b, "postern_upload_phase_seconds_count") {
				match := regexp.MustCompile(`phase="(\w+)"} (\d+)$`).FindStringSubmatch(line)
				if match[2] != "0" {
					counts[match[1]] = match[2]
				}
			}
			want := map[string]string{}
			for _, phase := range test.want {
				want[phase] = "1"
			}
			require.Equal(t, want, counts)
		})
	}
}
