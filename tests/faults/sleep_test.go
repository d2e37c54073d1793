package faults_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// sent counts what a service sends to its database, in bytes.
type sent struct{ atomic.Int64 }

func (s *sent) Write(p []byte) (int, error) {
	s.Add(int64(len(p)))
	return len(p), nil
}

// TestSleepingDatabase leaves a service without uploads, while its checks and metrics are
// asked. It sends nothing to the database for longer than a minute, so a serverless one goes
// to sleep, and ends all sessions. Then the next upload succeeds.
func TestSleepingDatabase(t *testing.T) {
	t.Parallel()
	lasts := 70 * time.Second
	if testing.Short() {
		lasts = 5 * time.Second
		t.Log("short: 5 s instead of 70")
	}
	db := rig.NewDatabase(t)
	setUp(t, db, users...)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
	bytes := &sent{}
	between := rig.NewProxy(t, host(t, db.LoginURL), rig.ProxyOptions{Requests: bytes})
	through, err := between.URL(db.LoginURL)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, url, err := rig.Serve(ctx, filepath.Join(t.TempDir(), "output"), rig.Command(t), through, rig.ServeIssuer(t, issuer), folder, "POSTERN_LOG=debug")
	require.NoError(t, err)
	defer p.Stop()
	metrics, err := p.Await(ctx, regexp.MustCompile(`"msg":"serving".*"metrics":"([^"]+)"`))
	require.NoError(t, err)
	_, err = p.Await(ctx, regexp.MustCompile(`"msg":"examined the setup`)) // which needs the database
	require.NoError(t, err)
	w := newWorld(seed(t), func(user string) string {
		token, err := issuer.Token(user, time.Now())
		require.NoError(t, err)
		return token
	}, users, len(users), 20)
	for _, d := range w.devices {
		d.most = 10
	}
	half := len(w.devices[0].queue) / 2
	later := make([][]*transaction, len(w.devices))
	for i, d := range w.devices {
		d.queue, later[i] = d.queue[:half], d.queue[half:]
	}
	upload := func() {
		w.ended = make(chan struct{})
		w.upload(t.Context(), func() string { return url })
		w.await(t)
	}
	upload()
	_, err = p.Await(ctx, regexp.MustCompile(`"msg":"deleted old receipts`)) // it tidies up after the first success
	require.NoError(t, err)

	before := bytes.Load()
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-ticks.C {
		for _, ask := range []string{url + "/livez", url + "/readyz", "http://" + metrics + "/metrics"} {
			response, err := http.Get(ask)
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, http.StatusOK, response.StatusCode, ask)
		}
	}
	require.Equal(t, before, bytes.Load(), "bytes to the database")

	db.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern' and datname = current_database()`)
	for i, d := range w.devices {
		d.queue = later[i]
	}
	upload()
	w.verify(t, db)
}
