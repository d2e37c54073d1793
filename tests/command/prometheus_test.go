package command_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// scrapeEvery is how often the test's Prometheus scrapes, and evaluates the rules.
const scrapeEvery = 200 * time.Millisecond

// longestFor is the longest "for" of the rules, once it is shortened.
const longestFor = 6 * time.Second

// shortened returns the repository's rules for a test: a minute of each "for" becomes
// 100 ms. All else stays, such as the windows of rates.
func shortened(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(monitoring, "alerts.yaml"))
	require.NoError(t, err)
	rules := regexp.MustCompile(`(?m)^( +for: )(\d+)m$`).ReplaceAllString(string(content), "${1}${2}00ms")
	rules = regexp.MustCompile(`(?m)^( +for: )1h$`).ReplaceAllString(rules, "${1}6s")
	require.NotRegexp(t, ` for: .*[mh]\n`, rules, "a form that is not shortened")
	return rules
}

// watched is a Prometheus with the rules, and the services that it scrapes.
type watched struct {
	database *rig.Database
	issuer   *local.Issuer
	keys     string

	url, targets string // of Prometheus; the file of the scraped addresses
	addresses    []string
	transactions int
}

// instance is a postern that Prometheus scrapes.
type instance struct {
	process
	url, metrics, policies string
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		rig.Missing(t, "prometheus is not installed: apt-get install prometheus")
	}
	w := &watched{database: rig.NewDatabase(t)}
	w.issuer, err = local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	w.keys = rig.ServeIssuer(t, w.issuer)

	dir := t.TempDir()
	w.targets = filepath.Join(dir, "targets.json")
	write(t, w.targets, `[]`)
	write(t, filepath.Join(dir, "alerts.yaml"), shortened(t))
	write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}
rule_files: [alerts.yaml]
scrape_configs: [{job_name: postern, file_sd_configs: [{files: [targets.json]}]}]
`, scrapeEvery))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	p, err := rig.StartProcess(filepath.Join(dir, "output"), nil, program,
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	process{p}.await(t, `Server is ready to receive web requests`)
	w.url = "http://" + address
	return w
}

// serve starts a postern with changes to its environment, and has Prometheus scrape it.
func (w *watched) serve(t *testing.T, env ...string) *instance {
	t.Helper()
	return w.serveBuild(t, rig.Command(t), env...)
}

func (w *watched) serveBuild(t *testing.T, binary string, env ...string) *instance {
	t.Helper()
	i := &instance{policies: t.TempDir()}
	demo, err := os.ReadFile(filepath.Join(demoPolicies(t), "lists-and-todos.yaml"))
	require.NoError(t, err)
	write(t, filepath.Join(i.policies, "app.yaml"), string(demo))
	i.process = startBuild(t, binary, append(append(serveEnv(w.database, w.keys), "POSTERN_POLICIES="+i.policies), env...), "serve")
	i.url = "http://" + i.await(t, `"msg":"serving","address":"([^"]+)"`)
	i.metrics = i.await(t, `"msg":"serving".*"metrics":"([^"]+)"`)
	w.scrape(t, i.metrics)
	return i
}

// scrape adds an address, and returns once Prometheus has scraped it.
func (w *watched) scrape(t *testing.T, address string) {
	t.Helper()
	w.addresses = append(w.addresses, address)
	content, err := json.Marshal([]map[string]any{{"targets": w.addresses}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.targets+".new", content, 0o600))
	require.NoError(t, os.Rename(w.targets+".new", w.targets))
	require.Eventually(t, func() bool { return w.query(t, fmt.Sprintf(`up{instance=%q} == 1`, address)) }, time.Minute, scrapeEvery)
}

func (w *watched) get(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get(w.url + path)
	require.NoError(t, err)
	defer response.Body.Close()
	require.NoError(t, json.NewDecoder(response.Body).Decode(into))
}

// query reports whether an expression has a result.
func (w *watched) query(t *testing.T, expression string) bool {
	t.Helper()
	var answer struct{ Data struct{ Result []any } }
	w.get(t, "/api/v1/query?query="+url.QueryEscape(expression), &answer)
	return len(answer.Data.Result) > 0
}

// alerts returns the names of the alerts in a state: firing or pending.
func (w *watched) alerts(t *testing.T, state string) (names []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	w.get(t, "/api/v1/alerts", &answer)
	for _, alert := range answer.Data.Alerts {
		if alert.State == state {
			names = append(names, alert.Labels["alertname"])
		}
	}
	return names
}

