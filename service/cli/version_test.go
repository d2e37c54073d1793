package cli

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionOf(t *testing.T) {
	t.Parallel()
	built := func(settings ...debug.BuildSetting) *debug.BuildInfo { return &debug.BuildInfo{Settings: settings} }
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	for _, test := range []struct {
		name, release string
		info          *debug.BuildInfo
		want          string
	}{
		{"Release", "v2.0.0", built(revision), "v2.0.0"},
		{"Commit", "", built(revision), "commit 0123456789ab"},
		{"CommitWithChanges", "", built(revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "commit 0123456789ab+changes"},
		{"Unknown", "", built(), "of an unknown commit"},
		{"NoInfo", "", nil, "of an unknown commit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, versionOf(test.release, test.info))
		})
	}
}
