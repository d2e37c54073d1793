package command_test

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// testNpx installs the packed npm packages into an empty folder, without a registry, and
// runs npx postern there.
func testNpx(t *testing.T, dist string) {
	dir := dataDir(t)
	write(t, filepath.Join(dir, "package.json"), "{}")
	launcher := filepath.Join(dist, "postern-"+npmVersion+".tgz")
	platform := onlyFile(t, filepath.Join(dist, "postern-*-*-"+npmVersion+".tgz"))
	install := exec.Command("npm", "install", "--offline", "--no-audit", "--no-fund", launcher, platform)
	install.Dir = dir
	output, err := install.CombinedOutput()
	require.NoError(t, err, "%s", output)

	var manifest struct{ OptionalDependencies map[string]string }
	content, err := os.ReadFile(filepath.Join(dir, "node_modules", "postern", "package.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &manifest))
	require.Equal(t, map[string]string{
		"@postern/linux-x64": npmVersion, "@postern/linux-arm64": npmVersion, "@postern/darwin-x64": npmVersion,
		"@postern/darwin-arm64": npmVersion, "@postern/win32-x64": npmVersion, "@postern/win32-arm64": npmVersion,
	}, manifest.OptionalDependencies)

	npx := installed("npx", "--offline", "--prefix", dir, "postern")
	requireCommands(t, npx, demoPolicies(t))
	mistaken := npx("", "policy", "check", dir, dir)
	output, err = mistaken.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, mistaken.ProcessState.ExitCode(), "the exit code is the binary's: %s", output)

	npxDev(t, dir, func(npx int) error { return syscall.Kill(-npx, syscall.SIGINT) }) // Ctrl-C, which a terminal sends to the whole group
	npxDev(t, dir, func(npx int) error { return syscall.Kill(npx, syscall.SIGTERM) })

	require.NoError(t, os.RemoveAll(onlyFile(t, filepath.Join(dir, "node_modules", "@postern", "*"))))
	output, err = npx("", "version").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "is not installed. Install postern again, with optional dependencies")
}

// npxDev writes a row as dev mode says, and ends npx.
func npxDev(t *testing.T, dir string, end func(npx int) error) {
	t.Helper()
	npx, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), nil,
		"sh", "-c", `cd "$0" && exec setsid npx --offline postern dev --listen 127.0.0.1:0`, dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(-npx.PID(), syscall.SIGKILL) })
	dev := process{npx}
	require.Equal(t, `{"results":[{"status":"success"}]}`, paste(t, dev.await(t, curlLine)))
	require.DirExists(t, filepath.Join(dir, ".postern"))

	require.NoError(t, end(npx.PID()))
	npx.Wait()
	for _, pattern := range []string{`write API +(\S+)`, ownerURL} {
		address, err := url.Parse(dev.await(t, pattern))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", address.Host)
			if err == nil {
				conn.Close()
			}
			return err != nil
		}, 20*time.Second, 20*time.Millisecond, "%s still answers", address.Host)
	}
}
