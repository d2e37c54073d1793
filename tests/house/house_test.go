// Package house keeps the layout of the design: which package may import which, and how
// long files and functions may be.
package house_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	modulePath       = "postern"
	maxMainLines     = 20
	maxFileLines     = 400
	maxFunctionLines = 60
)

// floors lists the packages from the ground up. A package imports packages of lower
// floors only. "." is the root.
var floors = [][]string{
	{"service/limits"},
	{"service/upload", "service/identity", "service/catalog", "service/value", "service/timing"},
	{"policies", "service/ledger", "service/tracing"},
	{"service/plan", "service/record"},
	{"service/apply"},
	{"service/replay", "service/policytest", "service/doctor"},
	{"service/console"},
	{"service"},
	{"service/cli"},
	{"."},
}

// sameFloor lists the only imports within a floor, by importer.
var sameFloor = map[string]string{"service/value": "service/catalog"}

// besideFloors lists the packages that stand beside the floors: what they may import, and
// which packages may import them. Tests may always import them.
var besideFloors = map[string]struct{ imports, importedBy []string }{
	"service/local": {
		imports:    []string{"service/ledger"},
		importedBy: []string{"service/policytest", "service/cli", "supabase", "neon"},
	},
	"supabase": {
		imports:    []string{"service/identity", "service/local"},
		importedBy: []string{"service/cli"},
	},
	"neon": {
		imports:    []string{"service/identity", "service/local"},
		importedBy: []string{"service/cli"},
	},
	"service/catalog/catalogtest": {
		imports: []string{"service/catalog"},
	},
}

var providers = []string{"supabase", "neon"}

// These names say nothing about what is in a package.
var emptyNames = []string{"util", "utils", "common", "models", "helpers", "types"}

// sourceFile is what the checks need to know of a Go file.
type sourceFile struct {
	path      string     // from the module's root, with slashes
	pkg       string     // the name after "package"
	imports   []string   // the module's own packages, from its root
	lines     int        // of the whole file
	functions []function // at the top level
}

type function struct {
	name  string
	lines int
}

func (f sourceFile) dir() string        { return path.Dir(f.path) }
func (f sourceFile) isTest() bool       { return strings.HasSuffix(f.path, "_test.go") }
func (f sourceFile) isExternal() bool   { return f.isTest() && strings.HasSuffix(f.pkg, "_test") }
func (f sourceFile) isUnderTests() bool { return isUnderTests(f.dir()) }

func isUnderTests(dir string) bool { return strings.HasPrefix(dir, "tests/") }

func TestHouse(t *testing.T) {
	t.Parallel()
	files := readModule(t, filepath.Join("..", ".."))
	require.Greater(t, len(files), 100, "the module has more files than these: is the path of its root still right?")
	for _, problem := range check(files) {
		t.Error(problem)
	}
}

// check returns a sentence for each file that breaks a rule of the layout.
func check(files []sourceFile) []string {
	var problems []string
	for _, f := range files {
		problems = append(problems, checkPlace(f)...)
		for _, imported := range f.imports {
			if problem := checkImport(f, imported); problem != "" {
				problems = append(problems, problem)
			}
		}
		if !f.isTest() {
			problems = append(problems, checkLength(f)...)
		}
	}
	return problems
}

func checkPlace(f sourceFile) []string {
	var problems []string
	dir := f.dir()
	if dir == "." {
		if f.path != "main.go" {
			problems = append(problems, fmt.Sprintf("%s is at the root: move it to the package that uses it, because only main.go belongs there.", f.path))
		} else if f.lines > maxMainLines {
			problems = append(problems, fmt.Sprintf("main.go has %d lines, and at most %d are allowed: move the rest to service/cli.", f.lines, maxMainLines))
		}
	}
	name := strings.TrimSuffix(f.pkg, "_test")
	if slices.Contains(emptyNames, name) || slices.Contains(emptyNames, path.Base(dir)) {
		problems = append(problems, fmt.Sprintf("%s is in a package called %s: name the package for what it does.", f.path, name))
	}
	if !isUnderTests(dir) && !isKnown(dir) {
		problems = append(problems, fmt.Sprintf("%s is in a package without a floor: add %s to the tables in tests/house.", f.path, dir))
	}
	return problems
}

