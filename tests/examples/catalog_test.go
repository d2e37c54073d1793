// Package examples runs the example apps of the guide to policies on a real Postgres,
// and rules that are hard to get right.
package examples_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/catalog/catalogtest"
	"postern/tests/rig"
)

var update = flag.Bool("update", false, "write the catalogue file anew")

func TestMain(m *testing.M) { rig.Main(m) }

// The folders with a schema.sql.
const (
	examples = "../../policies/examples"
	testdata = "../../policies/testdata"
)

// newDatabase has the tables of a folder's schema.sql, in the place of the demo's.
func newDatabase(t testing.TB, dir string) *rig.Database {
	t.Helper()
	schema, err := os.ReadFile(filepath.Join(dir, "schema.sql"))
	require.NoError(t, err)
	database := rig.NewDatabase(t)
	database.Exec(t, `drop table todos, lists cascade`)
	database.Exec(t, string(schema))
	return database
}

// TestCatalog is that testdata/catalog.json has the tables of schema.sql.
func TestCatalog(t *testing.T) {
	t.Parallel()
	read, err := catalog.Read(t.Context(), newDatabase(t, testdata).Owner, []string{"authenticated"})
	require.NoError(t, err)
	want, err := catalogtest.Marshal(read)
	require.NoError(t, err)
	path := filepath.Join(testdata, "catalog.json")
	if *update {
		require.NoError(t, os.WriteFile(path, want, 0o644))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "go test ./tests/examples -update writes it anew")
}
