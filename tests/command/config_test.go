package command_test

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/local"
	"postern/tests/rig"
)

// refuse runs `postern serve` with a configuration file, an environment that has nothing of
// the developer's, and flags, and returns what it says as it refuses to start.
func refuse(t *testing.T, file string, env []string, flags ...string) string {
	t.Helper()
	cmd := exec.Command(rig.Command(t), append([]string{"serve"}, flags...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{}, env...)
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, service.ConfigFile), []byte(file), 0o600))
	output, err := cmd.CombinedOutput()
	require.ErrorContains(t, err, "exit status 1")
	return string(output)
}

// Default, file, environment, flags: what comes later holds. Wrong values show
// which one did.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	said := refuse(t,
		"POSTERN_LOG: file\nPOSTERN_ON_REJECT: file\nPOSTERN_LISTEN: file\n",
		[]string{"POSTERN_ON_REJECT=environment", "POSTERN_LISTEN=environment"},
		"--listen", "flag")
	for _, want := range []string{`POSTERN_LOG="file"`, `POSTERN_ON_REJECT="environment"`, `POSTERN_LISTEN="flag"`} {
		require.Contains(t, said, want)
	}
	require.NotContains(t, said, "POSTERN_ANONYMOUS_USERS", "the default holds, which is right")
}

func TestConfigurationRefused(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"

	t.Run("UnknownKey", func(t *testing.T) {
		t.Parallel()
		said := refuse(t, "SUPABASE_JWT_SECRET: "+secret+"\nPOSTERN_LISTENS: :6060\n", nil)
		require.Contains(t, said, `postern.yaml: [2:1] unknown field "POSTERN_LISTENS"`)
		require.NotContains(t, said, secret)
	})

	t.Run("NotANumber", func(t *testing.T) {
		t.Parallel()
		said := refuse(t, "", []string{"POSTERN_BODY_LIMIT=8MB", "POSTERN_ON_REJECT=drop"})
		require.Contains(t, said, `POSTERN_BODY_LIMIT="8MB" is not of type int`)
		require.Contains(t, said, `POSTERN_ON_REJECT="drop" is neither skip nor stop`, "all problems at once")
	})

	t.Run("EveryIssuer", func(t *testing.T) {
		t.Parallel()
		said := refuse(t, "POSTERN_AUDIENCE: [the-app]\n", []string{
			"SUPABASE_URL=http://abcdefghijklmnopqrst.supabase.co", "SUPABASE_JWT_SECRET=" + secret,
			"NEON_AUTH_URL=https://app:" + secret + "@ep-x.neonauth.us-east-1.aws.neon.tech/neondb/auth",
			"POSTERN_ISSUER=https://id.example.com", "POSTERN_JWKS_URL=https://app:" + secret + "@id.example.com/keys",
			"POSTERN_LOG=verbose",
		})
		for _, want := range []string{
			"DATABASE_URL is not set",
			`issuer "http://abcdefghijklmnopqrst.supabase.co/auth/v1": key set URL: "http://abcdefghijklmnopqrst.supabase.co/auth/v1/.well-known/jwks.json" must be https`,
			"the shared secret has 7 bytes, and HS256 needs 32 or more: copy all of it",
			"NEON_AUTH_URL has credentials, a query or a fragment: copy the Auth URL from the project's Auth page",
			`issuer "https://id.example.com": key set URL: "https://app:xxxxx@id.example.com/keys" has credentials: leave them out, a key set is public`,
			`POSTERN_LOG="verbose"`,
		} {
			require.Contains(t, said, want)
		}
		require.NotContains(t, said, secret)
	})
}

