package rejected_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/local"
	"postern/tests/rig"
)

// receiver is a team's webhook, which answers with each status in turn, and with
// the last one from then on.
type receiver struct {
	*httptest.Server
	secret string
	t      *testing.T

	mu       sync.Mutex
	statuses []int
	bodies   []string
}

func newReceiver(t *testing.T, secret string, statuses ...int) *receiver {
	t.Helper()
	r := &receiver{secret: secret, statuses: statuses, t: t}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		r.t.Error(err)
	}
	timestamp := request.Header.Get("Postern-Timestamp")
	mac := hmac.New(sha256.New, []byte(r.secret))
	mac.Write([]byte(timestamp + "." + string(body)))
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); !hmac.Equal([]byte(want), []byte(request.Header.Get("Postern-Signature"))) {
		r.t.Error("the signature is wrong")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, string(body))
	status := r.statuses[0]
	if len(r.statuses) > 1 {
		r.statuses = r.statuses[1:]
	}
	w.WriteHeader(status)
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.bodies...)
}

const secret = "not a very good secret"

func TestWebhook(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t, secret, http.StatusInternalServerError, http.StatusOK)
	db := rig.NewDatabase(t)
	configure := func(c *service.Config) { c.WebhookURL, c.WebhookSecret = hook.URL+"/hook?key=hidden", secret }
	// Two instances at once: one of them tells.
	s := rig.NewServiceOn(t, db, rig.DemoPolicies(t), configure)
	other := rig.NewServiceOn(t, db, rig.DemoPolicies(t), configure)
	b := &testBundle{Service: s, db: db}
	_, record := b.rejectedList(t, "alice", 1)

	done := func() bool {
		return db.Text(t, `select count(*) from postern.river_job where state = 'completed'`) == "1"
	}
	require.Eventually(t, done, time.Minute, 50*time.Millisecond, "%s", s.Logs)
	got := hook.got()
	require.Len(t, got, 2, "it is told again until it is taken")
	require.Equal(t, got[0], got[1])
	var message struct {
		Type     string         `json:"type"`
		Rejected map[string]any `json:"rejected"`
	}
	unmarshal(t, got[0], &message)
	require.Equal(t, "rejected_write", message.Type)
	require.Equal(t, record, message.Rejected["id"])
	require.Equal(t, "CHECK_VIOLATION", message.Rejected["code"])
	require.NotContains(t, got[0], tooLong, "nothing of the row")
	require.NotContains(t, s.Logs.String()+other.Logs.String(), "hidden")
	require.NotContains(t, s.Logs.String()+other.Logs.String(), secret)
}

