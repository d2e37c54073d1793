package policies

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// place is a key or a value in a policy file.
type place struct {
	file *sourceFile
	path []any // keys and indexes from the document's top
}

func (f *sourceFile) place(path ...any) place { return place{f, path} }

func (p place) in(more ...any) place {
	return place{p.file, append(slices.Clone(p.path), more...)}
}

// find returns the node at the place, or the nearest one above it that the file has.
// If key is true, it is the node of the key, not of the value.
func (p place) find(key bool) ast.Node {
	node := p.file.at
	for i, step := range p.path {
		next, found := child(node, step, key && i == len(p.path)-1)
		if !found {
			return node
		}
		node = next
	}
	return node
}

func child(node ast.Node, step any, key bool) (ast.Node, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, pair := range n.Values {
			if pair.Key.GetToken().Value == step {
				if key {
					return pair.Key, true
				}
				return pair.Value, true
			}
		}
	case *ast.MappingValueNode:
		if n.Key.GetToken().Value == step {
			if key {
				return n.Key, true
			}
			return n.Value, true
		}
	case *ast.SequenceNode:
		if i, ok := step.(int); ok && i < len(n.Values) {
			return n.Values[i], true
		}
	}
	return nil, false
}

// position returns file:line:column of the place's key.
func (p place) position() string {
	line, column := start(p.find(true))
	return fmt.Sprintf("%s:%d:%d", p.file.path, line, column)
}

func start(node ast.Node) (line, column int) {
	if node == nil || node.GetToken() == nil {
		return 1, 1
	}
	at := node.GetToken().Position
	return at.Line, at.Column
}

// problem is a mistake in a file.
type problem struct {
	file         string
	line, column int // from 1, in characters
	text         string
	shown        string // the line with the mistake, from the file or from the expression
	caret        int    // the column in shown, from 1; 0 if no line is shown
}

func (p *problem) Error() string {
	text := fmt.Sprintf("%s:%d:%d: %s", p.file, p.line, p.column, p.text)
	if p.caret > 0 {
		text += "\n    " + p.shown + "\n    " + strings.Repeat(" ", p.caret-1) + "^"
	}
	return text
}

// inOrder sorts problems by file, line and column. Those without a place come first.
func inOrder(problems []error) []error {
	slices.SortStableFunc(problems, func(a, b error) int {
		var p, q *problem
		switch isA, isB := errors.As(a, &p), errors.As(b, &q); {
		case !isA || !isB:
			return cmp.Compare(fmt.Sprint(isA), fmt.Sprint(isB))
		default:
			return cmp.Or(cmp.Compare(p.file, q.file), cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column))
		}
	})
	return problems
}

// Join is problems as one error: in the order of file, line and column, and each once,
// also that of a let which several rules use. nil if there is none.
func Join(problems ...error) error {
	var all []error
	for _, err := range problems {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = append(all, joined.Unwrap()...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	seen := map[string]bool{}
	return errors.Join(slices.DeleteFunc(inOrder(all), func(err error) bool {
		was := seen[err.Error()]
		seen[err.Error()] = true
		return was
	})...)
}

// formProblem words an error of the YAML parser, or a key that a form does not have.
func formProblem(path string, lines []string, err error, form any) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text := at.GetMessage()
	for _, form := range wrongType {
		if match := form.FindStringSubmatch(text); match != nil {
			text = "this is a " + yamlWord(match[1]) + ", but must be a " + yamlWord(match[2])
		}
	}
	text = twice.ReplaceAllString(text, "the key $1 is already defined at line $2, column $3")
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := at.GetToken().Value // another form may have this very key
		text += didYouMean(key, slices.DeleteFunc(yamlKeys(reflect.TypeOf(form)), func(other string) bool { return other == key }))
	}
	return newProblem(path, lines, at.GetToken().Position, text)
}

// Messages of the YAML library that are reworded.
var (
	wrongType = []*regexp.Regexp{
		regexp.MustCompile(`^(\w+) was used where (\w+) is expected$`),
		regexp.MustCompile(`^cannot unmarshal (.+) into Go (?:struct field \S+|value) of type (.+)$`),
	}
	twice = regexp.MustCompile(`^mapping key (".*") already defined at \[(\d+):(\d+)\]$`)
)

