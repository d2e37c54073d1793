// Package command runs the built binary as its user would.
package command_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// process is a running postern.
type process struct{ *rig.Process }

func start(t *testing.T, env []string, args ...string) process {
	t.Helper()
	return startBuild(t, rig.Command(t), env, args...)
}

func startBuild(t *testing.T, binary string, env []string, args ...string) process {
	t.Helper()
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), env, binary, args...)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	return process{p}
}

// await returns the last group of the pattern once it is in the output.
func (p process) await(t *testing.T, pattern string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	found, err := p.Await(ctx, regexp.MustCompile(pattern))
	require.NoError(t, err)
	return found
}

const (
	curlLine = `(?m)^curl .*$`
	ownerURL = `Postgres +(postgres://\S+)`
)

// paste runs the curl line that dev mode printed.
func paste(t *testing.T, line string) string {
	t.Helper()
	output, err := exec.Command("sh", "-c", line).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return string(output)
}

func count(t *testing.T, url, query string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// dataDir is a folder that Postgres' user can reach.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-data-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestDev(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	args := []string{"dev", "--listen", "127.0.0.1:0", "--data", dir}
	ours := `select count(*) from lists where owner_id = $1`

	first := start(t, nil, args...)
	curl, url := first.await(t, curlLine), first.await(t, ownerURL)
	require.Equal(t, `{"results":[{"status":"success"}]}`, paste(t, curl))
	require.Equal(t, 1, count(t, url, ours, local.UserID("alice")))
	require.Equal(t, `{"results":[{"status":"success"}]}`, paste(t, curl), "the same again")
	require.Equal(t, 1, count(t, url, `select count(*) from lists`))

	// The other ways to a token.
	token, err := exec.Command(rig.Command(t), "token", "--user", "bob", "--data", dir).Output()
	require.NoError(t, err)
	output, err := exec.Command(rig.Command(t), "token", "--data", filepath.Join(dir, "elsewhere")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "postern dev has not run here")
	require.Contains(t, paste(t, bearer.ReplaceAllString(curl, "Bearer "+strings.TrimSpace(string(token)))), `"error_code":"UNAUTHORIZED"`, "bob PUTs alice's list")
	require.Equal(t, 1, count(t, url, `select count(*) from postern.rejected_writes where subject = $1`, local.UserID("bob")))
	tokens := first.await(t, `tokens +(http\S+)`)
	response, err := http.Get(tokens)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	require.NoError(t, err)
	require.Regexp(t, `^\{"token":"[\w.-]+"\}$`, string(body))
	console, err := http.Get(first.await(t, `console +(http\S+)`))
	require.NoError(t, err)
	console.Body.Close()
	require.Equal(t, http.StatusOK, console.StatusCode)

	// A second one on the same folder waits for the first, and finds its data.
	require.Equal(t, 0, first.Signal(os.Interrupt))
	second := start(t, nil, args...)
	url = second.await(t, ownerURL)
	second.await(t, curlLine)
	require.Equal(t, 1, count(t, url, ours, local.UserID("alice")))

	// Killed, it leaves no server behind, and the data.
	second.Kill()
	third := start(t, nil, args...)
	url = third.await(t, ownerURL)
	require.Equal(t, `{"results":[{"status":"success"}]}`, paste(t, third.await(t, curlLine)))
	require.Equal(t, 2, count(t, url, ours, local.UserID("alice")))
	require.Equal(t, 0, third.Stop())

	reset := start(t, nil, append(args, "--reset")...)
	reset.await(t, curlLine)
	require.Equal(t, 0, count(t, reset.await(t, ownerURL), `select count(*) from lists`))
}

var bearer = regexp.MustCompile(`Bearer [\w.-]+`)

