package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/tests/rig"
)

// hostile are texts that a client chooses.
const hostile = `<img src=x onerror=alert(1)>`

// The console in a browser, among 100,000 rejected writes. POSTERN_TEST_PICTURES names a
// folder for what it looks like.
func TestConsole(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	set, err := policies.LoadFS(fstest.MapFS{"todos.yaml": {Data: []byte(`tables:
  lists: {allow: all}
  todos:
    allow: all
    rules:
      - name: short-description
        on: [put, patch]
        check: size(new.description) <= 12
        code: SHORT_NAME
        message: "A todo has at most 12 characters"
`)}}, "policies")
	require.NoError(t, err)
	s := rig.NewService(t, set)
	const list, todo = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	one := func(crud string) {
		t.Helper()
		require.Equal(t, "fatal_error", s.One(t, "alice", crud).Status)
	}
	s.Database.Exec(t, `insert into lists (id, name, owner_id) values ($1, 'Groceries', $2)`, list, rig.UserID("alice"))
	s.Database.Exec(t, `insert into todos (id, list_id, description, created_by) values ($1, $2, 'Buy milk', $3)`, todo, list, rig.UserID("alice"))
	one(fmt.Sprintf(`{"op":"PATCH","table":"todos","id":%q,"op_data":{"description":"Buy milk, bread and cheese","completed":1}}`, todo))
	one(fmt.Sprintf(`{"op":"PATCH","table":"lists","id":%q,"op_data":{"name":%q}}`, list, strings.Repeat("a", 201)))
	s.Database.Exec(t, `alter table lists drop constraint lists_name_check`)
	one(fmt.Sprintf(`{"op":"PUT","table":%q,"id":%[1]q,"op_data":{%[1]q:"</script><script>alert(2)</script>"},"metadata":%[1]q}`, hostile))
	const copied = `insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message,
       requires_client_handling, rule, policy_sha256, identified, first_at) select `
	s.Database.Exec(t, copied+`int8send(n), issuer, gen_random_uuid(), client_id, device, transaction, true, 100, tables,
       (array['FOREIGN_KEY_VIOLATION', 'NOT_NULL_VIOLATION', 'UNAUTHORIZED'])[n % 3 + 1],
       (array['list_id refers to a row that does not exist', 'description must have a value', 'You may not change this row'])[n % 3 + 1],
       false, '', policy_sha256, false, first_at + n * interval '7 s'
  from postern.rejected_writes, generate_series(1, 100000) as n where code = 'SHORT_NAME'`)
	s.Database.Exec(t, copied+`'x', $1, $1, $1, $1, transaction, true, 100, array[$1], $1, $1, false, $1, $1, false, first_at + interval '1 us'
  from postern.rejected_writes where tables = array[$1]`, hostile)
	s.Database.Exec(t, `update postern.rejected_writes set first_at = first_at + interval '1 year' where tables = array[$1]`, hostile)
	console := httptest.NewServer(s.Metrics)
	t.Cleanup(console.Close)

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, node, "console.mjs")
	cmd.Env = []string{
		"CONSOLE_URL=" + console.URL + "/console/", "CHROMIUM=" + chromium(), "SCREENSHOTS=" + os.Getenv("POSTERN_TEST_PICTURES"),
		"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin",
	}
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Run(), "%s\nthe service: %s", &output, s.Logs)
	require.Equal(t, "replayed by carol: the table was corrected, dismissed by carol: the table was corrected",
		s.Database.Text(t, `select string_agg(action || ' by ' || who || ': ' || note, ', ' order by id) from postern.rejected_actions`))
}
