package service

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
)

// watchBundle is a folder of policies and the service that watches it.
type watchBundle struct {
	root, path string // path leads to the folder, by what setup has made of it
	live       *policies.Live
}

func setupWatch(t *testing.T, path func(root string) string) *watchBundle {
	t.Helper()
	return setupWatchWith(t, path, fsnotify.NewWatcher)
}

func setupWatchWith(t *testing.T, path func(root string) string, newWatcher func() (*fsnotify.Watcher, error)) *watchBundle {
	t.Helper()
	b := &watchBundle{root: t.TempDir()}
	b.folder(t, "v1", "one")
	b.path = path(b.root)
	var err error
	b.live, err = policies.Load(b.path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s := &Service{policies: b.live, catalog: catalog.New(nil, nil), logger: slog.New(slog.DiscardHandler)}
	ended := make(chan struct{})
	go func() { defer close(ended); s.watchPolicies(ctx, newWatcher) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

// folder makes a folder with a policy for a table.
func (b *watchBundle) folder(t *testing.T, name, table string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(b.root, name), 0o700))
	write(t, filepath.Join(b.root, name, "app.yaml"), table)
}

func write(t *testing.T, path, table string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("tables: {"+table+": {allow: all}}\n"), 0o600))
}

// link makes a link lead somewhere else at once.
func link(t *testing.T, to, path string) {
	t.Helper()
	require.NoError(t, os.Symlink(to, path+".new"))
	require.NoError(t, os.Rename(path+".new", path))
}

// taken waits until what is in force is what the path has.
func (b *watchBundle) taken(t *testing.T) {
	t.Helper()
	source, err := policies.Read(b.path)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.live.SHA256() == source.SHA256 && b.live.Problem() == nil }, 10*time.Second, 5*time.Millisecond)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	inPlace := func(root string) string { return filepath.Join(root, "v1") }

	t.Run("MadeAnew", func(t *testing.T) {
		t.Parallel()
		b := setupWatch(t, inPlace)
		b.folder(t, "v1", "two")
		b.taken(t)
		require.NoError(t, os.RemoveAll(b.path))
		require.Eventually(t, func() bool { return b.live.Problem() != nil }, 10*time.Second, 5*time.Millisecond)
		b.folder(t, "v1", "three")
		b.taken(t)
		write(t, filepath.Join(b.path, "app.yaml"), "four")
		b.taken(t)
	})

	t.Run("MovedAway", func(t *testing.T) {
		t.Parallel()
		b := setupWatch(t, inPlace)
		require.NoError(t, os.Rename(b.path, filepath.Join(b.root, "old")))
		b.folder(t, "v1", "two")
		b.taken(t)
		b.folder(t, "v1", "three")
		b.taken(t)
	})

	t.Run("LinkLeadsElsewhere", func(t *testing.T) {
		t.Parallel()
		b := setupWatch(t, func(root string) string {
			link(t, "v1", filepath.Join(root, "current"))
			return filepath.Join(root, "current")
		})
		b.folder(t, "v2", "two")
		link(t, "v2", b.path)
		b.taken(t)
		b.folder(t, "v2", "three")
		b.taken(t)
	})

	t.Run("LinkAboveLeadsElsewhere", func(t *testing.T) {
		t.Parallel()
		b := setupWatch(t, func(root string) string {
			require.NoError(t, os.MkdirAll(filepath.Join(root, "release1"), 0o700))
			require.NoError(t, os.Rename(filepath.Join(root, "v1"), filepath.Join(root, "release1", "policies")))
			link(t, "release1", filepath.Join(root, "current"))
			return filepath.Join(root, "current", "policies")
		})
		b.folder(t, "release2/policies", "two")
		link(t, "release2", filepath.Join(b.root, "current"))
		b.taken(t)
	})

	t.Run("Overflow", func(t *testing.T) {
		t.Parallel()
		missed := make(chan error, 2)
		b := setupWatchWith(t, inPlace, func() (*fsnotify.Watcher, error) {
			watcher, err := fsnotify.NewWatcher()
			require.NoError(t, err)
			watcher.Events, watcher.Errors = make(chan fsnotify.Event), missed // every change is dropped
			return watcher, nil
		})
		for _, table := range []string{"two", "three"} { // the first one may also be taken because the service has just begun
			b.folder(t, "v1", table)
			missed <- fsnotify.ErrEventOverflow
			b.taken(t)
		}
	})

	t.Run("ConfigMap", func(t *testing.T) {
		t.Parallel()
		b := setupWatch(t, func(root string) string {
			require.NoError(t, os.MkdirAll(filepath.Join(root, "mounted"), 0o700))
			link(t, "../v1", filepath.Join(root, "mounted", "..data"))
			link(t, "..data/app.yaml", filepath.Join(root, "mounted", "app.yaml"))
			return filepath.Join(root, "mounted")
		})
		b.folder(t, "v2", "two")
		link(t, "../v2", filepath.Join(b.path, "..data"))
		b.taken(t)
	})
}