func TestDevRefuses(t *testing.T) {
	t.Parallel()

	t.Run("PortInUse", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		p := start(t, nil, "dev", "--listen", listener.Addr().String(), "--data", dataDir(t))
		p.await(t, `address already in use.*choose another address with --listen`)
		require.Equal(t, 1, p.Wait())
	})

	t.Run("BrokenDataFolder", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "postgres", "data"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres", "data", "letter.txt"), []byte("dear"), 0o644))
		p := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", dir)
		p.await(t, `is no Postgres data folder: start over with --reset`)
		p.Wait()
		require.FileExists(t, filepath.Join(dir, "postgres", "data", "letter.txt"))
	})

	t.Run("OtherVersionsData", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "postgres", "data"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres", "data", "PG_VERSION"), []byte("8\n"), 0o644))
		p := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", dir)
		p.await(t, `was written by Postgres 8, which is not installed: install it, or start over with --reset`)
	})

	t.Run("NoPolicies", func(t *testing.T) {
		t.Parallel()
		p := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", dataDir(t), "--policies", t.TempDir())
		p.await(t, `has no \*\.yaml file`)
	})
}

// serveEnv is the configuration of a service for the users of a development issuer.
func serveEnv(database *rig.Database, keys string) []string {
	return []string{
		"DATABASE_URL=" + database.LoginURL, "POSTERN_ISSUER=" + local.IssuerName, "POSTERN_JWKS_URL=" + keys + "/dev/jwks.json",
		"POSTERN_AUDIENCE=" + local.Audience, "POSTERN_LISTEN=127.0.0.1:0", "POSTERN_METRICS_LISTEN=127.0.0.1:0",
	}
}

// upload sends alice's nth transaction, and returns the answer.
func upload(t *testing.T, issuer *local.Issuer, url string, n int) string {
	t.Helper()
	token, err := issuer.Token("alice", time.Now())
	require.NoError(t, err)
	body := fmt.Sprintf(`{"transactions":[{"transaction_id":%d,"crud":[{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-%012d","op_data":{"name":"%[1]d"}}]}]}`, n, n)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/data", strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(answer)
}

// TestServe is production on this machine: migrate as the owner, serve as the
// login role, with the keys of the development issuer.
func TestServe(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, `drop schema postern cascade`)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys := rig.ServeIssuer(t, issuer)
	env := serveEnv(database, keys)

	migrate := exec.Command(rig.Command(t), "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+database.OwnerURL)
	output, err := migrate.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "applied 00001_")
	migrate = exec.Command(rig.Command(t), "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+database.LoginURL, "POSTERN_OWNER_URL="+database.OwnerURL)
	output, err = migrate.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "is up to date")

	serve := func() (p process, url string) {
		p = start(t, env, "serve", "--policies", demoPolicies(t))
		url = "http://" + p.await(t, `"msg":"serving","address":"([^"]+)"`)
		require.Eventually(t, func() bool {
			response, err := http.Get(url + "/readyz")
			if err != nil {
				return false
			}
			response.Body.Close()
			return response.StatusCode == http.StatusOK
		}, 20*time.Second, 20*time.Millisecond, "%s", p.Output())
		return p, url
	}
	p, url := serve()
	require.Equal(t, `{"results":[{"status":"success"}]}`, upload(t, issuer, url, 1))
	p.Kill()
	p, url = serve()
	require.Equal(t, `{"results":[{"status":"success"}]}`, upload(t, issuer, url, 1), "again, as its client does that had no answer")
	require.Equal(t, `{"results":[{"status":"success"}]}`, upload(t, issuer, url, 2))
	require.Equal(t, 2, count(t, database.OwnerURL, `select count(*) from lists`))
	require.Equal(t, 2, count(t, database.OwnerURL, `select count(*) from postern.receipts`))
	require.Equal(t, 0, p.Stop())
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"DATABASE_URL=mysql://secret:password@x", "POSTERN_ON_REJECT=panic", "POSTERN_LOG=loud", "POWERSYNC_URL=powersync"}, "serve")
	p.Wait()
	p.await(t, `POSTERN_LOG="loud"`)
	for _, problem := range []string{"DATABASE_URL is not a Postgres URL", "no issuer of tokens", `POSTERN_ON_REJECT="panic"`, `POWERSYNC_URL="powersync"`} {
		require.Contains(t, p.Output(), problem)
	}
	require.NotContains(t, p.Output(), "secret")
}
