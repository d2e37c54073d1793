package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestAllocations bounds how often a request allocates memory, which is the same on every
// machine: for itself, and for each operation more. The client's allocations count, too.
// It does not run beside other tests, because they share the counter.
func TestAllocations(t *testing.T) {
	const mostForRequest, mostForOperation, mostForTransaction = 240, 25, 50
	s := rig.NewServiceOn(t, rig.NewDatabase(t), rig.DemoPolicies(t))
	c := newConnection(s.URL, s.Token(t, "alice"))
	t.Cleanup(c.close)
	allocations := func(shape shape) float64 {
		want := `{"results":[` + strings.TrimSuffix(strings.Repeat(`{"status":"success"},`, shape.transactions), ",") + `]}`
		send := func() {
			_, err := c.sendAll(program{}.bodies(c, shape), want)
			require.NoError(t, err)
		}
		const times = 50
		for range times { // warms the statements and the buffers
			send()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			send()
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / times
	}
	one, hundred, transactions := allocations(shape{1, 1}), allocations(shape{1, 100}), allocations(shape{50, 1})
	forOperation, forTransaction := (hundred-one)/99, (transactions-one)/49
	t.Logf("%.0f for a request of one operation, %.1f for each operation more, %.1f for each transaction more", one, forOperation, forTransaction)
	require.Less(t, one, float64(mostForRequest))
	require.Less(t, forOperation, float64(mostForOperation))
	require.Less(t, forTransaction, float64(mostForTransaction))
}
