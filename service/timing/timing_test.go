package timing_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/timing"
)

func TestLaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		laps := timing.Start()
		for _, lap := range []struct {
			phase timing.Phase
			took  time.Duration
		}{{timing.Token, 1}, {timing.Database, 20}, {timing.Retry, 300}, {timing.Database, 4000}} {
			time.Sleep(lap.took)
			laps.End(lap.phase)
		}
		time.Sleep(time.Second) // belongs to a phase that has not ended
		require.Equal(t, time.Duration(4020), laps.Took(timing.Database), "both times of a phase")
		require.Equal(t, time.Duration(300), laps.Took(timing.Retry))
		require.Zero(t, laps.Took(timing.Body), "a phase that did not happen")
		require.Equal(t, time.Duration(4321), laps.Total())
	})
}

func TestNoLaps(t *testing.T) {
	t.Parallel()
	var laps *timing.Laps
	laps.End(timing.Plan) // a replay measures nothing
	require.Nil(t, laps)
}

func TestKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		laps := timing.Start()
		require.Nil(t, laps.Kept())
		laps.Keep()
		kept := laps.Kept()
		lap := func(phase timing.Phase, took time.Duration) {
			time.Sleep(took)
			laps.End(phase)
		}
		lap(timing.Plan, 1)
		lap(timing.Plan, 2)
		require.Equal(t, time.Duration(3), kept.Now())
		lap(timing.Database, 100)
		lap(timing.Plan, 4)
		require.Equal(t, []timing.Lap{
			{Phase: timing.Plan, From: 0, To: 3}, // the two in a row
			{Phase: timing.Database, From: 3, To: 103}, {Phase: timing.Plan, From: 103, To: 107},
		}, kept.Laps)
	})
}

// TestKeptIsBounded has an upload with many attempts.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	laps := timing.Start()
	laps.Keep()
	for range 10_000 {
		laps.End(timing.Plan)
		laps.End(timing.Database)
	}
	require.Len(t, laps.Kept().Laps, 500)
}

func TestPhasesHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"": true}
	for _, phase := range timing.Phases() {
		require.False(t, seen[phase.String()], "%d", phase)
		seen[phase.String()] = true
	}
}
