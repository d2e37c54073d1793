package limits_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/limits"
)

const mib = 1 << 20

// Each limit on machines of several sizes.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                                         string
		memory                                       int64 // that the process may use
		bodies                                       int64
		body, operations, connections, tokens, rated int
	}{
		{"64 MiB", 64 * mib, 4 * mib, 2 * mib, 5242, 1024, mib, 2730},
		{"128 MiB", 128 * mib, 8 * mib, 4 * mib, 10485, 2048, 2 * mib, 5461},
		{"the smallest of Fly", limits.WithMemory(256 * mib).Memory, 15099494, 8 * mib, 20000, 3686, 3774873, 9830},
		{"256 MiB", 256 * mib, 16 * mib, 8 * mib, 20000, 4096, 4 * mib, 10922},
		{"1 GiB", 1024 * mib, 64 * mib, 32 * mib, 20000, 16384, 16 * mib, 43690},
		{"64 GiB", 65536 * mib, 4096 * mib, 32 * mib, 20000, 1048576, 1024 * mib, 2796202},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := limits.Machine{Memory: test.memory}
			require.Equal(t, test.bodies, m.Bodies(0))
			require.Equal(t, test.body, m.Body())
			require.Equal(t, test.operations, m.Operations())
			require.Equal(t, test.connections, m.Connections())
			require.Equal(t, test.tokens, m.Tokens())
			require.Equal(t, test.rated, m.RatedUsers())
		})
	}
}

// What may be in memory at once is less than the memory: half of it for requests, and
// idle connections, tokens and one rate beside them.
func TestTogether(t *testing.T) {
	t.Parallel()
	const idle, user = 24 << 10, 200 // bytes, as measured
	for memory := int64(64 * mib); memory < 1<<40; memory *= 2 {
		m := limits.Machine{Memory: memory}
		require.Less(t, 8*m.Bodies(0)+idle*int64(m.Connections())+int64(m.Tokens())+user*int64(m.RatedUsers()), memory*19/20)
		require.LessOrEqual(t, int64(m.Operations())*400, m.Bodies(m.Body()), "the largest request fits")
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 14 << 10: "14 KiB", 15099494: "14.4 MiB", 32 << 20: "32 MiB", 4 << 30: "4 GiB"} {
		require.Equal(t, want, limits.Bytes(n))
	}
	require.Equal(t, []string{"7", "1,053", "20,000", "1,000,000"}, []string{limits.Count(7), limits.Count(1053), limits.Count(20000), limits.Count(1e6)})
	require.Equal(t, []string{"25s", "30m", "1h", "1h30m"}, []string{limits.Duration(25e9), limits.Duration(30 * time.Minute), limits.Duration(time.Hour), limits.Duration(90 * time.Minute)})
}
