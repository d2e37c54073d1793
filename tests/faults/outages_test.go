package faults_test

import (
	"context"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// fleet is processes of postern that serve the same database.
type fleet struct {
	serve     func() (*rig.Process, string)
	running   []*rig.Process
	addresses []atomic.Pointer[string]
	turn      atomic.Uint64
}

func startFleet(t *testing.T, instances int, serve func() (*rig.Process, string)) *fleet {
	t.Helper()
	f := &fleet{serve: serve, running: make([]*rig.Process, instances), addresses: make([]atomic.Pointer[string], instances)}
	for i := range instances {
		f.start(i)
		t.Cleanup(func() { f.running[i].Kill() })
	}
	return f
}

func (f *fleet) start(i int) {
	p, url := f.serve()
	f.running[i] = p
	f.addresses[i].Store(&url)
}

// url is that of the instances in turns, dead or alive.
func (f *fleet) url() string {
	return *f.addresses[f.turn.Add(1)%uint64(len(f.addresses))].Load()
}

// TestKilledProcess kills serving instances of postern in turns, as a machine that runs out
// of memory does, and starts them again. A device may send each request to another one.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	kills, each := 15, 200
	if testing.Short() {
		kills, each = 3, 40
		t.Log("short: 3 kills instead of 15")
	}
	for _, test := range []struct {
		name      string
		instances int
	}{{"OneInstance", 1}, {"TwoInstances", 2}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db, s := rig.NewDatabase(t), seed(t)
			setUp(t, db, users...)
			issuer, err := local.OpenIssuer(t.TempDir())
			require.NoError(t, err)
			keys, dir := rig.ServeIssuer(t, issuer), t.TempDir()
			binary, folder := rig.Command(t), filepath.Join(dir, "policies")
			require.NoError(t, os.Mkdir(folder, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
			f := startFleet(t, test.instances, func() (*rig.Process, string) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				p, url, err := rig.Serve(ctx, filepath.Join(t.TempDir(), "output"), binary, db.LoginURL+"&pool_max_conns=8", keys, folder)
				require.NoError(t, err)
				return p, url
			})
			w := newWorld(s, func(user string) string {
				token, err := issuer.Token(user, time.Now())
				require.NoError(t, err)
				return token
			}, users, 8, each)
			w.upload(t.Context(), f.url)
			for i, at := range w.moments(s, kills) {
				require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
				f.running[i%test.instances].Kill()
				f.start(i % test.instances)
			}
			w.await(t)
			w.verify(t, db)
		})
	}
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
// turned away with 57P03. If it is stopped at once, it ends sessions in the middle of
// their work, and recovers from its log.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	restarts, each := 4, 150
	if testing.Short() {
		restarts, each = 1, 40
		t.Log("short: 1 restart instead of 4")
	}
	for _, test := range []struct {
		name      string
		immediate bool
	}{{"Fast", false}, {"Immediate", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, !test.immediate)
			b := setupOn(t, server.database(t))
			w := b.world(t, 8, each)
			w.upload(t.Context(), b.through)
			for _, at := range w.moments(b.seed, restarts) {
				require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
				server.restart(t, test.immediate)
			}
			w.await(t)
			b.db.Owner.Reset()
			w.verify(t, b.db)
		})
	}
}

// ownServer is a database server of one test, which may be stopped.
type ownServer struct {
	*local.Postgres
	dir       string
	throwaway bool // commits need not survive
}

func startServer(t *testing.T, throwaway bool) *ownServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-restart-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // Postgres' user passes through it
	s := &ownServer{dir: filepath.Join(dir, "postgres"), throwaway: throwaway}
	s.start(t, 0)
	t.Cleanup(func() { s.Stop() })
	return s
}

// start tries again if the port is taken. A process that another test starts has a copy of
// each open socket for a moment, also of the one that has found the port to be free.
func (s *ownServer) start(t *testing.T, port int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	for range 5 {
		s.Postgres, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: s.dir, PreferPort: port, Throwaway: s.throwaway})
		if err == nil {
			return
		}
	}
	require.NoError(t, err)
}

const serverDatabase = "postgres"

func (s *ownServer) database(t *testing.T) *rig.Database {
	t.Helper()
	loginURL, err := local.PrepareDatabase(t.Context(), s.Postgres, serverDatabase, supabase.Project)
	require.NoError(t, err)
	db := &rig.Database{OwnerURL: s.OwnerURL(serverDatabase), LoginURL: loginURL}
	db.Owner, err = pgxpool.New(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(func() { db.Owner.Close() })
	return db
}

// restart stops the server and starts it again on the same port. Immediate is that of
// pg_ctl stop: sessions are not ended in order, and nothing is written before the end.
func (s *ownServer) restart(t *testing.T, immediate bool) {
	t.Helper()
	before := s.OwnerURL(serverDatabase)
	u, err := url.Parse(before)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	if immediate {
		content, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
		require.NoError(t, err)
		first, _, _ := strings.Cut(string(content), "\n")
		pid, err := strconv.Atoi(first)
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGQUIT)) // see https://www.postgresql.org/docs/current/server-shutdown.html
	}
	s.Stop()
	s.start(t, port)
	require.Equal(t, before, s.OwnerURL(serverDatabase), "another program took the port")
}