// postern config says for each setting where its value comes from, and shows no secret.
func TestConfigPrintsOrigins(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	cmd := exec.Command(rig.Command(t), "config", "--policies", "rules")
	cmd.Dir = t.TempDir()
	cmd.Env = []string{
		"DATABASE_URL=postgres://postern:" + secret + "@db.example.com/app?pool_max_conns=7", "POSTERN_LOG=debug",
		"SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co", "GOMEMLIMIT=256MiB",
	}
	write(t, filepath.Join(cmd.Dir, service.ConfigFile), "POSTERN_LOG: warn\nPOSTERN_BODY_LIMIT: 4096\nPOSTERN_WEBHOOK_SECRET: "+strings.Repeat(secret, 3)+"\nPOSTERN_WEBHOOK_URL: https://hooks.example.com/"+secret+"\n")
	write(t, filepath.Join(cmd.Dir, ".env"), "POSTERN_ON_REJECT=stop\n") // for development only
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.NotContains(t, string(output), secret)
	spaces := regexp.MustCompile(` +`).ReplaceAllString(string(output), " ")
	for _, want := range []string{
		"DATABASE_URL postgres://postern:xxxxx@db.example.com/app?pool_max_conns=7 environment",
		"POSTERN_LOG debug environment",
		"POSTERN_BODY_LIMIT 4096 bytes file A thirty-second",
		"POSTERN_WEBHOOK_SECRET (secret) file",
		"POSTERN_POLICIES rules flag",
		"POSTERN_ON_REJECT skip default",
		"POSTERN_MAX_OPERATIONS 20000 operations default (from 256 MiB of memory) One for each 400 bytes",
		"memory 256 MiB GOMEMLIMIT",
		"bodies in memory 16 MiB A sixteenth",
		"connections of clients 4,096 ",
		"database connections 7 ",
	} {
		require.Contains(t, spaces, want)
	}
}

// The defaults of limits follow from the memory of the process.
func TestConfigFollowsTheMemory(t *testing.T) {
	t.Parallel()
	for memory, want := range map[string][]string{
		"64MiB": {"POSTERN_BODY_LIMIT 2097152 bytes default (from 64 MiB of memory)", "requests at once 292 "},
		"1GiB":  {"POSTERN_BODY_LIMIT 33554432 bytes default (from 1 GiB of memory)", "requests at once 4,681 "},
		"off":   {"POSTERN_BODY_LIMIT 33554432 bytes default (from 4 GiB of memory, which is assumed)", "memory 4 GiB Assumed"},
	} {
		t.Run(memory, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(rig.Command(t), "config")
			cmd.Dir = t.TempDir()
			cmd.Env = []string{"DATABASE_URL=postgres://postern:x@127.0.0.1/app", "SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co", "GOMEMLIMIT=" + memory}
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", output)
			spaces := regexp.MustCompile(` +`).ReplaceAllString(string(output), " ")
			for _, line := range want {
				require.Contains(t, spaces, line)
			}
		})
	}
}

// TestManyConnections opens more connections than a small machine allows. Those beyond are
// answered with 503, and the others go on.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	p := start(t, append(serveEnv(database, rig.ServeIssuer(t, issuer)), "GOMEMLIMIT=16MiB", "POSTERN_POLICIES="+demoPolicies(t)), "serve")
	address := p.await(t, `"msg":"serving","address":"([^"]+)"`)
	const allowed = 256
	ask := func(conn net.Conn) int {
		_, err := conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: postern\r\n\r\n"))
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	open := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first := open()
	require.Equal(t, http.StatusOK, ask(first))
	for range allowed - 1 {
		require.Equal(t, http.StatusOK, ask(open()))
	}
	require.Equal(t, http.StatusServiceUnavailable, ask(open()))
	require.Equal(t, http.StatusOK, ask(first))
}

// Dev mode reads .env, and nothing of it that names another database or issuer.
func TestDevReadsDotEnv(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(rig.Command(t), "dev", "--data", filepath.Join(t.TempDir(), "data"))
	cmd.Dir = t.TempDir()
	write(t, filepath.Join(cmd.Dir, ".env"), "# for this machine\nexport POSTERN_ON_REJECT='drop'\nDATABASE_URL=mysql://production\nSUPABASE_SESSIONS=always\n")
	output, err := cmd.CombinedOutput()
	require.ErrorContains(t, err, "exit status 1")
	require.Equal(t, "postern: .env has problems:\nPOSTERN_ON_REJECT=\"drop\" is neither skip nor stop: skip goes on with the transactions after a rejected one, stop does not\n", string(output))
}
