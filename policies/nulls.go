package policies

import (
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"postern/service/catalog"
	"postern/service/upload"
)

// nulls finds where an expression uses a value that may be null and fails on a null. A
// value is named by its path: new.note, old.note, data.note, and old and new themselves.
type nulls struct {
	on    actions // that the rule applies to
	table *catalog.Table
	found func(e celast.Expr, path string)
}

// unguarded calls found for each value that the rule's expressions use without a guard,
// if the table allows some actions.
func (r *Rule) unguarded(table *catalog.Table, allow actions, found func(of *expression, e celast.Expr, path string)) {
	var known nameSet
	for _, of := range []*expression{r.when, r.check} {
		if of == nil {
			continue
		}
		seen := map[string]bool{}
		n := &nulls{r.on & allow, table, func(e celast.Expr, path string) {
			if !seen[path] {
				found(of, e, path)
			}
			seen[path] = true
		}}
		n.require(of.ast.Expr(), known)
		known = n.known(of.ast.Expr(), true)
	}
}

// require goes through an expression that must not be null.
func (n *nulls) require(e celast.Expr, known nameSet) {
	if path := pathOf(e); path != "" && n.nullable(path) && !slices.Contains(known, path) {
		n.found(e, path)
	}
	n.walk(e, known)
}

// walk goes through an expression that may be null, with what is known not to be null.
func (n *nulls) walk(e celast.Expr, known nameSet) {
	switch e.Kind() {
	case celast.SelectKind:
		n.require(e.AsSelect().Operand(), known)
	case celast.CallKind:
		n.call(e.AsCall(), known)
	case celast.ListKind:
		for _, element := range e.AsList().Elements() {
			n.walk(element, known)
		}
	case celast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			n.walk(entry.AsMapEntry().Key(), known)
			n.walk(entry.AsMapEntry().Value(), known)
		}
	case celast.ComprehensionKind:
		n.require(e.AsComprehension().IterRange(), known)
		n.walk(e.AsComprehension().LoopStep(), known)
	}
}

// call goes through a call. && and || forgive a side that fails if the other one decides,
// whichever comes first.
func (n *nulls) call(call celast.CallExpr, known nameSet) {
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr:
		goesOn := call.FunctionName() == operators.LogicalAnd
		for i, arg := range args {
			n.require(arg, with(slices.Clone(known), n.known(args[1-i], goesOn)...))
		}
	case operators.Conditional:
		n.require(args[0], known)
		n.walk(args[1], with(slices.Clone(known), n.known(args[0], true)...))
		n.walk(args[2], with(slices.Clone(known), n.known(args[0], false)...))
	case operators.Equals, operators.NotEquals, "dyn", "type", "of":
		for _, arg := range args {
			n.walk(arg, known)
		}
	case operators.In:
		n.walk(args[0], known)
		n.require(args[1], known)
	default:
		if call.IsMemberFunction() {
			n.require(call.Target(), known)
		}
		for _, arg := range args {
			n.require(arg, known)
		}
	}
}

// known is what is not null if an expression has a result.
func (n *nulls) known(e celast.Expr, result bool) nameSet {
	if e.Kind() == celast.SelectKind && e.AsSelect().IsTestOnly() && result {
		return with(nil, pathOf(e.AsSelect().Operand()))
	}
	if e.Kind() != celast.CallKind {
		return nil
	}
	args := e.AsCall().Args()
	switch name := e.AsCall().FunctionName(); name {
	case operators.LogicalNot:
		return n.known(args[0], !result)
	case operators.LogicalAnd, operators.LogicalOr:
		a, b := n.known(args[0], result), n.known(args[1], result)
		if (name == operators.LogicalAnd) == result {
			return with(slices.Clone(a), b...)
		}
		return slices.DeleteFunc(slices.Clone(a), func(path string) bool { return !slices.Contains(b, path) })
	case operators.Equals, operators.NotEquals:
		return knownOfSides(args[0], args[1], (name == operators.Equals) == result)
	case operators.In:
		if path := pathOf(args[0]); path != "" && result && !slices.ContainsFunc(elements(args[1]), isNull) {
			return withRow(path)
		}
		if isVariable(args[0], "op") && result {
			return rowsOf(elements(args[1]))
		}
	}
	return nil
}

// knownOfSides is what is not null if two sides are equal, or are not.
func knownOfSides(a, b celast.Expr, equal bool) nameSet {
	if isNull(a) || b.Kind() != celast.LiteralKind {
		a, b = b, a
	}
	path := pathOf(a)
	switch {
	case isVariable(a, "op") && equal:
		return rowsOf([]celast.Expr{b})
	case isVariable(a, "op"):
		text, _ := textOf(b)
		return map[string]nameSet{"put": with(nil, "old"), "delete": with(nil, "new")}[text]
	case path == "" || b.Kind() != celast.LiteralKind || equal == isNull(b):
		return nil
	}
	return withRow(path)
}

// rowsOf are the rows that operations have.
func rowsOf(ops []celast.Expr) nameSet {
	known := with(nil, "old", "new")
	for _, op := range ops {
		switch text, _ := textOf(op); text {
		case "put":
			known = slices.DeleteFunc(known, func(path string) bool { return path == "old" })
		case "delete":
			known = slices.DeleteFunc(known, func(path string) bool { return path == "new" })
		case "patch":
		default:
			return nil
		}
	}
	return known
}

func elements(e celast.Expr) []celast.Expr {
	if e.Kind() != celast.ListKind {
		return nil
	}
	return e.AsList().Elements()
}

// withRow is a path with its row: if a column is not null, there is a row.
func withRow(path string) nameSet {
	row, _, _ := strings.Cut(path, ".")
	return with(nil, path, row)
}

// pathOf is the path of a value of a row, or of a row; empty if it is none.
func pathOf(e celast.Expr) string {
	switch {
	case isVariable(e, "new") || isVariable(e, "old"):
		return e.AsIdent()
	case e.Kind() != celast.SelectKind || e.AsSelect().IsTestOnly():
		return ""
	}
	if of := e.AsSelect().Operand(); isVariable(of, "new") || isVariable(of, "old") || isVariable(of, "data") {
		return of.AsIdent() + "." + e.AsSelect().FieldName()
	}
	return ""
}

// nullable reports whether a value may be null when the rule is evaluated.
func (n *nulls) nullable(path string) bool {
	switch path {
	case "old":
		return n.on.appliesToRow(upload.Put, false)
	case "new":
		return n.on.appliesTo(upload.Delete)
	}
	_, column, _ := strings.Cut(path, ".")
	c := n.table.Column(column)
	return c != nil && !c.NotNull
}