// send sends an upload as a user, and returns the answer's status, or 0.
func (w *watched) send(i *instance, user, body string) int {
	token, err := w.issuer.Token(user, time.Now())
	if err != nil {
		return 0
	}
	request, err := http.NewRequest(http.MethodPost, i.url+"/api/data", strings.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// put sends a new transaction that puts a user's list.
func (w *watched) put(i *instance, user, table string) int {
	w.transactions++
	return w.send(i, user, fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":%d,"crud":[{"op":"PUT","table":%q,"id":%q,"op_data":{"name":"a"}}]}]}`,
		w.transactions, table, local.UserID(user+" list")))
}

// await repeats something until an alert fires.
func (w *watched) await(t *testing.T, alert string, again func()) {
	t.Helper()
	require.Eventually(t, func() bool {
		if again != nil {
			again()
		}
		for _, name := range w.alerts(t, "firing") {
			if name == alert {
				return true
			}
		}
		return false
	}, time.Minute, scrapeEvery, "%s does not fire", alert)
}

// TestAlertsFire has a real Prometheus watch real services. No alert fires while two of
// them are healthy. Then each alert fires, because something real goes wrong.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	first, second := w.serve(t), w.serve(t)
	healthy := fmt.Sprintf(`min(count_over_time(postern_ready[1h])) > %d`, 2*longestFor/scrapeEvery)
	require.Eventually(t, func() bool {
		require.Equal(t, http.StatusOK, w.put(first, "alice", "lists"))
		require.Equal(t, http.StatusOK, w.put(second, "bob", "lists"))
		return w.query(t, healthy)
	}, time.Minute, scrapeEvery)
	require.Empty(t, w.alerts(t, "firing"))
	require.Empty(t, w.alerts(t, "pending"))

	fired := map[string]bool{}
	fires := func(alert string, again func()) {
		w.await(t, alert, again)
		fired[alert] = true
	}
	w.fillRejected(t, "carol")
	small := w.serve(t, "GOMEMLIMIT=16MiB", "DATABASE_URL="+w.database.LoginURL+"&pool_max_conns=1")
	require.Equal(t, http.StatusOK, w.put(small, "alice", "lists")) // then it counts the rejected writes
	w.lockedOut(t, small, fires)
	fires("PosternMemory", nil)
	w.holdBody(t, small)
	fires("PosternBodiesFull", nil)
	w.holdConnections(t, small, fires)
	fires("PosternRejectedWaiting", nil)
	fires("PosternRejectedYearOld", nil)

	fires("PosternUploadsTooLarge", func() { w.send(second, "bob", "{"+strings.Repeat(" ", 40<<20)) })
	fires("PosternUploadsMalformed", func() { w.send(second, "bob", `{"transactions":1}`) })
	fires("PosternRejectedWritesFull", func() { w.put(second, "carol", "invented") })
	var many []string
	for n := range 21 { // in one request: no scrape sees fewer of them
		many = append(many, fmt.Sprintf(`{"transaction_id":%d,"crud":[{"op":"DELETE","table":"invented","id":"x"}]}`, 1_000_000+n))
	}
	require.Equal(t, http.StatusOK, w.send(second, "bob", `{"client_id":"phone","transactions":[`+strings.Join(many, ",")+`]}`))
	fires("PosternRejections", nil)

	away := w.serve(t, "DATABASE_URL=postgres://postern:x@127.0.0.1:1/app")
	fires("PosternNotReady", nil)
	fires("PosternWritesFail", func() { w.put(away, "bob", "lists") })
	keyless := w.serve(t, "POSTERN_JWKS_URL=http://127.0.0.1:1/keys")
	fires("PosternKeySetMissing", nil)
	fires("PosternRequestsFail", func() { w.put(keyless, "bob", "lists") })

	full := w.serve(t, "POSTERN_DECISION_LOG=/dev/full")
	fires("PosternDecisionsLost", func() { w.put(full, "bob", "lists") })

	write(t, filepath.Join(first.policies, "more.yaml"), "tables: {todos: {allow: [all, invented]}}\n")
	fires("PosternPoliciesProblem", nil)
	write(t, filepath.Join(second.policies, "app.yaml"), "tables: {lists: {allow: [create]}}\n")
	fires("PosternPoliciesDiffer", nil)
	faulty := w.serveBuild(t, faultyCommand(t))
	w.breakTrigger(t, faulty, fires)
	for range 1100 {
		alive, err := http.Get(faulty.url + "/livez")
		require.NoError(t, err)
		require.NoError(t, alive.Body.Close())
	}
	fires("PosternGoroutines", nil)
	second.Stop()
	fires("PosternDown", nil)

	for _, group := range readRules(t).Groups {
		require.Len(t, group.Rules, len(fired))
		for _, rule := range group.Rules {
			require.Contains(t, fired, rule.Alert)
		}
	}
}

