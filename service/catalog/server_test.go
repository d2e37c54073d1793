package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]string{
		"9.6.24": "9.6.24", "13.23": "13.23", "13.23 (Debian 13.23-1.pgdg120+1)": "13.23",
		"14.0": "", "18.4": "", "15.18 (Debian 15.18-0+deb12u1)": "", "19beta1": "", "": "", "unknown": "",
	} {
		var want error
		if old != "" {
			want = &OldServer{old}
		}
		require.Equal(t, want, checkVersion(version), version)
	}
}
