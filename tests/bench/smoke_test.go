package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSmoke runs the benchmark for a moment, through the proxy. It judges only what is the
// same on every machine: round trips, and statements that Postgres parses once a
// connection is warm. What Postern does between requests may add a few.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command")
	}
	t.Parallel()
	s, closeStage, err := newStage(t.Context())
	require.NoError(t, err)
	t.Cleanup(closeStage)
	e := effort{rounds: 1, slice: 100 * time.Millisecond, connections: []int{2}}
	seen := 0
	_, err = s.measure(t.Context(), compared(), e, time.Millisecond, func(c cell) {
		seen++
		for _, i := range c.compared {
			m := c.measured[i]
			requests := float64(m.requests())
			require.InDelta(t, 1, float64(m.roundTrips)/requests, 0.5, "%v, %v: round trips", i, c.shape)
			require.InDelta(t, 0, float64(m.parsed)/requests, 0.5, "%v, %v: statements parsed", i, c.shape)
		}
	})
	require.NoError(t, err)
	require.Len(t, shapes, seen)
}
