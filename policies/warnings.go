package policies

import (
	"fmt"
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"

	"postern/service/catalog"
)

// Warnings lists what is no mistake and probably not meant, with file, line, column and
// what to write instead: Bypasses, rules for operations that a table does not allow, and
// values that may be null and are used without a guard.
func (s *Set) Warnings(snapshot *catalog.Snapshot) []error {
	warnings := s.Bypasses(snapshot)
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil || !policy.Named {
			continue
		}
		for _, r := range policy.Rules {
			if err := r.notAllowed(policy.allow); err != nil {
				warnings = append(warnings, err)
			}
			r.unguarded(table, policy.allow, func(of *expression, e celast.Expr, path string) {
				for e.Kind() == celast.SelectKind {
					e = e.AsSelect().Operand() // the path begins there
				}
				warnings = append(warnings, of.problem(e, guard(path)))
			})
		}
	}
	return inOrder(warnings)
}

// guard says how to guard a value that may be null.
func guard(path string) string {
	switch path {
	case "old":
		return "old is null in a new row, and then the rule fails: begin with old == null ||, or write on: [update]"
	case "new":
		return "new is null on a DELETE, and then the rule fails: begin with new == null ||, or remove delete from on"
	}
	return fmt.Sprintf("%s may be null, and then the rule fails: write %s == null || … if null is allowed, or %s != null && … if not", path, path, path)
}

// notAllowed is a warning of a rule for actions that its table does not allow; nil if it
// applies to some without naming others.
func (r *Rule) notAllowed(allow actions) error {
	_, named := child(r.place.find(false), "on", false)
	lacking := slices.DeleteFunc(slices.Clone(r.words), func(word string) bool { return wordActions(word)&allow != 0 })
	names := strings.Join(lacking, " and ")
	switch {
	case len(lacking) == len(r.words):
		return r.place.in("on").problem("the rule is never evaluated: the table does not allow %s. Allow it, or remove the rule", names)
	case named && len(lacking) > 0:
		return r.place.in("on").problem("the table does not allow %s: remove it from on, or allow it", names)
	}
	return nil
}

// checkDeletes checks that rules for DELETE alone do not use what a DELETE lacks.
func (c *compiler) checkDeletes(set *Set) {
	for _, name := range sortedKeys(set.tables) {
		t := set.tables[name]
		table := c.snapshot.Table(t.Schema, t.Name)
		for _, r := range t.Rules {
			if table == nil || r.on != deleteStored {
				continue
			}
			r.unguarded(table, allActions, func(of *expression, e celast.Expr, path string) {
				if path == "new" {
					c.add(of.problem(e, "new is null on a DELETE, and the rule is for nothing else: look at old"))
				}
			})
			for _, of := range r.expressions {
				if e := firstVariable(of.ast.Expr(), "data"); e != nil {
					c.add(of.problem(e, "a DELETE sends no data, and the rule is for nothing else: look at old"))
				}
			}
		}
	}
}

// problem returns an error about a part of the expression.
func (e *expression) problem(part celast.Expr, message string) error {
	start := e.ast.SourceInfo().GetStartLocation(part.ID())
	return e.at.expressionProblem(e.text, start.Line(), start.Column()+1, message)
}

// firstVariable is the first use of a variable; nil if there is none.
func firstVariable(root celast.Expr, name string) (first celast.Expr) {
	celast.PreOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		if first == nil && isVariable(e, name) {
			first = e
		}
	}))
	return first
}
