package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		terminal    bool
		done, total int
		doing       func() string
		want        string
	}{
		{"Line", false, 30, 120, nil, "30 of 120 writes replayed, 25%, about 30s left\n"},
		{"Bar", true, 30, 120, nil, "[=======                       ] 30 of 120 writes replayed, 25%, about 30s left"},
		{"Begin", false, 0, 120, nil, "0 of 120 writes replayed, 0%\n"},
		{"End", true, 120, 120, nil, "[==============================] 120 of 120 writes replayed, 100%"},
		{"MoreThanWereCounted", true, 240, 120, nil, "[==============================] 240 of 120 writes replayed, 200%"},
		{"NotCountedYet", false, 0, 0, nil, "writes replayed, 10s so far\n"},
		{"Doing", false, 30, 120, func() string { return "receipts: scanning table 43%" }, "30 of 120 writes replayed, 25%, receipts: scanning table 43%\n"},
		{"DoingWhatIsNotReported", true, 30, 120, func() string { return "" }, "[=======                       ] 30 of 120 writes replayed, 25%, 10s so far"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			p := &progress{out: &out, what: "writes replayed", doing: test.doing, terminal: test.terminal, stop: make(chan struct{})}
			p.set(0, test.total)
			p.add(test.done)
			p.show(10 * time.Second)
			shown := out.String()
			if test.terminal {
				test.want = unwrapped + test.want + wrapped
			}
			require.Equal(t, test.want, shown)
			p.print(func() { out.WriteString("a line\n") })
			p.end()
			rest := strings.TrimPrefix(out.String(), shown)
			if test.terminal {
				require.Equal(t, "\r\x1b[Ka line\n", rest, "the bar is gone")
			} else {
				require.Equal(t, "a line\n", rest)
			}
		})
	}
}
