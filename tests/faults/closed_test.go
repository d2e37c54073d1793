package faults_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestNoTable starts a service whose policies open no table. The log says so.
func TestNoTable(t *testing.T) {
	t.Parallel()
	running := rig.NewServiceOn(t, rig.NewDatabase(t), rig.Policies(t, "tables: {}\n"))
	require.Eventually(t, func() bool {
		return strings.Contains(running.Logs.String(), "the policies open no table, so every write is rejected")
	}, time.Minute, 10*time.Millisecond)
}
