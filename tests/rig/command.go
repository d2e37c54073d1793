package rig

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var command = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "postern")
	return file, BuildCommand(context.Background(), file)
})

// Command is the built binary; a package's tests build it once, when the first
// of them needs it.
func Command(t testing.TB) string {
	t.Helper()
	file, err := command()
	require.NoError(t, err)
	return file
}

// ServeCommand is NewServiceOn for what its users run: `postern serve` with the
// demo's policies, told everything else by the environment. It is listening, and
// need not be ready yet.
func ServeCommand(t testing.TB, database *Database, env ...string) *Service {
	t.Helper()
	env = append([]string{
		"DATABASE_URL=" + database.LoginURL, "POSTERN_LISTEN=127.0.0.1:0", "POSTERN_POLICIES=" + demoFolder(),
		"POWERSYNC_URL=https://powersync.example.com/", "POSTERN_METRICS_LISTEN=127.0.0.1:0",
	}, env...)
	p, err := StartProcess(filepath.Join(t.TempDir(), "output"), env, Command(t), "serve")
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	address, err := p.Await(t.Context(), serving)
	require.NoError(t, err)
	return &Service{URL: "http://" + address, Database: database, Logs: printed{p}}
}

// printed is a process's output as a service's log.
type printed struct{ *Process }

func (p printed) String() string { return p.Output() }

func demoFolder() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "policies", "demo")
}
