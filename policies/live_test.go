package policies_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/catalog/catalogtest"
	"postern/service/upload"
)

// live is a folder of policies that tests write to, with the tables before and after
// a migration.
type live struct {
	*policies.Live
	files         fstest.MapFS
	before, after *catalog.Snapshot
}

const (
	opensLists = "tables: {lists: {allow: all}}"
	opensTodos = "tables: {todos: {allow: all}}"
	misspelt   = "tables: {todos: {allow: all, owner: nobody}}"
	migrated   = "tables: {fresh: {allow: all}}"
)

func setupLive(t *testing.T, yaml string) *live {
	t.Helper()
	l := &live{files: fstest.MapFS{}, before: tables(t)}
	l.write(yaml)
	var err error
	l.Live, err = policies.LoadFS(l.files, "policies")
	require.NoError(t, err)
	content, err := os.ReadFile("testdata/catalog.json")
	require.NoError(t, err)
	l.after = catalogtest.Parse(t, append([]byte(`{"tables": [{"schema": "public", "name": "fresh", "primary_key": ["id"], "columns": [{"name": "id", "type": "uuid", "is": "uuid"}]},`), content[len("{\n  \"tables\": ["):]...))
	return l
}

func (l *live) write(yaml string) { l.files["app.yaml"] = &fstest.MapFile{Data: []byte(yaml)} }

// opens reports whether the set for a snapshot opens a table.
func (l *live) opens(t *testing.T, snapshot *catalog.Snapshot, table string) bool {
	t.Helper()
	set, err := l.For(snapshot)
	require.NoError(t, err)
	found, _ := set.Decide(upload.Operation{Op: upload.Delete, Table: table})
	return found != nil
}

func good(*policies.Set) error { return nil }

func bad(*policies.Set) error { return errors.New("no such view") }

func TestReloadGood(t *testing.T) {
	t.Parallel()
	l := setupLive(t, opensLists)
	require.True(t, l.opens(t, l.before, "lists"))
	l.write(opensTodos)
	changed, err := l.Reload(l.before, good)
	require.True(t, changed)
	require.NoError(t, err)
	require.True(t, l.opens(t, l.before, "todos"))
	changed, err = l.Reload(l.before, good)
	require.False(t, changed)
	require.NoError(t, err)
}

func TestReloadRefusedThenFixed(t *testing.T) {
	t.Parallel()
	l := setupLive(t, opensLists)
	require.True(t, l.opens(t, l.before, "lists"))
	for _, yaml := range []string{misspelt, "tables: [", migrated} {
		sum := l.SHA256()
		l.write(yaml)
		changed, err := l.Reload(l.before, good)
		require.False(t, changed)
		require.Error(t, err)
		require.Equal(t, err, l.Problem())
		require.True(t, l.opens(t, l.before, "lists"))
		require.Equal(t, sum, l.SHA256())
	}
	l.write(opensLists)
	_, err := l.Reload(l.before, good)
	require.NoError(t, err)
	require.NoError(t, l.Problem(), "the files are those in force again")
	changed, err := l.Retry(l.after, good)
	require.False(t, changed, "what was refused before is forgotten")
	require.NoError(t, err)
}

func TestReloadBeforeItsMigration(t *testing.T) {
	t.Parallel()
	l := setupLive(t, opensLists)
	require.True(t, l.opens(t, l.before, "lists"))
	l.write(migrated)
	_, err := l.Reload(l.before, good)
	require.ErrorContains(t, err, "no table public.fresh")
	require.True(t, l.Refused())
	_, err = l.Retry(l.before, good)
	require.Error(t, err)
	require.True(t, l.opens(t, l.after, "lists"), "a request does not put them in force")
	require.Error(t, l.Problem())
	changed, err := l.Retry(l.after, good)
	require.True(t, changed)
	require.NoError(t, err)
	require.NoError(t, l.Problem())
	require.False(t, l.Refused())
	require.True(t, l.opens(t, l.after, "fresh"))
}

func TestReloadOfALookupThatFails(t *testing.T) {
	t.Parallel()
	l := setupLive(t, opensLists)
	require.True(t, l.opens(t, l.before, "lists"))
	l.write(opensTodos)
	_, err := l.Reload(l.before, bad)
	require.ErrorContains(t, err, "no such view")
	require.True(t, l.opens(t, l.before, "lists"))
	changed, err := l.Retry(l.before, good)
	require.True(t, changed)
	require.NoError(t, err)
	require.True(t, l.opens(t, l.before, "todos"))
}

func TestReloadNothingToKeep(t *testing.T) {
	t.Parallel()
	l := setupLive(t, misspelt)
	_, err := l.For(l.before)
	require.ErrorContains(t, err, "nobody")
	l.write(migrated)
	changed, err := l.Reload(l.before, good)
	require.True(t, changed)
	require.ErrorContains(t, err, "fresh")
	_, err = l.For(l.before)
	require.ErrorContains(t, err, "fresh", "the error is that of the newer files")
	require.True(t, l.opens(t, l.after, "fresh"))
	require.NoError(t, l.Problem())
}

// TestFilesOfEditors checks that files which editors create are left out.
func TestFilesOfEditors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(opensLists), 0o600))
	before, err := policies.Read(dir)
	require.NoError(t, err)
	require.NoError(t, os.Symlink("somebody@host.1234:1", filepath.Join(dir, ".#app.yaml")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".app.yaml"), []byte("tables: ["), 0o600))
	after, err := policies.Read(dir)
	require.NoError(t, err)
	require.Equal(t, before.SHA256, after.SHA256)
}
