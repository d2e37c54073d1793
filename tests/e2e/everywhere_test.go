package e2e_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// everywhere runs a scenario of scenarios/everywhere as a test for each platform: with
// the SDK for Node.js, and with the one for browsers in a headless Chromium.
func everywhere(t *testing.T, scenario string, setup func(*testing.T) *testBundle, check func(*testing.T, *testBundle, report)) {
	t.Parallel()
	for _, platform := range []string{"node", "web"} {
		t.Run(platform, func(t *testing.T) {
			if platform == "web" {
				needBrowser(t)
			}
			b := setup(t)
			check(t, b, b.runNode(t, "everywhere.mjs", platform, scenario))
		})
	}
}

// chromium is the path of a Chromium, empty if there is none.
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func needBrowser(t *testing.T) {
	t.Helper()
	if chromium() == "" {
		missing(t, "there is no Chromium: install the package chromium")
	}
}

// What is written offline is there when the device comes back, in its order.
func TestOffline(t *testing.T) {
	everywhere(t, "offline", setup, func(t *testing.T, b *testBundle, r report) {
		require.Equal(t, "Food", b.db.Text(t, `select string_agg(name, ',') from lists where owner_id = $1`, b.alice), "Chores was deleted")
		require.Equal(t, "Milk", b.db.Text(t, `select string_agg(description, ',') from todos where list_id = $1`, r.IDs["groceries"]))
		require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
		require.Equal(t, []list{{r.IDs["groceries"], "Food", b.alice}}, r.Lists)
		require.Len(t, r.Todos, 1)
		require.Len(t, r.Uploads, 2, "all that was written offline goes in one request")
	})
}
