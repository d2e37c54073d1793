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
	for _, tc := range []struct {
		name, home string
		isShared   bool
	}{
		{"SharedByAllDataFolders", data, true},
		{"NoCacheOfTheUser", filepath.Join(file, "home"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("HOME", tc.home)
			t.Setenv("XDG_CACHE_HOME", "")
			want := filepath.Join(data, "cache")
			if tc.isShared {
				cache, err := os.UserCacheDir()
				require.NoError(t, err)
				want = filepath.Join(cache, "postern")
			}
			require.Equal(t, want, job{Dir: data}.downloads())
		})
	}
}
