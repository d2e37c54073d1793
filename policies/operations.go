package policies

import (
	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"postern/service/upload"
)

// operationsValue is tx. It knows which operations have a value in a column, so that a
// rule of each of many operations finds those that belong to it without a loop over all.
type operationsValue struct {
	traits.Lister
	sent  []upload.Operation
	list  []ref.Val
	found map[columnOf]map[ref.Val][]ref.Val // by value; a column is gone through when it is first asked for
}

// columnOf is a column of the operations on a table. Column "" is for all of them.
type columnOf struct{ table, column string }

func newOperationsValue(sent []upload.Operation) *operationsValue {
	v := &operationsValue{sent: sent, list: make([]ref.Val, len(sent)), found: map[columnOf]map[ref.Val][]ref.Val{}}
	for i := range sent {
		v.list[i] = lazyMap{(*operationValue)(&sent[i])}
	}
	v.Lister = types.NewRefValList(types.DefaultTypeAdapter, v.list)
	return v
}

// of are the operations on a table whose column has a value.
func (v *operationsValue) of(where columnOf, value ref.Val) ref.Val {
	found := v.found[where]
	if found == nil {
		found = map[ref.Val][]ref.Val{}
		for i := range v.sent {
			if v.sent[i].Table != where.table {
				continue
			}
			if key, ok := comparable(columnValue(&v.sent[i], where.column)); ok {
				found[key] = append(found[key], v.list[i])
			}
		}
		v.found[where] = found
	}
	key, ok := comparable(value)
	if !ok {
		return types.NewErr("tx.of compares texts, numbers, booleans and null, and not a %s", value.Type().TypeName())
	}
	return types.NewRefValList(types.DefaultTypeAdapter, found[key])
}

// columnValue is the value of a column that was sent, or of the id; nil if it was not sent.
func columnValue(op *upload.Operation, name string) ref.Val {
	switch name {
	case "":
		return types.NullValue
	case "id":
		return types.String(op.ID)
	}
	value, _ := dataValue(op.Data).field(name)
	return value
}

// comparable is a value as a key of a map, in which 1 and 1.0 are one key. Numbers are
// compared as floats.
func comparable(value ref.Val) (key ref.Val, ok bool) {
	switch v := value.(type) {
	case types.String, types.Bool, types.Null, types.Double:
		return v, true
	case types.Int:
		return types.Double(v), true
	}
	return nil, false
}

// of declares tx.of(table) and tx.of(table, column, value).
func of() cel.EnvOption {
	// An operation is a map when an expression is evaluated, which CEL would refuse here.
	tx, list := cel.ListType(cel.DynType), cel.ListType(cel.ObjectType(operationType))
	return cel.Function("of",
		cel.MemberOverload("tx_of_table", []*cel.Type{tx, cel.StringType}, list,
			cel.BinaryBinding(func(tx, table ref.Val) ref.Val { return find(tx, table, types.String(""), types.NullValue) })),
		cel.MemberOverload("tx_of_column", []*cel.Type{tx, cel.StringType, cel.StringType, cel.DynType}, list,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val { return find(args[0], args[1], args[2], args[3]) })))
}

func find(tx, table, column, value ref.Val) ref.Val {
	v, ok := tx.(*operationsValue)
	if !ok {
		return types.NewErr("of belongs to tx alone: write tx.of first, and filter after it")
	}
	return v.of(columnOf{string(table.(types.String)), string(column.(types.String))}, value)
}

// loopOverAll is a loop over all operations of the transaction, or over all of a table,
// in an expression that is evaluated for each operation; nil if there is none.
func loopOverAll(root celast.Expr) (loop celast.Expr) {
	celast.PreOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		if loop == nil && e.Kind() == celast.ComprehensionKind && isAll(e.AsComprehension().IterRange()) {
			loop = e
		}
	}))
	return loop
}

func isAll(e celast.Expr) bool {
	if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == "of" && len(e.AsCall().Args()) == 1 {
		return isAll(e.AsCall().Target())
	}
	return isVariable(e, "tx")
}
