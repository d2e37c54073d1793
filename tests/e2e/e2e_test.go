// Package e2e runs the real PowerSync SDKs for Node.js and for browsers, as devices,
// against the whole service and a real Postgres. Each scenario is a program in
// scenarios/, and those of scenarios/everywhere run with both SDKs. It prints what the
// device saw, and the tests here look at that and at what is then in Postgres.
package e2e_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service"
	"postern/service/local"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// testBundle is a running service, and what a device syncs with.
type testBundle struct {
	*rig.Service
	db         *rig.Database
	powerSync  *powerSync
	alice, bob string // their subs
	neonAuth   string // where users of scenarios with Neon sign up
	supabase   *supabaseAuth
	network    *network
	control    *http.ServeMux // what a scenario can have the test do
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return setupWith(t, "", rig.DemoPolicies(t))
}

// setupWith is setup with more in the database, and with other policies.
func setupWith(t *testing.T, sql string, set *policies.Live) *testBundle {
	t.Helper()
	needNode(t)
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, sql)
	stream := newPowerSync(t, db)
	way := newNetwork(t, stream)
	s := rig.NewServiceOn(t, db, set, func(c *service.Config) { c.PowerSyncURL = way.URL })
	return newBundle(t, s, way, stream)
}

func newBundle(t *testing.T, s *rig.Service, way *network, stream *powerSync) *testBundle {
	t.Helper()
	way.reach(t, s.URL)
	b := &testBundle{
		Service: s, db: s.Database, powerSync: stream, network: way, control: http.NewServeMux(),
		alice: local.UserID("alice"), bob: local.UserID("bob"),
	}
	b.supabase = &supabaseAuth{b: b}
	b.control.Handle("POST /auth/v1/token", b.supabase)
	b.on("offline", func(context.Context) error { way.cut(); return nil })
	b.on("online", func(context.Context) error { way.mend(); return nil })
	b.on("hold-answers", func(context.Context) error { way.holdAnswers(); return nil })
	b.on("await-held-answer", way.awaitHeldAnswer)
	return b
}

// on says what a scenario's control(action) has the test do.
func (b *testBundle) on(action string, do func(context.Context) error) {
	b.control.HandleFunc("POST /"+action, func(w http.ResponseWriter, r *http.Request) {
		if err := do(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// report is what a scenario prints.
type report struct {
	ClientID   string            `json:"client_id"`
	QueueEmpty bool              `json:"queue_empty"`
	Uploads    []exchange        `json:"uploads"`
	Rejected   []rejected        `json:"rejected"` // what the connector told the app
	Lists      []list            `json:"lists"`    // as the device sees them at the end
	Todos      []todo            `json:"todos"`
	IDs        map[string]string `json:"ids"`
	Renamed    []list            `json:"renamed"`
	Asked      []bool            `json:"asked"`

	NotAccepted []notAccepted `json:"not_accepted"` // in the device's own database
	Listed      []notAccepted `json:"listed"`       // what GET /api/rejected said
	Left        int           `json:"left"`         // of NotAccepted, in the end

	Held       []rejected  `json:"held"` // what the connector asked the app
	OtherUsers []otherUser `json:"other_users"`

	// Of users who sign up in the scenario.
	UserID      string `json:"user_id"`
	Token       string `json:"token"`
	Credentials struct {
		Endpoint string `json:"endpoint"`
		Token    string `json:"token"`
		UserID   string `json:"user_id"`
	} `json:"credentials"`
}

type exchange struct {
	Body    string `json:"body"`  // of the request, as JSON
	Bytes   int    `json:"bytes"` // of it, as they were sent
	Packed  bool   `json:"packed"`
	Request struct {
		ClientID     string `json:"client_id"`
		UserID       string `json:"user_id"`
		Transactions []struct {
			Crud []operationSent `json:"crud"`
		} `json:"transactions"`
	} `json:"request"`
	Results    []rig.Result `json:"results"`
	SentAt     int64        `json:"sent_at"` // milliseconds
	AnsweredAt int64        `json:"answered_at"`
}

type operationSent struct {
	Op       string                    `json:"op"`
	Table    string                    `json:"table"`
	ID       string                    `json:"id"`
	OpID     int                       `json:"op_id"`
	Data     map[string]jsontext.Value `json:"op_data"`
	Previous map[string]jsontext.Value `json:"previous_values"`
	Metadata string                    `json:"metadata"`
}

type otherUser struct {
	Owner string `json:"owner"`
	User  string `json:"user"`
}

type rejected struct {
	TransactionID int    `json:"transaction_id"`
	Code          string `json:"code"`
}

type list struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	OwnerID string `json:"owner_id"`
}

type todo struct {
	ID          string  `json:"id"`
	Completed   int     `json:"completed"`
	CompletedAt *string `json:"completed_at"`
	CreatedBy   string  `json:"created_by"`
}

// run runs a scenario to its end, which every scenario reaches with all of the
// device's writes uploaded and synced back.
func (b *testBundle) run(t *testing.T, scenario string) report {
	t.Helper()
	return b.runNode(t, filepath.Join("scenarios", scenario+".mjs"))
}

func (b *testBundle) runNode(t *testing.T, arguments ...string) report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	control := httptest.NewServer(forBrowsers(b.control))
	defer control.Close()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, node, arguments...)
	// Nothing of the machine's environment: the SDK would go through its proxies.
	cmd.Env = []string{
		"POSTERN_URL=" + b.network.URL, "CONTROL_URL=" + control.URL, "NEON_AUTH_URL=" + b.neonAuth,
		"DEVICE_FOLDER=" + t.TempDir(), "HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "CHROMIUM=" + chromium(),
	}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.NoError(t, err, "%s\nthe device: %s\nthe service: %s", arguments, &stderr, b.Logs)
	var r report
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r), stdout.String())
	require.True(t, r.QueueEmpty)
	return r
}

