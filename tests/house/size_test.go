package house_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A function over these sizes does more than one step of a story, and a file over them
// tells more than one.
const (
	maxFunctionLines = 60
	maxFileLines     = 400
)

func TestSizes(t *testing.T) {
	t.Parallel()
	var found []string
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(file, entry.Name())
		}
		if strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			files := token.NewFileSet()
			parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			found = append(found, tooLong(files, parsed)...)
		}
		return nil
	})
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	source := "package p\n\nfunc short() {}\n\nfunc long() {\n" + strings.Repeat("\tshort()\n", maxFunctionLines) + "}\n" + strings.Repeat("// more\n", maxFileLines)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "p.go", source, parser.ParseComments)
	require.NoError(t, err)
	require.Equal(t, []string{
		"p.go has 466 lines: split it, at most 400",
		"p.go: long has 62 lines: split it, at most 60",
	}, tooLong(files, parsed))
}

func tooLong(files *token.FileSet, parsed *ast.File) (found []string) {
	file := files.File(parsed.Package)
	if lines := file.LineCount(); lines > maxFileLines {
		found = append(found, fmt.Sprintf("%s has %d lines: split it, at most %d", file.Name(), lines, maxFileLines))
	}
	for _, declared := range parsed.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if lines := file.Line(function.End()) - file.Line(function.Pos()) + 1; lines > maxFunctionLines {
			found = append(found, fmt.Sprintf("%s: %s has %d lines: split it, at most %d", file.Name(), function.Name.Name, lines, maxFunctionLines))
		}
	}
	return found
}
