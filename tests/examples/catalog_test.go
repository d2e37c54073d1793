// Package examples runs the example apps of the guide to policies against a real
// Postgres, and holds what is decided without a database against what Postgres
// does.
package examples_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/tests/rig"
)

var update = flag.Bool("update", false, "write the catalogue files anew")

func TestMain(m *testing.M) { rig.Main(m) }

// The folders with a schema.sql and the catalog.json made of it.
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

// TestCatalogs is that catalog.json is what the command would write of the tables
// in schema.sql.
func TestCatalogs(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{examples + "/lists", examples + "/fieldservice", examples + "/shop", testdata} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			read, err := catalog.Read(t.Context(), newDatabase(t, dir).Owner, []string{"authenticated"})
			require.NoError(t, err)
			want, err := read.ForFile().MarshalJSON()
			require.NoError(t, err)
			path := filepath.Join(dir, "catalog.json")
			if *update {
				require.NoError(t, os.WriteFile(path, want, 0o644))
			}
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got), "go test ./tests/examples -update writes it anew")
		})
	}
}