func statuses(e exchange) (list []string) {
	for _, result := range e.Results {
		list = append(list, result.Status)
	}
	return list
}

// The device's local transactions are in Postgres, under the user whose token
// went with them, and come back to the device as they are there.
func TestWrites(t *testing.T) {
	b := setup(t)
	r := b.run(t, "writes")
	groceries, milk, chores := r.IDs["groceries"], r.IDs["milk"], r.IDs["chores"]

	require.Equal(t, "2", b.db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
	require.Equal(t, "Food", b.db.Text(t, `select name from lists where id = $1`, groceries))
	require.Equal(t, "Chores", b.db.Text(t, `select name from lists where id = $1`, chores))
	require.Equal(t, milk, b.db.Text(t, `select id::text from todos`), "Bread was deleted")
	require.Equal(t, "Milk", b.db.Text(t, `select description from todos`))
	require.Equal(t, "false", b.db.Text(t, `select completed from todos`))
	require.Equal(t, "<null>", b.db.Text(t, `select completed_at from todos`))
	require.Equal(t, b.alice, b.db.Text(t, `select created_by::text from todos`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))

	require.Len(t, r.Lists, 2)
	require.Contains(t, r.Lists, list{groceries, "Food", b.alice})
	require.Equal(t, []todo{{milk, 0, nil, b.alice}}, r.Todos)
	require.Equal(t, []string{b.alice}, b.powerSync.users(), "GET /api/credentials gave the device Alice's token")
}

// What the SDK records reaches the wire whole.
func TestWireFormat(t *testing.T) {
	b := setup(t)
	r := b.run(t, "writes")

	require.Len(t, r.Uploads, 2, "all that was queued goes in one request")
	first := r.Uploads[0].Request
	require.Equal(t, r.ClientID, first.ClientID)
	require.Len(t, first.Transactions, 4)
	require.Len(t, first.Transactions[0].Crud, 3)
	rename, reopen, remove := first.Transactions[1].Crud[0], first.Transactions[2].Crud[0], first.Transactions[3].Crud[0]
	require.Equal(t, "PATCH", rename.Op)
	require.Equal(t, 4, rename.OpID)
	require.Equal(t, "renamed on the phone", rename.Metadata)
	require.JSONEq(t, `{"completed":0,"completed_at":null}`, marshal(t, reopen.Data))
	require.Equal(t, `"2026-11-23T15:50:30.960Z"`, string(reopen.Previous["completed_at"]))
	require.Equal(t, "DELETE", remove.Op)
	require.Nil(t, remove.Data)
	require.Equal(t, `"Bread"`, string(remove.Previous["description"]))
}

// A transaction that the database does not accept is stored and dropped; it
// takes nothing with it, and nothing of it stays.
func TestRejectedTransactionInTheMiddle(t *testing.T) {
	b := setup(t)
	r := b.run(t, "rejected")

	require.Len(t, r.Uploads, 1)
	require.Equal(t, []string{"success", "fatal_error", "success"}, statuses(r.Uploads[0]))
	require.Equal(t, []rejected{{2, "CHECK_VIOLATION"}}, r.Rejected)
	require.Equal(t, r.IDs["groceries"], b.db.Text(t, `select id::text from lists`), "neither list of the second transaction")
	require.Equal(t, r.IDs["milk"], b.db.Text(t, `select id::text from todos`))

	const row = ` from postern.rejected_writes`
	require.Equal(t, "CHECK_VIOLATION", b.db.Text(t, `select code`+row))
	require.Equal(t, "1", b.db.Text(t, `select operation_index`+row))
	require.Equal(t, b.alice, b.db.Text(t, `select subject`+row))
	require.Equal(t, r.ClientID, b.db.Text(t, `select client_id`+row))
	require.Contains(t, b.db.Text(t, `select transaction::text`+row), r.IDs["beside"], "the transaction is kept whole")

	require.Equal(t, []list{{r.IDs["groceries"], "Groceries", b.alice}}, r.Lists, "the device has taken the rejected lists back")
}

// noteEffects has Postgres note what happens to lists.
const noteEffects = `
create table effects (number int generated always as identity, operation text, name text);
create function note_effect() returns trigger language plpgsql security definer as $$
  begin insert into public.effects (operation, name) values (tg_op, new.name); return null; end $$;
create trigger note_effect after insert or update or delete on lists for each row execute function note_effect()`

// An upload whose answer was lost is sent again, and takes effect once.
func TestLostAnswer(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, noteEffects)
	r := b.run(t, "lost-answer")

	require.Len(t, r.Uploads, 2)
	require.Equal(t, r.Uploads[0].Request, r.Uploads[1].Request)
	require.Equal(t, r.Uploads[0].Results, r.Uploads[1].Results)
	require.Equal(t, []string{"success"}, statuses(r.Uploads[1]))
	require.Equal(t, "INSERT,UPDATE", b.db.Text(t, `select string_agg(operation, ',') from effects`))
	require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.receipts`))
	require.Equal(t, []list{{r.IDs["groceries"], "Food", b.alice}}, r.Lists)
}

// A transaction that cannot be stored yet ends its batch; what went before it is
// done, and what comes after it waits.
func TestNotYet(t *testing.T) {
	b := setup(t)
	// Sequences are not rolled back: the first four attempts clash, which are as
	// many as the service makes in one request.
	b.db.Exec(t, `
create sequence attempts;
create function clash() returns trigger language plpgsql security definer as $$
  begin
    if new.name = 'Second' and nextval('public.attempts') <= 4 then
      raise exception using errcode = 'serialization_failure', message = 'a clash';
    end if;
    return new;
  end $$;
create trigger clash before insert on lists for each row execute function clash()`)
	r := b.run(t, "three-lists")

	require.Len(t, r.Uploads, 2)
	first, second := r.Uploads[0], r.Uploads[1]
	require.Equal(t, []string{"success", "retryable_error", "not_attempted"}, statuses(first))
	require.Equal(t, first.Request.Transactions[1:], second.Request.Transactions)
	require.Equal(t, []string{"success", "success"}, statuses(second))
	require.GreaterOrEqual(t, second.SentAt, first.AnsweredAt+int64(first.Results[1].RetryAfterMS), "the connector waits as long as it was told")
	require.Equal(t, "First,Second,Third", b.db.Text(t, `select string_agg(name, ',' order by name) from lists`))
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}

// Who changes another user's row is told so, and the attempt is on record.
func TestNotTheOwner(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `insert into lists (name, owner_id) values ('Groceries', $1)`, b.alice)
	r := b.run(t, "not-the-owner")

	require.Len(t, r.Renamed, 1, "Bob's device has Alice's list")
	require.Len(t, r.Uploads, 1)
	require.Equal(t, []string{"fatal_error"}, statuses(r.Uploads[0]))
	require.Equal(t, []rejected{{1, "UNAUTHORIZED"}}, r.Rejected)
	require.Equal(t, "Groceries", b.db.Text(t, `select name from lists`))
	require.Equal(t, "UNAUTHORIZED", b.db.Text(t, `select code from postern.rejected_writes where subject = $1`, b.bob))
	require.Equal(t, r.Renamed, r.Lists, "Bob's device has Alice's name for it again")
}

// A refused token keeps the writes queued until there is a good one.
func TestRefusedToken(t *testing.T) {
	b := setup(t)
	r := b.run(t, "refused-token")

	require.False(t, r.Asked[0])
	require.Contains(t, r.Asked, true)
	require.Contains(t, b.Logs.String(), "token refused")
	require.Equal(t, b.alice, b.db.Text(t, `select owner_id::text from lists where id = $1`, r.IDs["groceries"]))
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// A database that is restored from a backup repeats what was uploaded, which takes effect
// once, and gives numbers to new writes that others had, which are not taken for those.
func TestRestoredDatabase(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, noteEffects)
	r := b.run(t, "restored")

	require.Len(t, r.Uploads, 3)
	before, after := r.Uploads[1].Request, r.Uploads[2].Request
	require.Equal(t, before.ClientID, after.ClientID)
	require.Equal(t, before.Transactions[0].Crud[0].OpID, after.Transactions[1].Crud[0].OpID, "Second's and Third's")
	require.Equal(t, []string{"success", "success"}, statuses(r.Uploads[2]))
	require.Equal(t, "INSERT First,INSERT Second,INSERT Third", b.db.Text(t, `select string_agg(operation || ' ' || name, ',' order by number) from effects`))
	require.Len(t, r.Lists, 3)
}
