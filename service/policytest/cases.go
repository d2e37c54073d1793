package policytest

import (
	"regexp"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"postern/policies"
)

// variable is where a test has a value of its cases: ${title}.
var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// expandCases puts a test for each of its cases in the place of a test that has some. A
// value that is a variable alone becomes the case's value, of whatever type; within a
// text, the variable becomes its text. lines are those of the tests and cases.
func expandCases(d *policies.Document) (problems []error, lines []int) {
	body, _ := d.Body.(*ast.MappingNode)
	tests, _ := valueOf(body, "tests").(*ast.SequenceNode)
	if tests == nil {
		return nil, nil
	}
	var expanded []ast.Node
	for _, node := range tests.Values {
		test, _ := node.(*ast.MappingNode)
		cases, _ := valueOf(test, "cases").(*ast.SequenceNode)
		if cases == nil {
			expanded, lines = append(expanded, node), append(lines, firstLine(node))
			continue
		}
		if len(cases.Values) == 0 {
			problems = append(problems, d.ProblemAt(cases, "cases is empty: write at least one, or remove it"))
		}
		for _, c := range cases.Values {
			values, _ := c.(*ast.MappingNode)
			name, _ := valueOf(values, "name").(*ast.StringNode)
			if name == nil {
				problems = append(problems, d.ProblemAt(c, "a case has a name and the values of the test's variables: write {name: empty, title: \"\"}"))
				continue
			}
			x := &expansion{document: d, values: values, used: map[string]bool{"name": true}}
			expanded, lines = append(expanded, x.test(test, name)), append(lines, firstLine(c))
			problems = append(problems, x.problems...)
		}
	}
	tests.Values = expanded
	return problems, lines
}

// expansion is the test of one case.
type expansion struct {
	document *policies.Document
	values   *ast.MappingNode
	used     map[string]bool
	problems []error
}

// test is the test with the case's values, without its cases, and named after both.
func (x *expansion) test(test *ast.MappingNode, name *ast.StringNode) ast.Node {
	plain := *test
	plain.Values = slices.DeleteFunc(slices.Clone(test.Values), func(pair *ast.MappingValueNode) bool { return pair.Key.GetToken().Value == "cases" })
	made := x.node(&plain).(*ast.MappingNode)
	for _, pair := range made.Values {
		if text, ok := pair.Value.(*ast.StringNode); ok && pair.Key.GetToken().Value == "name" {
			pair.Value = withText(text, text.Value+"/"+name.Value)
		}
	}
	for _, pair := range x.values.Values {
		if key := pair.Key.GetToken().Value; !x.used[key] {
			x.problems = append(x.problems, x.document.ProblemAt(pair.Key, "the test has no ${%s}: use it, or remove it", key))
		}
	}
	return made
}

// node is a node with the case's values in the place of variables.
func (x *expansion) node(node ast.Node) ast.Node {
	switch n := node.(type) {
	case *ast.StringNode:
		return x.text(n)
	case *ast.LiteralNode:
		made := *n
		if text, ok := x.text(n.Value).(*ast.StringNode); ok {
			made.Value = text
		}
		return &made
	case *ast.MappingNode:
		made := *n
		made.Values = make([]*ast.MappingValueNode, len(n.Values))
		for i, pair := range n.Values {
			copied := *pair
			if key, ok := x.node(pair.Key).(ast.MapKeyNode); ok {
				copied.Key = key
			}
			copied.Value = x.node(pair.Value)
			made.Values[i] = &copied
		}
		return &made
	case *ast.SequenceNode:
		made := *n
		made.Values = make([]ast.Node, len(n.Values))
		for i := range n.Values {
			made.Values[i] = x.node(n.Values[i])
		}
		return &made
	}
	return node
}

func (x *expansion) text(n *ast.StringNode) ast.Node {
	if match := variable.FindStringSubmatch(n.Value); match != nil && match[0] == n.Value {
		if value := x.value(n, match[1]); value != nil {
			return value
		}
		return n
	}
	return withText(n, variable.ReplaceAllStringFunc(n.Value, func(found string) string {
		name := variable.FindStringSubmatch(found)[1]
		switch value := x.value(n, name).(type) {
		case nil:
		case *ast.StringNode:
			return value.Value
		case ast.ScalarNode:
			return value.GetToken().Value
		default:
			x.problems = append(x.problems, x.document.ProblemAt(n, "${%s} is within a text, and its value is none: write it alone", name))
		}
		return found
	}))
}

// value is the case's value of a variable; nil if it has none.
func (x *expansion) value(at ast.Node, name string) ast.Node {
	x.used[name] = true
	value := valueOf(x.values, name)
	if value == nil {
		var names []string
		for _, pair := range x.values.Values {
			names = append(names, pair.Key.GetToken().Value)
		}
		x.problems = append(x.problems, x.document.ProblemAt(at, "the case at line %d has no %s%s", firstLine(x.values), name, policies.DidYouMean(name, names)))
	}
	return value
}

func withText(n *ast.StringNode, text string) *ast.StringNode {
	made, token := *n, *n.Token
	token.Value = text
	made.Value, made.Token = text, &token
	return &made
}

// valueOf is the value of a key; nil if the mapping does not have it.
func valueOf(mapping *ast.MappingNode, key string) ast.Node {
	if mapping == nil {
		return nil
	}
	for _, pair := range mapping.Values {
		if pair.Key.GetToken().Value == key {
			return pair.Value
		}
	}
	return nil
}

func firstLine(node ast.Node) int {
	if mapping, ok := node.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}
	return node.GetToken().Position.Line
}
