package rig

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// failed is a test whose Fatal is noted.
type failed struct {
	testing.TB
	why any
}

func (f *failed) Fatal(why ...any) { f.why = why[0]; f.SkipNow() }

func TestOmit(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	t.Setenv("POSTERN_TEST_NOT_RUN", list)
	t.Setenv("CI", "")
	t.Run("Unable", func(t *testing.T) { Unable(t, "no cgroup") })
	t.Run("Missing", func(t *testing.T) { Missing(t, "no promtool") })
	t.Run("Part", func(t *testing.T) { Omit(t, "no mounts") })
	t.Setenv("CI", "true")
	inCI := failed{}
	t.Run("MissingInCI", func(t *testing.T) {
		inCI.TB = t
		Missing(&inCI, "no chromium")
	})
	require.Equal(t, "no chromium", inCI.why)
	content, err := os.ReadFile(list)
	require.NoError(t, err)
	require.Equal(t, "not run here: TestOmit/Unable: no cgroup\nnot run here: TestOmit/Missing: no promtool\nnot run here: TestOmit/Part: no mounts\n", string(content))
}
