package house_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testName   = regexp.MustCompile("`((?:Test|Fuzz)\\w+)((?:/\\w+)*)`")
	folderName = regexp.MustCompile(`in \[?((?:service|policies|supabase|neon|tests)[\w/]*)|and \[(neon)\]`)
)

// TestSecurityNamesTests checks that each line of the tables in SECURITY.md names a test,
// and that the tests exist, in the folders that it names.
func TestSecurityNamesTests(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../SECURITY.md")
	require.NoError(t, err)
	sources, lines := testSources(t), 0
	for _, line := range strings.Split(string(content), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[len(cells)-1] == "shown by" {
			continue
		}
		lines++
		shownBy := cells[len(cells)-1]
		names, folders := testName.FindAllStringSubmatch(shownBy, -1), folderName.FindAllStringSubmatch(shownBy, -1)
		require.NotEmpty(t, names, "SECURITY.md: a line without a test: %s", line)
		require.NotEmpty(t, folders, "SECURITY.md: a line without the folder of its tests: %s", line)
		for _, name := range names {
			require.True(t, hasTest(sources, folders, name[1], strings.Split(name[2], "/")[1:]), "SECURITY.md: there is no test %s%s: %s", name[1], name[2], shownBy)
		}
	}
	require.Greater(t, lines, 20)
}

// TestConnectorBringsNoPackages is why no licences of npm packages are checked.
func TestConnectorBringsNoPackages(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../service/connector/package.json")
	require.NoError(t, err)
	require.NotContains(t, string(content), `"dependencies"`, "list their licences in SECURITY.md, and check them here")
}

// hasTest reports whether one of the folders has the test, in a file that has the names of
// its subtests as strings.
func hasTest(sources map[string][]string, folders [][]string, name string, subtests []string) bool {
	for _, folder := range folders {
		for _, source := range sources[folder[1]+folder[2]] {
			missing := !strings.Contains(source, "\nfunc "+name+"(")
			for _, subtest := range subtests {
				missing = missing || !strings.Contains(source, `"`+subtest+`"`)
			}
			if !missing {
				return true
			}
		}
	}
	return false
}

// testSources are the contents of the test files, by their folders.
func testSources(t *testing.T) map[string][]string {
	t.Helper()
	sources := map[string][]string{}
	for _, pattern := range []string{"*/*_test.go", "*/*/*_test.go", "*/*/*/*_test.go"} {
		files, err := filepath.Glob("../../" + pattern)
		require.NoError(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			folder, err := filepath.Rel("../..", filepath.Dir(file))
			require.NoError(t, err)
			sources[filepath.ToSlash(folder)] = append(sources[filepath.ToSlash(folder)], string(content))
		}
	}
	return sources
}
