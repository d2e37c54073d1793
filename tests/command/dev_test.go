package command_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// freePort is a port of the loopback address that nothing uses.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

// Ctrl-C ends dev mode in whatever it is doing. Its port is free then, no Postgres runs
// on, and the next start works.
func TestDevInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, at string }{
		{"while Postgres starts", `Starting Postgres in`},
		{"while the database is prepared", `Preparing the database`},
		{"while it serves", curlLine},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir, address := dataDir(t), "127.0.0.1:"+freePort(t)
			args := []string{"dev", "--listen", address, "--data", dir}
			p := start(t, nil, args...)
			p.await(t, tc.at)
			require.Equal(t, 0, p.Signal(os.Interrupt), p.Output())
			requireFree(t, address, dir)

			again := start(t, nil, args...)
			again.await(t, curlLine)
			again.await(t, "The configuration of a PowerSync Service")
			require.Regexp(t, `(?s)development only[^\n]*\n\n  console +http://.*\n  write API .*The configuration of a PowerSync Service`, again.Output(), "the console's address is the first")
			require.Equal(t, 0, again.Signal(os.Interrupt))
			requireFree(t, address, dir)
		})
	}
}

// If dev mode is killed while it makes the database, as by a second Ctrl-C, no Postgres
// runs on.
func TestDevKilledInItsStart(t *testing.T) {
	t.Parallel()
	dir, address := dataDir(t), "127.0.0.1:"+freePort(t)
	p := start(t, nil, "dev", "--listen", address, "--data", dir)
	initdb := func() bool {
		_, err := os.Stat(filepath.Join(dir, "postgres", "data", "PG_VERSION"))
		return err == nil
	}
	require.Eventually(t, initdb, time.Minute, 5*time.Millisecond)
	p.Kill()
	lock, err := os.Open(filepath.Join(dir, "postgres", "lock"))
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX), "when all is done")
	requireFree(t, address, dir)
}

// requireFree says that nothing of a run of dev mode is left.
func requireFree(t *testing.T, address, dir string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.NoFileExists(t, filepath.Join(dir, "postgres", "data", "postmaster.pid"))
}

// A download that never ends does not keep dev mode from ending.
func TestDevInterruptedDownload(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, and answers none
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	dir, address := dataDir(t), "127.0.0.1:"+freePort(t)
	data := filepath.Join(dir, "postgres", "data")
	require.NoError(t, os.MkdirAll(data, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(notInstalled(t)+"\n"), 0o644))

	proxy := "http://" + silent.Addr().String()
	p := start(t, []string{"HTTPS_PROXY=" + proxy, "https_proxy=" + proxy, "NO_PROXY=", "no_proxy="}, "dev", "--listen", address, "--data", dir)
	p.await(t, `Downloading Postgres \d+\.\S+ to \S+`)
	require.Equal(t, 0, p.Signal(os.Interrupt), p.Output())
	requireFree(t, address, dir)
}

// notInstalled is a release of Postgres that can be downloaded, and is not installed.
func notInstalled(t *testing.T) string {
	t.Helper()
	onPath, _ := exec.Command("postgres", "--version").Output() // none may be there
	for release := 14; release <= 18; release++ {
		found := strings.Count(string(onPath), fmt.Sprintf(" %d.", release))
		for _, pattern := range []string{"/usr/lib/postgresql/%d", "/usr/pgsql-%d", "/opt/homebrew/opt/postgresql@%d", "/usr/local/opt/postgresql@%d", "/Applications/Postgres.app/Contents/Versions/%d"} {
			if _, err := os.Stat(fmt.Sprintf(pattern, release)); err == nil {
				found++
			}
		}
		if found == 0 {
			return strconv.Itoa(release)
		}
	}
	rig.Unable(t, "all releases of Postgres are installed here")
	return ""
}

func TestDevForPowerSync(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), dataDir(t)
	file, streams := filepath.Join(dir, "powersync.yaml"), filepath.Join(dir, "sync-config.yaml")
	args := []string{"dev", "--listen", "127.0.0.1:0", "--data", data, "--powersync", "http://192.0.2.7:9000"}

	p := start(t, nil, append(args, "--powersync-config", file, "--powersync-host", "host.docker.internal")...)
	url := p.await(t, `write API +(http\S+)/api/data`)
	p.await(t, curlLine)
	require.Equal(t, 0, count(t, p.await(t, ownerURL), `select count(*) from pg_settings where name = 'wal_level' and setting <> 'logical'`))
	config := read(t, file)
	for _, line := range []string{
		"    - type: postgresql\n      uri: postgres://powersync_role:powersync@host.docker.internal:",
		"port: 9000\n", "  path: sync-config.yaml\n", "  jwks_uri: " + strings.Replace(url, "127.0.0.1", "host.docker.internal", 1) + "/dev/jwks.json\n",
	} {
		require.Contains(t, config, line)
	}
	require.Contains(t, read(t, streams), `FROM "postern"."rejected_writes"`)
	require.Equal(t, "http://192.0.2.7:9000", credentials(t, url)["endpoint"])
	require.Equal(t, 0, p.Signal(os.Interrupt))

	// The streams are the developer's, and the rest is written anew.
	require.NoError(t, os.WriteFile(streams, []byte("mine"), 0o600))
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	p = start(t, nil, append(args, "--powersync-config", file)...)
	p.await(t, `sync-config.yaml is kept as it is`)
	require.Equal(t, "mine", read(t, streams))
	require.Contains(t, read(t, file), "uri: postgres://powersync_role:powersync@127.0.0.1:")
	require.Equal(t, 0, p.Signal(os.Interrupt))

	// Without a file, all of it is printed.
	p = start(t, nil, args...)
	p.await(t, `(?s)uri: postgres://powersync_role.*uri: postgres://powersync_storage.*streams:.*jwks_uri: http://127.0.0.1:\d+/dev/jwks.json`)
	require.Equal(t, 0, p.Signal(os.Interrupt))
}

func TestDevRefusesPowerSyncURL(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", dataDir(t), "--powersync", "localhost:8080")
	p.await(t, `--powersync="localhost:8080" is not an http\(s\) URL`)
	require.Equal(t, 1, p.Wait())
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(content)
}

// credentials are what dev mode gives alice's device for the PowerSync Service.
func credentials(t *testing.T, url string) map[string]any {
	t.Helper()
	token, _ := get(t, url+"/dev/token?user=alice", "")["token"].(string)
	return get(t, url+"/api/credentials", token)
}

func get(t *testing.T, url, token string) (answer map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.NoError(t, json.UnmarshalRead(response.Body, &answer))
	return answer
}
