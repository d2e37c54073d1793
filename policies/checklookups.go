package policies

import (
	"errors"
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// CheckLookups prepares every lookup. It lists those that cannot be prepared, and what
// expressions ask of them that they do not have, with file, line and column. prepare
// returns a lookup's columns; nil if they are not known.
func (s *Set) CheckLookups(prepare func(*Lookup) (columns []string, err error)) error {
	var problems []error
	for _, name := range sortedKeys(s.tables) {
		for _, rule := range s.tables[name].Rules {
			for _, l := range rule.Lookups {
				columns, err := prepare(l)
				switch {
				case err != nil:
					problems = append(problems, rule.place.in("lookup", l.Name).problem("%v", err))
				case columns != nil:
					problems = append(problems, rule.misspelt(l.Name, columns)...)
				}
			}
		}
	}
	return errors.Join(inOrder(problems)...)
}

// misspelt lists the columns that the rule's expressions ask of a lookup and that it does
// not have.
func (r *Rule) misspelt(lookup string, columns []string) (problems []error) {
	for _, of := range r.expressions {
		celast.PreOrderVisit(of.ast.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
			if e.Kind() != celast.SelectKind || lookupOf(e.AsSelect().Operand()) != lookup || slices.Contains(columns, e.AsSelect().FieldName()) {
				return
			}
			name := e.AsSelect().FieldName()
			problems = append(problems, of.problem(e, fmt.Sprintf("lookup %s has no column %q%s", lookup, name, didYouMean(name, columns))))
		}))
	}
	return problems
}

// lookupOf returns the lookup that an expression is: lookup.list or lookup["list"]; empty
// if it is none.
func lookupOf(e celast.Expr) string {
	switch {
	case e.Kind() == celast.SelectKind && isVariable(e.AsSelect().Operand(), "lookup"):
		return e.AsSelect().FieldName()
	case functionName(e) == operators.Index && isVariable(e.AsCall().Args()[0], "lookup"):
		name, _ := textOf(e.AsCall().Args()[1])
		return name
	}
	return ""
}