// yamlWord names a kind of value for authors, who do not know Go's types.
func yamlWord(kind string) string {
	switch {
	case kind == "sequence", strings.HasPrefix(kind, "[]"):
		return "list"
	case strings.HasPrefix(kind, "map["):
		return "mapping"
	case kind == "string":
		return "text"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "float"):
		return "number"
	}
	return kind
}

// newProblem returns an error that shows the line of a position, with a caret.
func newProblem(path string, lines []string, position *token.Position, text string) error {
	p := &problem{file: path, line: max(position.Line, 1), column: max(position.Column, 1), text: text}
	if p.line <= len(lines) {
		p.shown, p.caret = strings.TrimRight(lines[p.line-1], "\r"), p.column
		if indent := indent(lines, p.line); indent < p.caret {
			p.shown, p.caret = p.shown[indent:], p.caret-indent
		}
	}
	return p
}

// yamlKeys returns the keys of a form and of all forms within it.
func yamlKeys(t reflect.Type) (keys []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return yamlKeys(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if key := t.Field(i).Tag.Get("yaml"); key != "" {
				keys = append(append(keys, key), yamlKeys(t.Field(i).Type)...)
			}
		}
	}
	return keys
}

// problem returns an error at the place. It names the keys that lead there.
func (p place) problem(format string, args ...any) error {
	line, column := start(p.find(true))
	return &problem{file: p.file.path, line: line, column: column, text: fmt.Sprintf("%s: %s", p, fmt.Sprintf(format, args...))}
}

// String returns the path: tables.todos.rules[0].check.
func (p place) String() string {
	var out strings.Builder
	for _, step := range p.path {
		switch s := step.(type) {
		case int:
			fmt.Fprintf(&out, "[%d]", s)
		case string:
			if out.Len() > 0 {
				out.WriteByte('.')
			}
			out.WriteString(s)
		}
	}
	return out.String()
}

// expressionProblem returns an error that shows a line of an expression, with a
// caret. line and column count from 1 within the expression.
func (p place) expressionProblem(expression string, line, column int, message string) error {
	lines := strings.Split(expression, "\n")
	line = min(max(line, 1), len(lines))
	out := &problem{file: p.file.path, text: fmt.Sprintf("%s: %s", p, message), shown: lines[line-1], caret: max(column, 1)}
	node := p.find(false)
	out.line, out.column = start(node)
	switch n := node.(type) {
	case *ast.LiteralNode: // a block, whose text begins on the next line
		first := n.Start.Position.Line
		if strings.HasPrefix(n.Start.Value, ">") {
			out.line, out.column = folded(p.file.lines, first+1, lines, line, column)
		} else {
			out.line, out.column = first+line, indent(p.file.lines, first+line)+column
		}
	case *ast.StringNode:
		if n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType {
			out.column++ // the quote
		}
		out.line, out.column = out.line+line-1, out.column+column-1
	}
	return out
}

// folded finds a position within the text of a folded block, whose lines YAML joins
// by spaces, in the file's lines. from is the block's first line.
func folded(file []string, from int, lines []string, line, column int) (int, int) {
	offset := column - 1
	for _, before := range lines[:line-1] {
		offset += len(before) + 1
	}
	for at := from; at <= len(file); at++ {
		text := strings.TrimSpace(file[at-1])
		if offset <= len(text) {
			return at, indent(file, at) + offset + 1
		}
		offset -= len(text) + 1
	}
	return from, 1
}

func indent(lines []string, line int) int {
	if line < 1 || line > len(lines) {
		return 0
	}
	return len(lines[line-1]) - len(strings.TrimLeft(lines[line-1], " "))
}

// didYouMean suggests the most similar of some names; empty if none is similar.
func didYouMean(name string, names []string) string {
	if best := similar(name, names); best != "" {
		return `: did you mean "` + best + `"?`
	}
	return ""
}

// similar is the most similar of some names; empty if none is similar.
func similar(name string, names []string) string {
	best, distance := "", 3
	for _, candidate := range names {
		if len(name) > 2 && len(candidate) > 2 && distance > 2 && (strings.HasPrefix(candidate, name+"_") || strings.HasPrefix(name, candidate+"_")) {
			best = candidate // owner for owner_id, unless a nearer name follows
		}
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d < distance && d < len(name) {
			best, distance = candidate, d
		}
	}
	return best
}

// editDistance counts the letters to insert, remove or change to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
