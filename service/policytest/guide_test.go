package policytest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/apply"
	"postern/service/policytest"
	"postern/supabase"
	"postern/tests/rig"
)

// snippet is a policy file in the guide, with what stands beside it.
type snippet struct {
	heading string
	yaml    string
	tests   string // none if empty
	mistake string // what policy check says of the file, if the guide shows a mistake
}

// guide is the guide's code: its snippets, its SQL, and the lines at the top of its tests.
type guide struct {
	snippets  []snippet
	sql, head string
}

// TestGuide has policy check find no more in each snippet of the guide than the guide says,
// and runs the tests beside it. The tables are those of guide.sql and of the guide's SQL.
func TestGuide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../policies/README.md")
	require.NoError(t, err)
	g := readGuide(t, string(page))
	sql := filepath.Join(t.TempDir(), "guide.sql")
	require.NoError(t, os.WriteFile(sql, []byte(g.sql), 0o600))
	db, err := policytest.Start(t.Context(), policytest.Throwaway{ProjectSQL: supabase.Project.SQL, Roles: supabase.Roles, Schema: []string{"../../policies/testdata/guide.sql", sql}})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	for _, s := range g.snippets {
		t.Run(s.heading, func(t *testing.T) {
			t.Parallel()
			live, found := checkSnippet(t, db, s.yaml)
			require.Equal(t, s.mistake, found, s.yaml)
			if s.tests == "" {
				return
			}
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "app_test.yaml"), []byte(s.tests), 0o600))
			report, err := policytest.Run(t.Context(), db, live, dir)
			require.NoError(t, err, s.tests)
			for _, result := range report.Files[0].Results {
				require.Empty(t, result.Failures, "%s\n%+v", result.Name, result.Steps)
			}
		})
	}
}

// readGuide reads the blocks of each section. A block with tests is for the policies above
// it in its section, and a text below a mistake is what check says of it.
func readGuide(t *testing.T, page string) (g guide) {
	t.Helper()
	found := map[string]int{}
	for section := range strings.SplitSeq(page, "\n##") {
		heading, _, _ := strings.Cut(strings.TrimLeft(section, "# "), "\n")
		var last *snippet // of the section
		for _, block := range rig.Blocks(section) {
			found[block.Kind]++
			switch keys := keysOf(t, block); {
			case block.Kind == "sql":
				g.sql += block.Code
			case slices.Contains(keys, "tests"):
				require.True(t, last != nil && last.tests == "", "there are no policies for these tests:\n%s", block.Code)
				if last.tests = block.Code; !slices.Contains(keys, "users") {
					last.tests = g.head + block.Code
				}
			case slices.Contains(keys, "users"):
				require.Empty(t, g.head, "a second head of tests:\n%s", block.Code)
				g.head = block.Code
			case keys != nil:
				g.snippets = append(g.snippets, snippet{heading: heading, yaml: block.Code})
				last = &g.snippets[len(g.snippets)-1]
			case block.Kind == "text":
				require.True(t, last != nil && last.mistake == "", "there are no policies of which check says this:\n%s", block.Code)
				last.mistake = block.Code
			default:
				require.Equal(t, "console", block.Kind, "no test has such a block:\n%s", block.Code)
			}
		}
	}
	for kind, n := range found {
		require.Equal(t, n, strings.Count(page, "```"+kind+"\n"), "a block of %s does not begin on a line of its own", kind)
	}
	return g
}

// keysOf are the keys of a block of YAML.
func keysOf(t *testing.T, block rig.Block) (keys []string) {
	t.Helper()
	if block.Kind != "yaml" {
		return nil
	}
	var file map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(block.Code), &file), block.Code)
	require.NotEmpty(t, file, "this block says nothing:\n%s", block.Code)
	for key := range file {
		keys = append(keys, key)
	}
	return keys
}

// checkSnippet returns what policy check says of a file, with its warnings.
func checkSnippet(t *testing.T, db *policytest.Database, yaml string) (live *policies.Live, found string) {
	t.Helper()
	files := fstest.MapFS{"app.yaml": {Data: []byte(yaml)}}
	set, mistakes, err := policies.Examine(files, "policies", db.Snapshot())
	require.NoError(t, err)
	columns, ofLookups, err := apply.PrepareLookups(t.Context(), db.Pool, "authenticated", db.Snapshot().Settings("authenticated"), set)
	require.NoError(t, err)
	if mistakes = policies.Join(mistakes, ofLookups); mistakes != nil {
		found = fmt.Sprintln(mistakes)
	}
	for _, warning := range slices.Concat(set.Warnings(db.Snapshot(), columns), set.Unused()) {
		found += fmt.Sprintf("warning: %v\n", warning)
	}
	if mistakes == nil {
		live, err = policies.LoadFS(files, "policies")
		require.NoError(t, err)
	}
	require.Empty(t, set.MissingGrants(db.Snapshot(), "authenticated"))
	return live, found
}
