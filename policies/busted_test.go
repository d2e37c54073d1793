package policies_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/catalog/catalogtest"
)

var update = flag.Bool("update", false, "update the golden and generated files")

// tables returns the tables of testdata/schema.sql.
func tables(t testing.TB) *catalog.Snapshot {
	t.Helper()
	return catalogtest.Load(t, "testdata/catalog.json")
}

// columnsOf stands for Postgres, which says what columns a lookup has.
func columnsOf(*policies.Lookup) ([]policies.LookupColumn, error) {
	return []policies.LookupColumn{{Name: "archived", Kind: policies.Boolean}, {Name: "name", Kind: policies.Text}, {Name: "made_at", Kind: policies.Time}, {Name: "day", Kind: policies.Date}, {Name: "most", Kind: policies.Number, Nullable: true}}, nil
}

// TestBusted has one file for each mistake, with the message that its author reads.
// A file name.also.yaml is loaded together with name.yaml.
func TestBusted(t *testing.T) {
	t.Parallel()
	snapshot := tables(t)
	paths, err := filepath.Glob("testdata/busted/busted_*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		if strings.HasSuffix(path, ".also.yaml") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			files := fstest.MapFS{"app.yaml": {Data: content}}
			if also, err := os.ReadFile(strings.TrimSuffix(path, ".yaml") + ".also.yaml"); err == nil {
				files["another.yaml"] = &fstest.MapFile{Data: also}
			}
			set, problems, err := policies.Examine(files, "policies", snapshot)
			require.NoError(t, err)
			columns, ofLookups := set.CheckLookups(columnsOf)
			problems = policies.Join(problems, ofLookups)
			require.Error(t, problems)
			found := problems.Error() + "\n"
			for _, warning := range slices.Concat(set.Warnings(snapshot, columns), set.Unused()) {
				found += "warning: " + warning.Error() + "\n"
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(found), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), found, "to update it: go test ./policies -run TestBusted -update")
		})
	}
}
