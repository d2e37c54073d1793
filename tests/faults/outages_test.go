package faults_test

import (
	"context"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// TestKilledProcess kills a serving postern, as a machine that runs out of memory
// does, and starts it again.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	const devices = 8
	kills, each := 15, 200
	if testing.Short() {
		kills, each = 4, 50
		t.Log("short: 4 kills instead of 15")
	}
	db, s := rig.NewDatabase(t), seed(t)
	setUp(t, db, users...)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys := rig.ServeIssuer(t, issuer)
	dir := t.TempDir()
	binary, folder := rig.Command(t), filepath.Join(dir, "policies")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))

	var (
		address atomic.Pointer[string]
		running *rig.Process
	)
	serve := func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, url, err := rig.Serve(ctx, filepath.Join(dir, "output"), binary, db.LoginURL+"&pool_max_conns=8", keys, folder)
		require.NoError(t, err)
		running = p
		address.Store(&url)
	}
	serve()
	t.Cleanup(func() { running.Kill() })
	w := newWorld(s, func(user string) string {
		token, err := issuer.Token(user, time.Now())
		require.NoError(t, err)
		return token
	}, users, devices, each)
	w.upload(t.Context(), func() string { return *address.Load() })
	for _, at := range w.moments(s, kills) {
		require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
		running.Kill()
		serve()
	}
	w.await(t)
	w.verify(t, db)
}

// moments are n numbers of completed transactions, in order, at random and one
// in each nth part, leaving something to do after the last.
func (w *world) moments(seed uint64, n int) []int64 {
	random := rand.New(rand.NewPCG(seed, 0))
	part := int64(w.transactions() / (n + 1))
	moments := make([]int64, n)
	for i := range moments {
		moments[i] = int64(i)*part + random.Int64N(part)
	}
	return moments
}

// TestTerminatedSessions has the database end all of Postern's sessions, as it
// does before it goes to sleep or moves: 57P01.
func TestTerminatedSessions(t *testing.T) {
	t.Parallel()
	rounds, each := 60, 200
	if testing.Short() {
		rounds, each = 15, 50
		t.Log("short: 15 rounds instead of 60")
	}
	b := setup(t)
	w := b.world(t, 8, each)
	w.upload(t.Context(), b.through)
	ended := 0
	for _, at := range w.moments(b.seed, rounds) {
		require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
		n, err := strconv.Atoi(b.db.Text(t, `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1 and datname = current_database()`, ledger.Login))
		require.NoError(t, err)
		ended += n
	}
	w.await(t)
	t.Logf("%d sessions ended", ended)
	w.verify(t, b.db)
	require.GreaterOrEqual(t, ended, rounds)
}

// TestRestartedServer stops the database server under the devices' uploads, and
// starts it again: sessions end with 57P01, connections are refused, and then
// turned away with 57P03.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	restarts, each := 4, 150
	if testing.Short() {
		restarts, each = 1, 50
		t.Log("short: 1 restart instead of 4")
	}
	dir, err := os.MkdirTemp("", "postern-restart-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // Postgres' user passes through it
	var server *local.Postgres
	start := func(port int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		server, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), PreferPort: port, Throwaway: true})
		require.NoError(t, err)
	}
	start(0)
	t.Cleanup(func() { server.Stop() })
	const database = "postgres"
	loginURL, err := local.PrepareDatabase(t.Context(), server, database, supabase.Project)
	require.NoError(t, err)
	db := &rig.Database{OwnerURL: server.OwnerURL(database), LoginURL: loginURL}
	db.Owner, err = pgxpool.New(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(func() { db.Owner.Close() })

	b := setupOn(t, db)
	w := b.world(t, 8, each)
	w.upload(t.Context(), b.through)
	u, err := url.Parse(db.OwnerURL)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	for _, at := range w.moments(b.seed, restarts) {
		require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
		server.Stop()
		start(port)
		require.Equal(t, db.OwnerURL, server.OwnerURL(database), "another program took the port")
	}
	w.await(t)
	db.Owner.Reset()
	w.verify(t, db)
}