// checkImport returns what is wrong with one import, or "".
func checkImport(f sourceFile, imported string) string {
	dir := f.dir()
	switch {
	case imported == ".":
		return fmt.Sprintf("%s imports the main package: move what it needs to service/cli or below.", f.path)
	case f.isUnderTests():
		return ""
	case slices.Contains(providers, dir) && slices.Contains(providers, imported) && dir != imported:
		return fmt.Sprintf("%s imports %s: move what both providers need to the floor that uses it.", f.path, imported)
	case f.isTest() && isForTests(imported):
		return ""
	case f.isExternal() && (dir == imported || isBeside(imported) || floorOf(dir) == floorOf(imported)):
		return ""
	case isForTests(imported):
		return fmt.Sprintf("%s imports %s, which is for tests only: move what it needs out of there.", f.path, imported)
	case !isKnown(imported) || !isKnown(dir):
		return "" // checkPlace reports the package itself
	case isBeside(dir) || isBeside(imported):
		return checkBeside(f, imported)
	case floorOf(imported) >= floorOf(dir) && sameFloor[dir] != imported:
		return fmt.Sprintf("%s imports %s, which is not on a lower floor: move what both need down, or let a higher floor pass it in.", f.path, imported)
	}
	return ""
}

// checkBeside checks an import in which one side or both stand beside the floors.
func checkBeside(f sourceFile, imported string) string {
	dir := f.dir()
	if beside, ok := besideFloors[dir]; ok && !slices.Contains(beside.imports, imported) {
		return fmt.Sprintf("%s imports %s, but %s may import only %s: let its caller pass in what it needs.",
			f.path, imported, dir, strings.Join(beside.imports, " and "))
	}
	if beside, ok := besideFloors[imported]; ok && !slices.Contains(beside.importedBy, dir) {
		return fmt.Sprintf("%s imports %s, which only %s and tests may import: let one of them pass it in.",
			f.path, imported, strings.Join(beside.importedBy, ", "))
	}
	return ""
}

func checkLength(f sourceFile) []string {
	var problems []string
	if f.lines > maxFileLines {
		problems = append(problems, fmt.Sprintf("%s has %d lines, and at most %d are allowed: split it by what its parts do.", f.path, f.lines, maxFileLines))
	}
	for _, fn := range f.functions {
		if fn.lines > maxFunctionLines {
			problems = append(problems, fmt.Sprintf("%s: %s has %d lines, and at most %d are allowed: split it into its steps.", f.path, fn.name, fn.lines, maxFunctionLines))
		}
	}
	return problems
}

func floorOf(dir string) int {
	return slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, dir) })
}

func isBeside(dir string) bool {
	_, ok := besideFloors[dir]
	return ok
}

func isKnown(dir string) bool { return floorOf(dir) >= 0 || isBeside(dir) }

// isForTests tells whether only tests may import a package.
func isForTests(dir string) bool {
	beside, ok := besideFloors[dir]
	return isUnderTests(dir) || ok && len(beside.importedBy) == 0
}

// readModule parses the Go files of the module below root, without those of other modules.
func readModule(t *testing.T, root string) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != root {
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return fs.SkipDir
			}
			if base := entry.Name(); base == "node_modules" || base == "testdata" || strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file, err := parse(name, filepath.ToSlash(relative))
		files = append(files, file)
		return err
	})
	require.NoError(t, err)
	return files
}

func parse(name, relative string) (sourceFile, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
	if err != nil {
		return sourceFile{}, err
	}
	file := sourceFile{path: relative, pkg: parsed.Name.Name, lines: set.File(parsed.FileStart).LineCount()}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return sourceFile{}, err
		}
		if imported == modulePath {
			file.imports = append(file.imports, ".")
		} else if inModule, ok := strings.CutPrefix(imported, modulePath+"/"); ok {
			file.imports = append(file.imports, inModule)
		}
	}
	lines := func(n ast.Node) int { return set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1 }
	for _, declaration := range parsed.Decls {
		if named, ok := declaration.(*ast.FuncDecl); ok {
			file.functions = append(file.functions, function{name: named.Name.Name, lines: lines(named)})
			continue
		}
		ast.Inspect(declaration, func(n ast.Node) bool {
			literal, ok := n.(*ast.FuncLit)
			if ok {
				name := fmt.Sprintf("the function on line %d", set.Position(literal.Pos()).Line)
				file.functions = append(file.functions, function{name: name, lines: lines(literal)})
			}
			return !ok
		})
	}
	return file, nil
}

// The pictures of README.md exist, and are quick to load.
func TestPictures(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	pictures := regexp.MustCompile(`!\[[^\]]+\]\(([^)]+)\)`).FindAllStringSubmatch(string(content), -1)
	require.Len(t, pictures, 2)
	for _, picture := range pictures {
		info, err := os.Stat("../../" + picture[1])
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(200_000), picture[1])
	}
}
