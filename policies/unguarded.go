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
// value is named by its path: new.note, old.note, data.note, old and new themselves,
// lookup.list.limit, and me.limit of a let. What a let uses is found where the let is used.
// That a lookup may find no row is not: a rule is expected to reject then.
type nulls struct {
	on      actions                   // that the rule applies to
	table   *catalog.Table            // nil for rules over a whole transaction
	columns map[string][]LookupColumn // of lookups, by lookup.list or a let's name
	found   func(e celast.Expr, path string)

	unsent   bool           // new is what was sent, so that any column of it may be null
	required map[int64]bool // gets the ids of all parts that must not be null, if it is not nil

	in  *expression // that is gone through: the rule's, or that of a let
	use celast.Expr // of a let in the rule's expression; nil if that itself is gone through
}

// columnsOf are the columns of some lookups, by the variable that the lookup is.
func (all LookupColumns) columnsOf(lookups []*Lookup) map[string][]LookupColumn {
	columns := map[string][]LookupColumn{}
	for _, l := range lookups {
		if !l.Rows {
			columns[l.variable()] = all[l]
		}
	}
	return columns
}

// unguarded calls found for each value that the rule's expressions use without a guard,
// if the table allows some actions. columns may be nil.
func (r *Rule) unguarded(table *catalog.Table, allow actions, columns LookupColumns, found func(of *expression, e celast.Expr, path string)) {
	var known nameSet
	for _, of := range []*expression{r.when, r.check} {
		if of == nil {
			continue
		}
		if of.unsure || r.unsure || r.mistaken { // a guard may be in what has a mistake
			return
		}
		seen := map[string]bool{}
		n := &nulls{on: r.on & allow, table: table, in: of, columns: columns.columnsOf(r.Lookups), found: func(e celast.Expr, path string) {
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
	if n.throughLet(e, func(value celast.Expr) { n.require(value, known) }) {
		return
	}
	if n.required != nil {
		n.required[e.ID()] = true
	} else if path := pathOf(e); path != "" && n.nullable(path) && !slices.Contains(known, path) {
		if n.use != nil {
			e = n.use
		}
		n.found(e, path)
	}
	n.walk(e, known)
}

// throughLet goes through the expression of a let in the place of its name. It reports
// whether e is such a name.
func (n *nulls) throughLet(e celast.Expr, value func(celast.Expr)) bool {
	if e.Kind() != celast.IdentKind || n.in == nil {
		return false
	}
	at := slices.IndexFunc(n.in.lets, func(l *let) bool { return l.name == e.AsIdent() && l.value != nil })
	if at < 0 {
		return false
	}
	in, use := n.in, n.use
	if n.in = in.lets[at].value; use == nil {
		n.use = e
	}
	value(n.in.ast.Expr())
	n.in, n.use = in, use
	return true
}

// result goes through an expression whose result must not be null.
func (n *nulls) result(e celast.Expr, known nameSet) {
	if functionName(e) != operators.Conditional {
		n.require(e, known)
		return
	}
	args := e.AsCall().Args()
	n.require(args[0], known)
	n.result(args[1], with(slices.Clone(known), n.known(args[0], true)...))
	n.result(args[2], with(slices.Clone(known), n.known(args[0], false)...))
}

// walk goes through an expression that may be null, with what is known not to be null.
func (n *nulls) walk(e celast.Expr, known nameSet) {
	switch e.Kind() {
	case celast.IdentKind:
		n.throughLet(e, func(value celast.Expr) { n.walk(value, known) })
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
func (n *nulls) known(e celast.Expr, result bool) (known nameSet) {
	if n.throughLet(e, func(value celast.Expr) { known = n.known(value, result) }) {
		return known
	}
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
		if isVariable(args[0], "op") && result {
			return rowsOf(elements(args[1]))
		}
		if path := pathOf(args[0]); path != "" && result && !slices.ContainsFunc(elements(args[1]), isNull) {
			return withRow(path)
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

// withRow is a path with what it is of: if a column is not null, there is a row.
func withRow(path string) nameSet {
	known := with(nil, path)
	for at := strings.LastIndexByte(path, '.'); at > 0; at = strings.LastIndexByte(path[:at], '.') {
		known = with(known, path[:at])
	}
	return known
}

// pathOf is the path of a variable, or of what is selected of it; empty if it is none.
func pathOf(e celast.Expr) string {
	switch {
	case e.Kind() == celast.IdentKind:
		return e.AsIdent()
	case lookupOf(e) != "":
		return "lookup." + lookupOf(e)
	case e.Kind() != celast.SelectKind || e.AsSelect().IsTestOnly() || pathOf(e.AsSelect().Operand()) == "":
		return ""
	}
	return pathOf(e.AsSelect().Operand()) + "." + e.AsSelect().FieldName()
}

// nullable reports whether a value may be null when the rule is evaluated.
func (n *nulls) nullable(path string) bool {
	switch path {
	case "old":
		return n.on.appliesToRow(upload.Put, false)
	case "new":
		return n.on.appliesTo(upload.Delete)
	}
	dot := strings.LastIndexByte(path, '.')
	row, column := path[:max(dot, 0)], path[dot+1:]
	if n.table != nil && slices.Contains([]string{"new", "old", "data"}, row) {
		c := n.table.Column(column)
		return c != nil && (!c.NotNull || n.unsent && row == "new")
	}
	return slices.ContainsFunc(n.columns[row], func(c LookupColumn) bool { return c.Name == column && c.Nullable })
}
