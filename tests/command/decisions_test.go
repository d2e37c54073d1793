package command_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// served is `postern serve` with the demo's policies and some settings. list makes a list.
func served(t *testing.T, database *rig.Database, env ...string) (p *rig.Process, list func(name string, headers ...string)) {
	t.Helper()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	p, url, err := rig.Serve(t.Context(), filepath.Join(t.TempDir(), "output"), rig.Command(t), database.LoginURL, rig.ServeIssuer(t, issuer), "../../policies/demo", env...)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	s := &rig.Service{URL: url, Issuer: issuer}
	return p, func(name string, headers ...string) {
		body := `{"transactions":[{"crud":[{"op":"PUT","table":"lists","id":"` + uuid.NewString() + `","op_data":{"name":"` + name + `"}}]}]}`
		answer := s.Send(t, http.MethodPost, "/api/data", body, append(headers, "Authorization", "Bearer "+s.Token(t, "alice"))...)
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	}
}

// TestDecisionLogIsRotated does what logrotate does: it renames the file, and sends SIGHUP.
func TestDecisionLogIsRotated(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "decisions.log")
	p, list := served(t, rig.NewDatabase(t), "POSTERN_DECISION_LOG="+file)
	lines := func(file string) int {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.Count(string(content), "\n")
	}
	list("a")
	require.NoError(t, os.Rename(file, file+".1"))
	list("a")
	require.Equal(t, 2, lines(file+".1"), "until the signal, the renamed file has the lines")
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGHUP))
	require.Eventually(t, func() bool {
		_, err := os.Stat(file)
		return err == nil
	}, 20*time.Second, 5*time.Millisecond, "%s", p.Output())
	list("a")
	require.Equal(t, 1, lines(file))
	require.Equal(t, 2, lines(file+".1"))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it says what each user does")
}

func TestDecisionLogOnStdout(t *testing.T) {
	t.Parallel()
	p, list := served(t, rig.NewDatabase(t), "POSTERN_DECISION_LOG=stdout")
	list("a")
	require.Contains(t, p.Output(), `"outcome":"success","rows":1`)
}

func TestDecisionLogCannotBeOpened(t *testing.T) {
	t.Parallel()
	demo, err := filepath.Abs("../../policies/demo")
	require.NoError(t, err)
	said := refuse(t, "POSTERN_LISTEN: 127.0.0.1:0\n", []string{
		"POSTERN_DECISION_LOG=/nowhere/decisions.log", "DATABASE_URL=postgres://postern@127.0.0.1/x",
		"SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co", "POSTERN_POLICIES=" + demo,
	})
	require.Contains(t, said, "POSTERN_DECISION_LOG: open /nowhere/decisions.log: no such file or directory: create its folder")
}
