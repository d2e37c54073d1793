// Package house_test holds the tree against the plan of its layout.
package house_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "postern"

// floors are the packages from the ground up. A package imports those of its own
// floor and of the floors below. Packages that do not exist yet have their place.
var floors = [][]string{
	{"service/upload", "service/identity", "service/catalog", "service/value"},
	{"policies", "service/ledger"},
	{"service/plan", "service/local"}, // local migrates databases, so it is above ledger
	{"service/apply", "supabase", "neon"},
	{"service/replay", "service/policytest", "service/console"},
	{"service"},
	{"service/cli"},
	{"."}, // main.go
}

// only lists who may import a package, where the floors allow more.
var only = map[string][]string{
	"supabase":      {"service/cli"},
	"neon":          {"service/cli"},
	"service/local": {"service/cli", "service/policytest", "supabase", "neon"},
}

// policiesImports are all that the language of rules knows of the service.
var policiesImports = []string{"service/upload", "service/identity", "service/catalog", "service/value"}

// notAName lists words that say nothing about what a package is for.
var notAName = []string{"util", "utils", "common", "models", "helpers", "types"}

func TestFloors(t *testing.T) {
	t.Parallel()
	require.Empty(t, violations(readImports(t)))
}

// Each rule finds its violation.
func TestViolations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		imports map[string][]string
		want    []string
	}{
		"arrows down":        {map[string][]string{".": {"service/cli"}, "service/apply": {"service/plan", "policies"}, "service/cli": {"neon", "supabase"}}, nil},
		"on the same floor":  {map[string][]string{"service/catalog": {"service/value"}}, nil},
		"tests import all":   {map[string][]string{"tests/rig": {"service/cli", "neon"}}, nil},
		"an arrow up":        {map[string][]string{"service/plan": {"service/apply"}}, []string{"service/plan imports service/apply, which is on a higher floor: move what it needs down, or pass it in"}},
		"providers meet":     {map[string][]string{"neon": {"supabase"}}, []string{"neon imports supabase, which only service/cli may import"}},
		"a provider in plan": {map[string][]string{"service": {"supabase"}}, []string{"service imports supabase, which only service/cli may import"}},
		"policies and more":  {map[string][]string{"policies": {"service/ledger"}}, []string{"policies imports service/ledger: of the service it may know only service/upload, service/identity, service/catalog, service/value"}},
		"production in test": {map[string][]string{"service": {"tests/rig"}}, []string{"service imports tests/rig: only tests may import what is for tests"}},
		"a new package":      {map[string][]string{"service/cache": nil}, []string{"service/cache is on no floor: add it to the table of floors"}},
		"no name":            {map[string][]string{"tests/util": nil}, []string{"tests/util: a package's name says what it is for, and util does not"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, violations(c.imports))
		})
	}
}

func TestRoot(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(root, "main.go")}, files, "at the root there is only main.go")
}

// violations lists what is wrong with the imports of packages, in words.
func violations(imports map[string][]string) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		if base := path.Base(name); slices.Contains(notAName, base) {
			say("%s: a package's name says what it is for, and %s does not", name, base)
		}
		if isTest(name) {
			continue
		}
		if floor(name) < 0 {
			say("%s is on no floor: add it to the table of floors", name)
			continue
		}
		for _, imported := range imports[name] {
			importers, restricted := only[imported]
			switch {
			case isTest(imported):
				say("%s imports %s: only tests may import what is for tests", name, imported)
			case restricted && !slices.Contains(importers, name):
				say("%s imports %s, which only %s may import", name, imported, strings.Join(importers, ", "))
			case name == "policies" && !slices.Contains(policiesImports, imported):
				say("%s imports %s: of the service it may know only %s", name, imported, strings.Join(policiesImports, ", "))
			case floor(imported) > floor(name):
				say("%s imports %s, which is on a higher floor: move what it needs down, or pass it in", name, imported)
			}
		}
	}
	return found
}

// isTest reports whether a package serves tests alone.
func isTest(name string) bool {
	return strings.HasPrefix(name, "tests/") || name == "service/catalog/catalogtest"
}

// floor counts from 0; it is -1 for a package that is not in the table.
func floor(name string) int {
	return slices.IndexFunc(floors, func(names []string) bool { return slices.Contains(names, name) })
}

const root = "../.."

// readImports reads which packages of the module each one imports, outside its
// own tests.
func readImports(t *testing.T) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(file, entry.Name())
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(dir)
		imports[name] = append(imports[name], ours(parsed.Imports)...)
		return nil
	})
	require.NoError(t, err)
	require.Contains(t, imports, "service/cli")
	for name := range imports {
		slices.Sort(imports[name])
		imports[name] = slices.Compact(imports[name])
	}
	return imports
}

// skip leaves out folders that hold no packages of the module.
func skip(dir, name string) error {
	if dir == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return filepath.SkipDir // another module
	}
	return nil
}

// ours are the packages of the module, by their folders.
func ours(specs []*ast.ImportSpec) (names []string) {
	for _, spec := range specs {
		switch imported := strings.Trim(spec.Path.Value, `"`); {
		case imported == module:
			names = append(names, ".")
		case strings.HasPrefix(imported, module+"/"):
			names = append(names, strings.TrimPrefix(imported, module+"/"))
		}
	}
	return names
}
