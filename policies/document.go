package policies

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Document is a file of one YAML document.
type Document struct {
	Body ast.Node // nil if the file is empty

	path  string
	lines []string
}

const bom = "\ufeff" // some editors write it at the start of a file

// Parse parses a file. The error has file, line and column.
func Parse(path string, content []byte) (d *Document, err error) {
	content = bytes.TrimPrefix(content, []byte(bom))
	d = &Document{path: path, lines: strings.Split(string(content), "\n")}
	defer recoverYAML(path, &err)
	tokens := lexer.Tokenize(string(content))
	if second := secondDocument(tokens); second != nil {
		return d, d.problem(second, "a second YAML document begins here: move it to a file of its own")
	}
	if at := slices.IndexFunc(tokens, func(t *token.Token) bool { return t.Type == token.TagType }); at >= 0 {
		return d, d.problem(tokens[at], "YAML reads this as a tag, not as part of the value: quote an expression that begins with !")
	}
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		return d, formProblem(path, d.lines, err, nil)
	}
	if len(parsed.Docs) > 0 {
		d.Body = parsed.Docs[0].Body
	}
	return d, nil
}

// recoverYAML makes an error of a panic, which some malformed files cause in the YAML
// library.
func recoverYAML(path string, err *error) {
	if trouble := recover(); trouble != nil {
		*err = fmt.Errorf("%s: this is not valid YAML (%v)", path, trouble)
	}
}

// secondDocument returns where a second document begins; nil if there is none. The
// YAML library would ignore it silently.
func secondDocument(tokens token.Tokens) *token.Token {
	begun, ended := false, false
	for _, t := range tokens {
		switch {
		case t.Type == token.CommentType:
		case ended || begun && t.Type == token.DocumentHeaderType:
			return t
		default:
			begun, ended = true, t.Type == token.DocumentEndType
		}
	}
	return nil
}

// problem returns an error that shows the line of a token.
func (d *Document) problem(at *token.Token, text string) error {
	return newProblem(d.path, d.lines, at.Position, text)
}

// Problem returns an error about a value, or about the nearest one above it that the
// document has. path has keys and indexes from the top. If key is true, it is about the
// value's key.
func (d *Document) Problem(key bool, path []any, format string, args ...any) error {
	return d.ProblemAt(place{&sourceFile{at: d.Body}, path}.find(key), format, args...)
}

// ProblemAt returns an error about a node of the document, and shows its line.
func (d *Document) ProblemAt(node ast.Node, format string, args ...any) error {
	line, column := start(firstKey(node))
	return newProblem(d.path, d.lines, &token.Position{Line: line, Column: column}, fmt.Sprintf(format, args...))
}

// mostMistakes is how many mistakes in the form of a file are reported at once.
const mostMistakes = 50

// Decode decodes the document into a form. The problems are keys that the form does not
// have, and values of another type. They are taken out of the document, a value with
// the list's element or the table's key that it belongs to, so that the rest can be
// checked.
// If readable is false, not even the rest could be read.
func (d *Document) Decode(form any) (problems []error, readable bool) {
	repaired := map[*token.Token]bool{}
	for len(problems) < mostMistakes {
		reflect.ValueOf(form).Elem().SetZero()
		err := d.decode(form)
		if err == nil {
			return problems, true
		}
		var at yaml.Error
		located := errors.As(err, &at) && at.GetToken() != nil
		if !located || !repaired[at.GetToken()] {
			problems = append(problems, formProblem(d.path, d.lines, err, form))
		}
		if !located || !d.repair(err, at.GetToken(), form, repaired[at.GetToken()]) {
			return problems, false
		}
		repaired[at.GetToken()] = true
	}
	return problems, false
}

func (d *Document) decode(form any) (err error) {
	if d.Body == nil {
		return nil
	}
	defer recoverYAML(d.path, &err)
	return yaml.NodeToValue(d.Body, form, yaml.Strict())
}

// repair takes a mistake out of the document. An unknown key becomes the one that is
// suggested, if that is not there, because otherwise it would be missed. again is true
// if that did not help.
func (d *Document) repair(err error, at *token.Token, form any, again bool) bool {
	var unknown *yaml.UnknownFieldError
	if !errors.As(err, &unknown) {
		return takeOut(&d.Body, at, false, 0)
	}
	if suggestion := similar(at.Value, yamlKeys(reflect.TypeOf(form))); suggestion != "" && !again && rename(d.Body, at, suggestion) {
		return true
	}
	return takeOut(&d.Body, at, true, 0)
}

// rename changes a key, unless another one has that name.
func rename(body ast.Node, at *token.Token, name string) (renamed bool) {
	for _, node := range ast.Filter(ast.MappingType, body) {
		pairs := node.(*ast.MappingNode).Values
		i := slices.IndexFunc(pairs, func(pair *ast.MappingValueNode) bool { return pair.Key.GetToken() == at })
		if i < 0 || slices.ContainsFunc(pairs, func(pair *ast.MappingValueNode) bool { return pair.Key.GetToken().Value == name }) {
			continue
		}
		if key, ok := pairs[i].Key.(*ast.StringNode); ok {
			key.Value, at.Value = name, name
			return true
		}
	}
	return false
}

// takeOut removes what has a token from the document: the pair with this key, or the
// innermost element of a list, or key of a table, that contains the token.
func takeOut(node *ast.Node, at *token.Token, key bool, depth int) bool {
	switch n := (*node).(type) {
	case *ast.MappingNode:
		for i, pair := range n.Values {
			switch isKey := pair.Key.GetToken() == at; {
			case !isKey && !contains(pair.Value, at):
			case !isKey && takeOut(&pair.Value, at, key, depth+1):
				return true
			case key && isKey, !key && depth < 3:
				n.Values = slices.Delete(n.Values, i, i+1)
				return true
			}
		}
	case *ast.SequenceNode:
		for i := range n.Values {
			switch {
			case !contains(n.Values[i], at):
			case takeOut(&n.Values[i], at, key, depth+1):
				return true
			case !key:
				n.Values = slices.Delete(n.Values, i, i+1)
				return true
			}
		}
	}
	return false
}

func contains(node ast.Node, at *token.Token) bool {
	found := false
	ast.Walk(visitor(func(n ast.Node) { found = found || n.GetToken() == at }), node)
	return found
}

type visitor func(ast.Node)

// Visit implements ast.Visitor.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}
