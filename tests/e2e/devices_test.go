package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// The console's devices in a browser: each step of the tour, with the real web client and
// with the simulation.
func TestDevices(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	s := rig.NewService(t, rig.DemoPolicies(t))
	rejectMany(t, s)
	driveConsole(t, "devices.mjs", s)
	require.Equal(t, "Named by A,Named by A,Named by A,Named by A", s.Database.Text(t, `select string_agg(name, ',') from lists`))
	require.Equal(t, "CHECK_VIOLATION,CHECK_VIOLATION", s.Database.Text(t, `select string_agg(code, ',') from postern.rejected_writes where 'lists' = any(tables)`))
}
