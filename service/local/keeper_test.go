package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDownloads(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, tc := range []struct{ name, home, want string }{
		{"SharedByAllDataFolders", data, filepath.Join(data, ".cache", "postern")},
		{"NoCacheOfTheUser", filepath.Join(file, "home"), filepath.Join(data, "cache")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("HOME", tc.home)
			t.Setenv("XDG_CACHE_HOME", filepath.Join(tc.home, ".cache"))
			require.Equal(t, tc.want, job{Dir: data}.downloads())
		})
	}
}
