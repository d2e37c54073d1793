package e2e_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// devMode is a running postern dev with the configuration that it wrote for a PowerSync
// Service.
type devMode struct {
	*rig.Process
	url       string
	config    string // the file
	powerSync string // the URL where the Service listens with it
}

// startDev runs dev mode until the test ends, in a folder whose .env has the settings.
func startDev(t *testing.T, settings ...string) devMode {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-dev-") // not t.TempDir, which Postgres' user cannot reach
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".env"), []byte(strings.Join(settings, "\n")), 0o600))
	config := filepath.Join(dir, "powersync.yaml")
	powerSync := "http://" + freeAddress(t)
	p, err := rig.StartProcess(filepath.Join(dir, "output"), nil, "sh", "-c", `cd "$0" && exec "$@"`, dir, rig.Command(t),
		"dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--powersync", powerSync, "--powersync-config", config)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url, err := p.Await(ctx, regexp.MustCompile(`(?s)write API +(http\S+)/api/data.*\nWrote `))
	require.NoError(t, err)
	return devMode{p, url, config, powerSync}
}

// What dev mode writes is what PowerSync accepts.
func TestDevWritesPowerSyncConfig(t *testing.T) {
	needNode(t)
	t.Parallel()
	dev := startDev(t)
	config, err := os.ReadFile(dev.config)
	require.NoError(t, err)
	require.Empty(t, checkService(t, string(config)))
	streams, err := os.ReadFile(filepath.Join(filepath.Dir(dev.config), "sync-config.yaml"))
	require.NoError(t, err)
	require.Empty(t, checkSync(t, rig.NewDatabase(t), string(streams)))
}

// serviceEnv names the folder service of a built checkout of
// https://github.com/powersync-ja/powersync-service: pnpm install, then tsc -b in that
// folder, with Node.js 24.
const serviceEnv = "POSTERN_TEST_POWERSYNC_SERVICE"

// serviceFolder is empty if there is no PowerSync Service.
func serviceFolder() string { return os.Getenv(serviceEnv) }

// needService skips the test if there is no PowerSync Service.
func needService(t *testing.T) {
	t.Helper()
	needNode(t)
	if serviceFolder() == "" {
		t.Skip("no PowerSync Service: set " + serviceEnv + " to the folder of a built one")
	}
}

// startPowerSync runs a PowerSync Service until the test ends, and returns when it
// replicates.
func startPowerSync(t *testing.T, config string) *rig.Process {
	t.Helper()
	program, err := filepath.Abs(node)
	require.NoError(t, err)
	service, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"NO_COLOR=1"}, program,
		filepath.Join(serviceFolder(), "lib", "entry.js"), "start", "-r", "unified", "-c", config)
	require.NoError(t, err)
	t.Cleanup(service.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = service.Await(ctx, regexp.MustCompile(`Activated new replication stream`))
	require.NoError(t, err)
	return service
}

// freeAddress is one of the loopback interface that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer free.Close()
	return free.Addr().String()
}

// A real PowerSync Service runs with what dev mode writes: a write comes back to its
// device, and a rejected one becomes a row of the device's rejected_writes.
func TestPowerSyncService(t *testing.T) {
	needService(t)
	t.Parallel()
	dev := startDev(t)
	service := startPowerSync(t, dev.config)

	var r report
	runDevice(t, "powersync-service", []string{"POSTERN_URL=" + dev.url}, &r, outputs{dev.Process, service})
	require.Equal(t, []list{{r.IDs["accepted"], "Groceries", local.UserID("alice")}}, r.Lists)
	require.Len(t, r.NotAccepted, 1)
	require.Equal(t, notAccepted{r.NotAccepted[0].ID, "open", "CHECK_VIOLATION"}, r.NotAccepted[0])
}

// runDevice runs a scenario that uses no testBundle, and reads what it prints.
func runDevice(t *testing.T, scenario string, env []string, received any, logs outputs) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	device := exec.CommandContext(ctx, node, filepath.Join("scenarios", scenario+".mjs"))
	device.Env = append(slices.Clone(env), "DEVICE_FOLDER="+t.TempDir())
	device.Stderr = &stderr
	output, err := device.Output()
	require.NoError(t, err, "%s\nthe device: %s\nthe services: %s", scenario, &stderr, logs)
	require.NoError(t, json.Unmarshal(output, received), string(output))
}

// outputs are those of several processes, one after the other.
type outputs []*rig.Process

func (o outputs) String() string {
	var all strings.Builder
	for _, p := range o {
		all.WriteString(p.Output())
	}
	return all.String()
}
