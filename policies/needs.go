package policies

import (
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// needs is what an expression looks at.
type needs struct {
	new, old nameSet // columns; nil if it does not look at the row at all
	newWhole bool    // it uses the row itself, and so may look at any column
	oldWhole bool
	data     bool
	sent     nameSet // columns of data
	lookup   bool
	lookups  nameSet
}

// find adds what an expression looks at.
func (n *needs) find(e celast.Expr) {
	switch e.Kind() {
	case celast.IdentKind:
		switch e.AsIdent() {
		case "new":
			n.newWhole, n.new = true, with(n.new)
		case "old":
			n.oldWhole, n.old = true, with(n.old)
		case "data":
			n.data = true
		case "changed":
			n.data, n.oldWhole, n.old = true, true, with(n.old)
		case "lookup", "each": // both are known once rows are read
			n.lookup = true
		}
	case celast.SelectKind:
		field, operand := e.AsSelect().FieldName(), e.AsSelect().Operand()
		switch {
		case isVariable(operand, "new"):
			n.new = with(n.new, field)
		case isVariable(operand, "old"):
			n.old = with(n.old, field)
		case isVariable(operand, "data"):
			n.data, n.sent = true, with(n.sent, field)
		case isVariable(operand, "lookup"):
			n.lookup, n.lookups = true, with(n.lookups, field)
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
	if call.FunctionName() == operators.Index && isVariable(args[0], "lookup") && args[1].Kind() == celast.LiteralKind {
		if name, ok := args[1].AsLiteral().(types.String); ok {
			n.lookup, n.lookups = true, with(n.lookups, string(name))
		}
	}
	// old == null needs to know only whether the row exists.
	if f := call.FunctionName(); (f == operators.Equals || f == operators.NotEquals) && slices.ContainsFunc(args, isNull) {
		args = slices.DeleteFunc(slices.Clone(args), func(a celast.Expr) bool {
			if !isVariable(a, "old") {
				return false
			}
			n.old = with(n.old)
			return true
		})
	}
	for _, arg := range args {
		n.find(arg)
	}
}

// add adds what another expression looks at.
func (n *needs) add(other needs) {
	n.addColumns(other)
	n.newWhole, n.oldWhole, n.data = n.newWhole || other.newWhole, n.oldWhole || other.oldWhole, n.data || other.data
}

// addColumns adds the columns and the lookups that another expression names.
func (n *needs) addColumns(other needs) {
	n.lookup = n.lookup || other.lookup
	if other.new != nil {
		n.new = with(n.new, other.new...)
	}
	if other.old != nil {
		n.old = with(n.old, other.old...)
	}
	if other.sent != nil {
		n.sent = with(n.sent, other.sent...)
	}
}

func isVariable(e celast.Expr, name string) bool {
	return e.Kind() == celast.IdentKind && e.AsIdent() == name
}

func isNull(e celast.Expr) bool {
	return e.Kind() == celast.LiteralKind && e.AsLiteral() == types.NullValue
}

// nameSet is a set of names, sorted. It is a slice because each operation goes through it.
type nameSet []string

// with adds to a set, which may be nil; the result never is.
func with(set nameSet, more ...string) nameSet {
	if set == nil {
		set = nameSet{}
	}
	for _, name := range more {
		if at, found := slices.BinarySearch(set, name); !found {
			set = slices.Insert(set, at, name)
		}
	}
	return set
}

// needsStored reports whether the expression needs the stored row. known says which
// columns of the new row are known without it.
func (e *expression) needsStored(known func(column string) bool) bool {
	if e.needs.old != nil || e.needs.newWhole {
		return true
	}
	for _, column := range e.needs.new {
		if !known(column) {
			return true
		}
	}
	return false
}
