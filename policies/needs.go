package policies

import (
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// needs is what an expression looks at.
type needs struct {
	new, old map[string]bool // columns; nil where it does not look at the row at all
	newWhole bool            // all of them, as the row is handed on
	oldWhole bool
	data     bool
	sent     map[string]bool // columns of data
	lookup   bool
	lookups  map[string]bool // by name
}

// find walks the expression.
func (n *needs) find(e celast.Expr) {
	switch e.Kind() {
	case celast.IdentKind:
		switch e.AsIdent() {
		case "new":
			n.newWhole, n.new = true, touched(n.new)
		case "old":
			n.oldWhole, n.old = true, touched(n.old)
		case "data":
			n.data = true
		case "lookup":
			n.lookup = true
		}
	case celast.SelectKind:
		field, operand := e.AsSelect().FieldName(), e.AsSelect().Operand()
		switch {
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "new":
			n.new = touched(n.new, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "old":
			n.old = touched(n.old, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "data":
			n.data, n.sent = true, touched(n.sent, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "lookup":
			n.lookup, n.lookups = true, touched(n.lookups, field)
		default:
			n.find(operand)
		}
	case celast.CallKind:
		n.findCall(e.AsCall())
	case celast.ListKind:
		for _, element := range e.AsList().Elements() {
			n.find(element)
		}
	case celast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			n.find(entry.AsMapEntry().Key())
			n.find(entry.AsMapEntry().Value())
		}
	case celast.ComprehensionKind:
		c := e.AsComprehension()
		for _, part := range []celast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			n.find(part)
		}
	}
}

func (n *needs) findCall(call celast.CallExpr) {
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]celast.Expr{call.Target()}, args...)
	}
	if call.FunctionName() == operators.Index && args[0].Kind() == celast.IdentKind && args[0].AsIdent() == "lookup" && args[1].Kind() == celast.LiteralKind {
		if name, ok := args[1].AsLiteral().(types.String); ok {
			n.lookup, n.lookups = true, touched(n.lookups, string(name))
		}
	}
	// old == null asks only whether the row is there.
	if f := call.FunctionName(); (f == operators.Equals || f == operators.NotEquals) && slices.ContainsFunc(args, isNull) {
		args = slices.DeleteFunc(slices.Clone(args), func(a celast.Expr) bool {
			if a.Kind() != celast.IdentKind || a.AsIdent() != "old" {
				return false
			}
			n.old = touched(n.old)
			return true
		})
	}
	for _, arg := range args {
		n.find(arg)
	}
}

func isNull(e celast.Expr) bool {
	return e.Kind() == celast.LiteralKind && e.AsLiteral() == types.NullValue
}

func touched(columns map[string]bool, more ...string) map[string]bool {
	if columns == nil {
		columns = map[string]bool{}
	}
	for _, column := range more {
		columns[column] = true
	}
	return columns
}

func (e *expression) needsStored(known func(column string) bool) bool {
	if e.needs.old != nil || e.needs.newWhole {
		return true
	}
	for column := range e.needs.new {
		if !known(column) {
			return true
		}
	}
	return false
}
