package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"

	"postern/service/catalog"
)

// Warnings lists what is no mistake and probably not meant, with file, line, column and
// what to write instead: Bypasses, rules for operations that a table does not allow, that no
// table is open, and values that may be null where that is probably not meant. columns are those of the
// lookups, as CheckLookups returns them; nil if they are not known.
func (s *Set) Warnings(snapshot *catalog.Snapshot, columns LookupColumns) []error {
	warnings := s.Bypasses(snapshot)
	if s.OpensNoTable() && !s.mistaken {
		warnings = append(warnings, errors.New("the policies open no table, so every write is rejected: name one under tables"))
	}
	unguarded := func(r *Rule, table *catalog.Table, allow actions) {
		r.unguarded(table, allow, columns, func(of *expression, e celast.Expr, path string) {
			if path == "new" && r.on == deleteStored { // a mistake; see checkDeletes
				return
			}
			warnings = append(warnings, of.problem(beginning(e), r.guard(of, path, userOf(e, path))))
		})
	}
	for _, r := range s.transaction {
		unguarded(r, nil, allActions)
	}
	for _, name := range sortedKeys(s.tables) {
		policy := s.tables[name]
		table := snapshot.Table(policy.Schema, policy.Name)
		if table == nil || !policy.Named {
			continue
		}
		for _, r := range policy.Rules {
			if err := r.notAllowed(policy.allow); err != nil && !policy.mistaken && !r.mistaken && r.on != 0 {
				warnings = append(warnings, err)
			}
			unguarded(r, table, policy.allow)
		}
		for i := range policy.Assignments {
			warnings = append(warnings, policy.Assignments[i].nulls(table, policy.allow, columns)...)
		}
	}
	return inOrder(warnings)
}

// userOf is the let that uses a value; empty if the expression at e does so itself.
func userOf(e celast.Expr, path string) string {
	if name := pathOf(beginning(e)); name != "" && name != path && !strings.HasPrefix(path, name+".") {
		return ", which " + name + " uses,"
	}
	return ""
}

// guard says how to guard a value that may be null. user is by what the expression uses it.
func (r *Rule) guard(of *expression, path, user string) string {
	then := "the rule rejects"
	if of == r.when {
		then = "the rule applies"
	}
	switch {
	case path == "old":
		return "old" + user + " is null in a new row, and then " + then + ": begin with old == null ||, or write on: [update]"
	case path == "new":
		return "new" + user + " is null on a DELETE, and then " + then + ": begin with new == null ||, or remove delete from on"
	case of == r.when:
		return fmt.Sprintf("%s%s may be null, and then %s: write %[1]s != null && … if it should not", path, user, then)
	}
	return fmt.Sprintf("%s%s may be null, and then %s: write %[1]s == null || … if null is fine, or %[1]s != null && … if it is not", path, user, then)
}

// nulls warns of values that may be null and would make a column null that is NOT NULL.
func (a *Assignment) nulls(table *catalog.Table, allow actions, columns LookupColumns) (warnings []error) {
	if c := table.Column(a.Column); c == nil || !c.NotNull || a.unsure || slices.ContainsFunc(a.expressions(), func(e *expression) bool { return e.unsure }) {
		return nil
	}
	var known nameSet
	n := &nulls{on: a.on & allow, table: table, unsent: true, columns: columns.columnsOf(a.Lookups)}
	n.found = func(e celast.Expr, path string) {
		warnings = append(warnings, a.value.problem(beginning(e), fmt.Sprintf("%s%s may be null, and then %s would be, which is NOT NULL: write %[1]s != null ? … : another value", path, userOf(e, path), a.Column)))
	}
	if a.when != nil {
		n.in = a.when
		known = n.known(a.when.ast.Expr(), true)
	}
	n.in = a.value
	n.result(a.value.ast.Expr(), known)
	return warnings
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
			r.unguarded(table, allActions, nil, func(of *expression, e celast.Expr, path string) {
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
	return e.at.expressionProblem(e.text, start.Line(), max(start.Column(), 0)+1, message)
}

// beginning is the variable that a path such as old.title begins with.
func beginning(e celast.Expr) celast.Expr {
	for e.Kind() == celast.SelectKind {
		e = e.AsSelect().Operand()
	}
	return e
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
