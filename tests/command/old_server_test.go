package command_test

import (
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// oldServerEnv is the folder of a Postgres before 14, which local.StartPostgres refuses.
const oldServerEnv = "POSTERN_TEST_OLD_POSTGRES"

// startOldServer returns the owner's URL of a server that ends with the test.
func startOldServer(t *testing.T, dir string) (url string) {
	t.Helper()
	data, port := dataDir(t), freePort(t)
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(dir, "bin", program), append([]string{"-D", data}, args...)...)
		cmd.Dir = data
		if os.Geteuid() == 0 { // it refuses to run as root
			nobody, err := user.Lookup("nobody")
			require.NoError(t, err)
			uid, err := strconv.Atoi(nobody.Uid)
			require.NoError(t, err)
			require.NoError(t, os.Chown(data, uid, -1))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid)}}
		}
		return cmd
	}
	output, err := command("initdb", "-U", "postgres", "-E", "UTF8", "--locale=C").CombinedOutput()
	require.NoError(t, err, "%s", output)
	server := command("postgres", "-p", port, "-k", "", "-F")
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		require.NoError(t, server.Process.Signal(syscall.SIGQUIT)) // an immediate shutdown
		_ = server.Wait()
	})
	url = "postgres://postgres@" + net.JoinHostPort("127.0.0.1", port) + "/postgres"
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		return err == nil && conn.Close(t.Context()) == nil
	}, time.Minute, 10*time.Millisecond)
	return url
}

// TestOldServer has a real server that is too old. Each command says so, and migrate
// leaves nothing behind.
func TestOldServer(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(oldServerEnv)
	if dir == "" {
		t.Skip("run make postgres, or set " + oldServerEnv + " to the folder of a Postgres before 14")
	}
	owner := startOldServer(t, dir)
	p := newPatient(t, &rig.Database{LoginURL: owner})
	output, code := p.doctor(t)
	requireGolden(t, "old-server", output, code)

	migrate := exec.CommandContext(t.Context(), rig.Command(t), "migrate")
	migrate.Env = []string{"DATABASE_URL=" + owner, "SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co"}
	said, err := migrate.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(said), "the server is Postgres 13.23: upgrade it to 14 or newer")
	require.Zero(t, count(t, owner, `select count(*) from pg_namespace where nspname = 'postern'`))

	serving := start(t, []string{
		"DATABASE_URL=" + owner, "POSTERN_ISSUER=https://id.example.com", "POSTERN_AUDIENCE=app", "POSTERN_JWKS_URL=" + p.issuer.url, "POSTERN_POLICIES=" + demoPolicies(t),
		"POSTERN_LISTEN=127.0.0.1:0", "POSTERN_METRICS_LISTEN=127.0.0.1:0",
	}, "serve")
	serving.await(t, `cannot read the catalogue.*the server is Postgres 13.23: upgrade it to 14 or newer`)
}
