package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
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
  lists:
    allow: all
    rules: [{name: markup, check: "!new.name.contains('<')", code: MARKUP, message: No markup, details: {name: new.name, old: old.name}}]
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
	s.Database.Exec(t, `alter table lists drop constraint lists_name_check; create unique index one_name on lists (name)`)
	for i := range 3 {
		one(fmt.Sprintf(`{"op":"PUT","table":"lists","id":"33333333-3333-4333-8333-33333333333%d","op_data":{"name":"Groceries","owner_id":%q}}`, i, rig.UserID("alice")))
	}
	s.Database.Exec(t, `drop index one_name`)
	one(fmt.Sprintf(`{"op":"PUT","table":%q,"id":%[1]q,"op_data":{%[1]q:"</script><script>alert(2)</script>"},"metadata":%[1]q}`, hostile))
	storeMany(t, s.Database, "SHORT_NAME")
	s.Database.Exec(t, copyRejected+`'x', $1, $1, $1, $1, transaction, true, 100, array[$1], $1, $1, false, $1, $1, false, first_at + interval '1 us'
  from postern.rejected_writes where tables = array[$1]`, hostile)
	rejectHostile(t, s)
	driveConsole(t, "console.mjs", s)
	require.Equal(t, "CHECK_VIOLATION replayed by carol, SHORT_NAME replayed by carol as Milk, "+hostile+" dismissed by carol",
		s.Database.Text(t, `select string_agg(code || ' ' || action || ' by ' || who || coalesce(' as ' || (a.transaction->'crud'->0->'op_data'->>'description'), ''), ', ' order by a.id)
  from postern.rejected_actions a join postern.rejected_writes w on w.id = record where code not in ('NOT_NULL_VIOLATION', 'UNIQUE_VIOLATION') and note = 'the table was corrected'`))
	require.Equal(t, "Milk", s.Database.Text(t, `select description from todos where id = $1`, todo))
	require.Equal(t, "true", s.Database.Text(t, `select count(*) > 0 and count(*) = count(*) filter (where status = 'dismissed') and count(*) < 33000
  from postern.rejected_actions join postern.rejected_writes w on w.id = record where code = 'NOT_NULL_VIOLATION'`), "dismissed until it was stopped")
	require.Equal(t, "3 lists", s.Database.Text(t, `select count(*) || ' lists' from lists where name = 'Groceries'`))
	require.Equal(t, "replayed by carol: the index was dropped", s.Database.Text(t, `select string_agg(distinct action || ' by ' || who || ': ' || note, ', ')
  from postern.rejected_actions join postern.rejected_writes w on w.id = record where code = 'UNIQUE_VIOLATION' and status = 'replayed' having count(*) = 3`))
}

// rejectHostile has writes rejected that have a client's texts in every place: in values and
// details beside a stored row, in the message, in a transaction that cannot be read, and as
// the device.
func rejectHostile(t *testing.T, s *rig.Service) {
	t.Helper()
	const list = "44444444-4444-4444-8444-444444444444"
	s.Database.Exec(t, `insert into lists (id, name, owner_id) values ($1, $2, $3)`, list, hostile, rig.UserID("alice"))
	for i, crud := range []string{
		fmt.Sprintf(`{"op_id":1,"op":"PATCH","table":"lists","id":%q,"op_data":{"name":%q},"previous_values":{"name":%[2]q},"metadata":%[2]q}`, list, hostile+hostile),
		fmt.Sprintf(`{"op_id":1,"op":"PUT","table":"todos","id":%q,"op_data":{"list_id":%q}}`, list, hostile),
		fmt.Sprintf(`{"op_id":1,"op":"PUT","table":%q,"id":%[1]q,"op_data":{%[1]q:%[1]q,"half":"\ud800"},"metadata":%[1]q}`, hostile),
	} {
		body := fmt.Sprintf(`{"client_id":%q,"transactions":[{"transaction_id":%d,"crud":[%s]}]}`, hostile, i+1, crud)
		require.Equal(t, "fatal_error", s.Upload(t, "alice", body).Results(t)[0].Status, crud)
	}
}

const copyRejected = `insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, has_content, bytes, tables, code, message,
       requires_client_handling, rule, policy_sha256, identified, first_at) select `

// storeMany stores 100,000 copies of the rejected write that has a code, of other users and
// for other reasons.
func storeMany(t *testing.T, db *rig.Database, code string) {
	t.Helper()
	db.Exec(t, `with copied as (`+copyRejected+`int8send(n), issuer, gen_random_uuid(), client_id, device, transaction, has_content, 100, tables,
       (array['FOREIGN_KEY_VIOLATION', 'NOT_NULL_VIOLATION', 'UNAUTHORIZED'])[n % 3 + 1],
       (array['list_id refers to a row that does not exist', 'description must have a value', 'You may not change this row'])[n % 3 + 1],
       false, '', policy_sha256, false, first_at - n * interval '7 s'
  from postern.rejected_writes, generate_series(1, 100000) as n where code = $1 returning id)
insert into postern.rejected_identities
select copied.id, role, claims from copied, postern.rejected_identities author join postern.rejected_writes w on w.id = author.id where code = $1`, code)
}

// rejectMany has 100,001 rejected writes of a table that no policy names.
func rejectMany(t *testing.T, s *rig.Service) {
	t.Helper()
	require.Equal(t, "fatal_error", s.One(t, "alice", `{"op":"PUT","table":"nowhere","id":"1","op_data":{}}`).Status)
	storeMany(t, s.Database, "UNAUTHORIZED")
}

// The service's memory is the same after many pages, writes and dry runs. The test is not
// parallel, because the memory is that of the whole process.
func TestConsoleMemory(t *testing.T) {
	needBrowser(t)
	s := rig.NewService(t, rig.DemoPolicies(t))
	require.Equal(t, "fatal_error", s.One(t, "alice", `{"op":"PUT","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"`+strings.Repeat("a", 201)+`"}}`).Status)
	storeMany(t, s.Database, "CHECK_VIOLATION")
	measure := func(rounds int) (heap uint64, goroutines int) {
		driveConsole(t, "console-memory.mjs", s, fmt.Sprintf("ROUNDS=%d", rounds))
		runtime.GC()
		runtime.GC() // what had a finalizer
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	heap, goroutines := measure(5)
	heapLate, goroutinesLate := measure(25)
	t.Logf("%d bytes and %d goroutines became %d and %d", heap, goroutines, heapLate, goroutinesLate)
	require.LessOrEqual(t, float64(heapLate), float64(heap)*1.25)
	require.LessOrEqual(t, float64(goroutinesLate), float64(goroutines)*1.25)
}

// driveConsole runs a script that looks at the console of a service in a browser.
func driveConsole(t *testing.T, script string, s *rig.Service, environment ...string) {
	t.Helper()
	console := httptest.NewServer(s.Metrics)
	defer console.Close()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok { // before it, so that the script's output is shown
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-10*time.Second))
		defer cancel()
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, node, script)
	cmd.Env = append(environment,
		"CONSOLE_URL="+console.URL+"/console/", "CHROMIUM="+chromium(), "SCREENSHOTS="+os.Getenv("POSTERN_TEST_PICTURES"), fmt.Sprintf("ONE_LOOK=%t", testing.Short()),
		"HOME="+t.TempDir(), "PATH=/usr/bin:/bin",
	)
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Run(), "%s\nthe service: %s", &output, s.Logs)
}
