package faults_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// memoryGroup is a cgroup of so many bytes: the file that takes the process ids of its
// members, and the one that has the most bytes that it had.
type memoryGroup struct{ members, peak string }

func newMemoryGroup(t *testing.T, bytes int) memoryGroup {
	t.Helper()
	for _, version := range []struct{ parent, limit, peak string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"}, // version 1
		{"/sys/fs/cgroup", "memory.max", "memory.peak"},                                 // version 2
	} {
		dir, err := os.MkdirTemp(version.parent, "postern-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if os.WriteFile(filepath.Join(dir, version.limit), []byte(strconv.Itoa(bytes)), 0o600) == nil {
			return memoryGroup{filepath.Join(dir, "cgroup.procs"), filepath.Join(dir, version.peak)}
		}
	}
	rig.Unable(t, "no cgroup with a memory limit can be made here: run it as root outside of a container")
	return memoryGroup{}
}

// limited is `postern serve` in a cgroup of 256 MB.
type limited struct {
	*rig.Process
	url, token string
	group      memoryGroup
}

func serveLimited(t *testing.T, before string) limited {
	t.Helper()
	group := newMemoryGroup(t, 256<<20)
	db := rig.NewDatabase(t)
	setUp(t, db, users...)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	dir := t.TempDir()
	folder := filepath.Join(dir, "policies")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
	program := filepath.Join(dir, "limited")
	require.NoError(t, os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nset -e\necho $$ > %s\nexec %s %s \"$@\"\n", group.members, before, rig.Command(t)), 0o755))
	effective, err := exec.CommandContext(t.Context(), program, "config").Output()
	require.Error(t, err, "nothing is set")
	require.Regexp(t, `(?m)^memory +230.4 MiB `, string(effective))

	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, url, err := rig.Serve(ready, filepath.Join(dir, "output"), program, db.LoginURL, rig.ServeIssuer(t, issuer), folder)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	token, err := issuer.Token(users[0], time.Now())
	require.NoError(t, err)
	return limited{p, url, token, group}
}

// most is the most memory of the cgroup, in MB. It fails the test if the process has ended.
func (l limited) most(t *testing.T) int {
	t.Helper()
	members, err := os.ReadFile(l.group.members)
	require.NoError(t, err)
	require.Contains(t, strings.Fields(string(members)), strconv.Itoa(l.PID()), "it runs")
	peak, err := os.ReadFile(l.group.peak)
	require.NoError(t, err)
	bytes, err := strconv.Atoi(strings.TrimSpace(string(peak)))
	require.NoError(t, err)
	return bytes / 1_000_000
}

// TestFlood has more clients than a container of 256 MB has memory for: 1,500 that send one
// operation each, all at once, and 60 that send thousands. The service answers what it
// can, and the rest with 503. It is not killed.
func TestFlood(t *testing.T) {
	lasts := 15 * time.Second
	if testing.Short() {
		lasts = 5 * time.Second
		t.Log("short: 5 s instead of 15")
	}
	p := serveLimited(t, "")
	f := newFlood(p, lasts)
	f.run(t, 1560, func(client int) (operations int) {
		if client%26 == 0 {
			return 10_000
		}
		return 1
	})
	t.Logf("answers by status, 0 for none: %v; at most %d MB of 268", f.answers, p.most(t))
	require.Positive(t, f.answers[http.StatusOK])
	require.Positive(t, f.answers[http.StatusServiceUnavailable])
	again := newFlood(p, 0)
	again.send(t.Context(), -1, 1)
	require.Equal(t, map[int]int{http.StatusOK: 1}, again.answers, "afterwards")
}