// fillRejected stores as many rejected writes of a user as there is room for, of which one
// is old.
func (w *watched) fillRejected(t *testing.T, user string) {
	t.Helper()
	w.database.Exec(t, `
insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction, tables, code, message, details,
                                     requires_client_handling, policy_sha256, identified, has_content, bytes, first_at)
select sha256(n::text::bytea), $1, $2, 'tablet', 'tablet', '{"crud":[]}', '{lists}', 'CHECK_VIOLATION', 'too long', 'null', false, '', true, true, 1,
       case n when 1 then now() - interval '2 years' else now() end
  from generate_series(1, 10000) n`, local.IssuerName, local.UserID(user))
}

// lockedOut has uploads wait for a lock, on the only connection of a service.
func (w *watched) lockedOut(t *testing.T, i *instance, fires func(alert string, again func())) {
	t.Helper()
	lock, err := w.database.Owner.Begin(t.Context())
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), `select from public.lists where id = $1 for update`, local.UserID("alice list"))
	require.NoError(t, err)
	const waiting = 12
	ended := make(chan int)
	for n := range waiting {
		body := fmt.Sprintf(`{"client_id":"phone %d","transactions":[{"transaction_id":1,"crud":[{"op":"PATCH","table":"lists","id":%q,"op_data":{"name":"b"}}]}]}`, n, local.UserID("alice list"))
		go func() { ended <- w.send(i, "alice", body) }()
	}
	fires("PosternPoolExhausted", nil)
	for range waiting {
		<-ended
	}
	require.NoError(t, lock.Rollback(t.Context()))
	fires("PosternSlow", nil)
}

// holdBody begins an upload of the greatest length, and does not end it.
func (w *watched) holdBody(t *testing.T, i *instance) {
	t.Helper()
	token, err := w.issuer.Token("bob", time.Now())
	require.NoError(t, err)
	conn, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	const length = 1 << 20
	_, err = fmt.Fprintf(conn, "POST /api/data HTTP/1.1\r\nHost: postern\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", token, length, strings.Repeat(" ", length*3/4))
	require.NoError(t, err)
}

// holdConnections opens almost as many connections as a service takes, and sends the
// beginning of a request on each.
func (w *watched) holdConnections(t *testing.T, i *instance, fires func(alert string, again func())) {
	t.Helper()
	for range 250 { // of 256, with the service's 16 MiB
		conn, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "POST /api/data HTTP/1.1\r\nHost: postern\r\nX-")
		require.NoError(t, err)
	}
	fires("PosternConnectionsFull", nil)
}

// breakTrigger has a device send the same transaction again and again, because a trigger
// uses a table that does not exist.
func (w *watched) breakTrigger(t *testing.T, i *instance, fires func(alert string, again func())) {
	t.Helper()
	w.database.Exec(t, `create function broken() returns trigger language plpgsql as $$ begin perform from nowhere; return new; end $$;
		create trigger broken before insert on lists for each row when (new.name = 'broken') execute function broken()`)
	body := fmt.Sprintf(`{"client_id":"phone","transactions":[{"transaction_id":1,"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"broken"}}]}]}`, local.UserID("dave list"))
	fires("PosternQueuesStuck", func() { w.send(i, "dave", body) })
	require.Contains(t, i.Output(), "queue stuck: its first transaction keeps failing")
}

// faultyCommand is a build that leaks a goroutine in each request, and takes a queue for
// stuck after a second.
func faultyCommand(t *testing.T) (binary string) {
	t.Helper()
	return rig.ChangedCommand(t,
		rig.Change{File: "service/leaving.go", Old: "err := c.Next()", New: "go func() { select {} }()\n\terr := c.Next()"},
		rig.Change{File: "service/apply/failures.go", Old: "10 * time.Minute", New: "time.Second"},
	)
}
