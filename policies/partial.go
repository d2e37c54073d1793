package policies

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A set of policies with mistakes is examined all the same, so that a mistake hides nothing
// else. What has a mistake is missing from it, and what would follow from that is not said:
// that a name is unused which stands elsewhere in the files, or may have been misspelt
// there; that a value has no guard; that a column is open.

// unusedName is a name that no expression uses, with where it is defined.
type unusedName struct {
	name  string
	place place
}

// leaveOut notes in a set with mistakes of what nothing is said.
func (s *Set) leaveOut(source *Source, formProblems, problems []error) {
	s.mistaken = true
	undeclared := slices.ContainsFunc(problems, func(err error) bool { return strings.Contains(err.Error(), "undeclared reference") })
	s.unused = slices.DeleteFunc(s.unused, func(u unusedName) bool {
		return undeclared || source.mentions(u.name) > 1 || u.place.hasAny(problems)
	})
	for _, t := range s.tables {
		t.mistaken = t.place.hasAny(problems, t.place.in("rules"), t.place.in("let"))
		for _, r := range t.Rules {
			r.mistaken = r.place.hasAny(formProblems)
		}
	}
}

// mentions counts where a name stands in the files, also where it means something else.
func (s *Source) mentions(name string) (n int) {
	word := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)
	for _, f := range s.files {
		n += len(word.FindAllString(strings.Join(f.lines, "\n"), -1))
	}
	return n
}

// unknownName is what the compiler says of a name that nothing defines.
var unknownName = regexp.MustCompile(`undeclared reference to '(\w+)'|no policy opens a table "(\w+)"`)

// follows reports whether a problem may follow from a mistake in a file's form: a name is
// unknown that is a key of such a file, and so may be in the part that could not be read.
func (s *Source) follows(err error) bool {
	match := unknownName.FindStringSubmatch(err.Error())
	if match == nil {
		return false
	}
	key := regexp.MustCompile(`\b` + match[1] + match[2] + `(\(.*\))?["']?\s*:`)
	return slices.ContainsFunc(s.files, func(f sourceFile) bool { return f.mistaken && key.MatchString(strings.Join(f.lines, "\n")) })
}

// hasAny reports whether there is a problem within a place, and not within some parts of it.
func (p place) hasAny(problems []error, besides ...place) bool {
	return slices.ContainsFunc(problems, func(err error) bool {
		var found *problem
		return errors.As(err, &found) && p.contains(found) && !slices.ContainsFunc(besides, func(part place) bool { return part.contains(found) })
	})
}

// contains reports whether a problem is within a place: after its beginning, and before
// what follows it in the file.
func (p place) contains(found *problem) bool {
	node := p.file.at
	var next ast.Node // what follows; nil at the end of the file
	for _, step := range p.path {
		of, after, isThere := childAndNext(node, step)
		if !isThere {
			return false
		}
		if node = of; after != nil {
			next = after
		}
	}
	line, column := start(firstKey(p.find(true)))
	before := func(line, column int) bool {
		return found.line < line || found.line == line && found.column < column
	}
	if found.file != p.file.path || before(line, column) {
		return false
	}
	return next == nil || before(start(firstKey(next)))
}

// firstKey is where a mapping begins, whose own token is the first colon.
func firstKey(node ast.Node) ast.Node {
	if mapping, ok := node.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
		return mapping.Values[0].Key
	}
	return node
}

// childAndNext returns a child of a node, and the key or element that follows it.
func childAndNext(node ast.Node, step any) (of, next ast.Node, found bool) {
	of, found = child(node, step, false)
	switch n := node.(type) {
	case *ast.MappingNode:
		at := slices.IndexFunc(n.Values, func(pair *ast.MappingValueNode) bool { return pair.Key.GetToken().Value == step })
		if at >= 0 && at+1 < len(n.Values) {
			next = n.Values[at+1].Key
		}
	case *ast.SequenceNode:
		if i, ok := step.(int); ok && i+1 < len(n.Values) {
			next = n.Values[i+1]
		}
	}
	return of, next, found
}