// The job is in the database transaction of the record: one a record, however
// often its client comes, and none without it.
func TestOneJobARecord(t *testing.T) {
	b := setupRouting(t, func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://127.0.0.1:1/nobody", secret })
	for range 3 {
		b.put(t, "phone", 1, tooLong)
	}
	b.put(t, "phone", 2, "short")
	require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.river_job where args ->> 'id' = $1`, b.recordOf(t, "phone", 1)))
	require.Equal(t, "1", b.db.Text(t, `select count(*) from postern.river_job`))
}

func TestMetrics(t *testing.T) {
	b := setup(t)
	b.rejectedList(t, "alice", 1)
	b.One(t, "alice", `{"op":"PUT","table":"any text that a client may send","id":"x"}`)
	b.One(t, "alice", `{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-000000000001","op_data":{"name":"x"}}`)
	const list = `{"crud":[{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-00000000000%d","op_data":{"name":%q}}]}`
	b.Upload(t, "alice", fmt.Sprintf(`{"transactions":[`+list+`,`+list+`,`+list+`,`+list+`]}`, 2, "x", 3, "y", 4, tooLong, 5, "z"))
	numbers := httptest.NewServer(b.Metrics)
	t.Cleanup(numbers.Close)
	response, err := http.Get(numbers.URL + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `postern_rejections_total{code="CHECK_VIOLATION",table="lists"} 2`)
	require.Contains(t, string(text), `postern_rejections_total{code="UNAUTHORIZED",table="(unknown)"} 1`)
	require.Contains(t, string(text), `postern_results_total{status="success"} 4`)
	require.Contains(t, string(text), `postern_operations_total{op="PUT",status="success",table="lists"} 4`)
	require.Contains(t, string(text), `postern_operations_total{op="PUT",status="fatal_error",table="lists"} 2`)
	require.Contains(t, string(text), `postern_operations_total{op="PUT",status="fatal_error",table="(unknown)"} 1`)
	require.NotContains(t, string(text), "any text")
}

// Closed ones go when their time has come; open and held ones stay.
func TestRetention(t *testing.T) {
	b := setup(t)
	var records []string
	for i := range 4 {
		_, record := b.rejectedList(t, "bob", i)
		records = append(records, record)
	}
	b.db.Exec(t, `update postern.rejected_writes set first_at = now() - interval '10 years'`)
	b.db.Exec(t, `update postern.rejected_writes set status = 'dismissed', closed_at = now() - interval '91 days' where id = $1::uuid`, records[0])
	b.db.Exec(t, `update postern.rejected_writes set status = 'dismissed', closed_at = now() - interval '89 days' where id = $1::uuid`, records[1])
	b.db.Exec(t, `update postern.rejected_writes set status = 'held' where id = $1::uuid`, records[2])
	b.db.Exec(t, `insert into postern.rejected_actions (record, action, who) select id, 'dismissed', 'ann' from postern.rejected_writes`)

	// Another instance tidies up after its first success.
	other := rig.NewServiceOn(t, b.db, rig.DemoPolicies(t))
	require.Equal(t, "success", other.One(t, "alice", `{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-000000000001","op_data":{"name":"x"}}`).Status)
	require.Eventually(t, func() bool { return b.db.Text(t, `select count(*) from postern.rejected_writes`) == "3" }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes where id = $1::uuid`, records[0]))
	require.Equal(t, "3", b.db.Text(t, `select count(*) from postern.rejected_actions`))
	require.Equal(t, "3", b.db.Text(t, `select count(*) from postern.receipts where outcome = 'rejected'`), "its receipt says rejected, and points nowhere now")
	require.Eventually(t, func() bool {
		return strings.Contains(other.Logs.String(), "rejected writes have been waiting for a year")
	}, 20*time.Second, 20*time.Millisecond)
	require.Contains(t, (&testBundle{Service: other}).metrics(t), "postern_rejected_year_old 2")
}

// newKillable is a bundle whose service is a process with a webhook, and serve starts the
// process, for the first time or again.
func newKillable(t *testing.T, hook string) (b *testBundle, serve func() *rig.Process) {
	t.Helper()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys := rig.ServeIssuer(t, issuer)
	b = &testBundle{db: rig.NewDatabase(t)}
	return b, func() *rig.Process {
		p, url, err := rig.Serve(t.Context(), filepath.Join(t.TempDir(), "output"), rig.Command(t), b.db.LoginURL, keys, "../../policies/demo",
			"POSTERN_WEBHOOK_URL="+hook, "POSTERN_WEBHOOK_SECRET="+secret)
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		b.Service = &rig.Service{URL: url, Database: b.db, Issuer: issuer}
		return p
	}
}

// An instance that is killed right after it answered has told nobody yet; the job
// is in the database, and the next instance does it.
func TestWebhookSurvivesAKill(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t, secret, http.StatusNoContent)
	b, serve := newKillable(t, hook.URL)
	p := serve()
	b.rejectedList(t, "alice", 1)
	p.Kill()
	p = serve()
	require.Eventually(t, func() bool { return len(hook.got()) > 0 }, time.Minute, 20*time.Millisecond, "%s", p.Output())
}

// TestWebhookLeftRunningByAKilledProcess kills an instance while it waits for the webhook's
// answer. The next one calls again as soon as the job counts as abandoned; that time, and
// that of the killed one's leadership, is made to pass.
func TestWebhookLeftRunningByAKilledProcess(t *testing.T) {
	t.Parallel()
	calls, answer := make(chan struct{}, 10), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		calls <- struct{}{}
		<-answer
	}))
	t.Cleanup(func() { close(answer); hook.Close() })
	b, serve := newKillable(t, hook.URL)
	called := func(p *rig.Process) {
		select {
		case <-calls:
		case <-time.After(30 * time.Second):
			require.Fail(t, "the webhook is not called", "%s", p.Output())
		}
	}
	p := serve()
	b.rejectedList(t, "alice", 1)
	called(p)
	p.Kill()
	b.db.Exec(t, `update postern.river_job set attempted_at = attempted_at - interval '15 seconds' where state = 'running'; delete from postern.river_leader`)
	called(serve())
}