// TestFloodOfBodies has 40 clients announce eight megabytes each without a token, and others
// send bodies that are long or have many small things, all in 256 MB. Nothing is killed.
func TestFloodOfBodies(t *testing.T) {
	p := serveLimited(t, "")
	var silent []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "POST /api/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n%s", strings.Repeat(" ", 64<<10))
		require.NoError(t, err)
		silent = append(silent, conn)
	}
	for _, conn := range silent {
		answer := make([]byte, len("HTTP/1.1 401"))
		_, err := io.ReadFull(conn, answer)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 401", string(answer))
	}
	t.Logf("without a token: at most %d MB of 268", p.most(t))
	for name, crud := range map[string]string{
		"empty operations":  strings.Repeat("{},", 2_000_000) + "{}",
		"one value":         `{"op":"PUT","table":"entries","id":"1","op_data":{"marker":"` + strings.Repeat("m", 6_000_000) + `"}}`,
		"values in a value": `{"op":"PUT","table":"entries","id":"1","op_data":{"marker":[` + strings.Repeat("{},", 2_000_000) + `{}]}}`,
	} {
		f := newFlood(p, 0)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				status := f.post(t.Context(), http.DefaultClient, `{"transactions":[{"transaction_id":1,"crud":[`+crud+`]}]}`)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.answers[status]++
			})
		}
		all.Wait()
		t.Logf("%s: answers by status: %v; at most %d MB of 268", name, f.answers, p.most(t))
		for status := range f.answers {
			require.Contains(t, []int{0, http.StatusOK, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable}, status, name)
		}
	}
	again := newFlood(p, 0)
	again.send(t.Context(), -1, 1)
	require.Equal(t, map[int]int{http.StatusOK: 1}, again.answers, "afterwards")
}

// figuresEnv is how long each load lasts, such as 15s.
const figuresEnv = "POSTERN_TEST_FLOOD"

// TestFloodFigures measures the table of service/deploy/fly.md, with one core.
func TestFloodFigures(t *testing.T) {
	lasts, err := time.ParseDuration(os.Getenv(figuresEnv))
	if err != nil {
		t.Skipf("%s=15s makes the table of service/deploy/fly.md", figuresEnv)
	}
	table := "\n| clients | operations | requests/s | median wait | at most | 503 |\n|--:|--:|--:|--:|--:|--:|\n"
	for _, load := range []struct{ clients, operations int }{{20, 1}, {250, 1}, {1000, 1}, {250, 50}, {250, 1000}, {50, 15_000}} {
		t.Run(fmt.Sprintf("%dx%d", load.clients, load.operations), func(t *testing.T) {
			p := serveLimited(t, "taskset -c 0")
			f := newFlood(p, lasts)
			f.run(t, load.clients, func(int) int { return load.operations })
			slices.Sort(f.waits)
			answered := f.answers[http.StatusOK]
			require.Positive(t, answered)
			refused := f.answers[http.StatusServiceUnavailable]
			table += fmt.Sprintf("| %d | %d | %.0f | %d ms | %d MB | %d %% |\n", load.clients, load.operations, float64(answered)/lasts.Seconds(),
				f.waits[len(f.waits)/2].Milliseconds(), p.most(t), 100*refused/(answered+refused))
		})
	}
	t.Log(table)
}

// flood is clients that send at the same time.
type flood struct {
	url, token string
	ends       time.Time

	mu      sync.Mutex
	answers map[int]int     // by status
	waits   []time.Duration // for an answer of 200
}

func newFlood(p limited, lasts time.Duration) *flood {
	return &flood{url: p.url, token: p.token, ends: time.Now().Add(lasts), answers: map[int]int{}}
}

// run has clients send until the end. They are answered with 200 or 503, or not at all.
func (f *flood) run(t *testing.T, clients int, operations func(client int) int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { f.send(t.Context(), i, operations(i)) })
	}
	all.Wait()
	for status := range f.answers {
		require.Contains(t, []int{0, http.StatusOK, http.StatusServiceUnavailable}, status)
	}
}

// send sends uploads of one client until the end, at least one.
func (f *flood) send(ctx context.Context, client, operations int) {
	c := newClient()
	defer c.CloseIdleConnections()
	crud := make([]string, operations)
	for i := range crud {
		crud[i] = fmt.Sprintf(`{"op":"PUT","table":"entries","id":%q,"op_data":{"amount":1,"marker":"m"}}`, local.UserID(fmt.Sprintf("%d %d", client, i)))
	}
	rest := strings.Join(crud, ",") + "]}]}"
	for n := 1; n == 1 || time.Now().Before(f.ends); n++ {
		began := time.Now()
		status := f.post(ctx, c, fmt.Sprintf(`{"client_id":"%d","transactions":[{"transaction_id":%d,"crud":[`, client, n)+rest)
		f.mu.Lock()
		f.answers[status]++
		if status == http.StatusOK {
			f.waits = append(f.waits, time.Since(began))
		}
		f.mu.Unlock()
	}
}

func (f *flood) post(ctx context.Context, client *http.Client, body string) (status int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/api/data", strings.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+f.token)
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
