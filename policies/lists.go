package policies

import (
	"slices"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// CEL's own list.sort() and list.distinct() compare each element with all others, and sort
// refuses 1 beside 1.5, which rows of a lookup have in one column. These do not.

// ordered declares list.sort() and list.distinct(), and min(list) and max(list).
func ordered() cel.EnvOption {
	list, of := cel.ListType(cel.TypeParamType("T")), cel.TypeParamType("T")
	options := []cel.EnvOption{
		cel.Macros(ownMember("sort"), ownMember("distinct")),
		cel.Function("@sort", cel.MemberOverload("@sort", []*cel.Type{list}, list, cel.UnaryBinding(sorted))),
		cel.Function("@distinct", cel.MemberOverload("@distinct", []*cel.Type{list}, list, cel.UnaryBinding(distinct))),
		cel.Function("min", cel.Overload("min_list", []*cel.Type{list}, of, cel.UnaryBinding(func(list ref.Val) ref.Val { return extreme(list, -1) }))),
		cel.Function("max", cel.Overload("max_list", []*cel.Type{list}, of, cel.UnaryBinding(func(list ref.Val) ref.Val { return extreme(list, 1) }))),
		cel.CostModel(
			cost.MemberOverload("@sort", cost.EvalCost(cost.Scale(cost.Length(cost.Target()), sortSteps)), cost.ResultSize(cost.Target())),
			cost.MemberOverload("@distinct", cost.EvalCost(cost.Length(cost.Target())), cost.ResultSize(cost.Target())),
			cost.Overload("min_list", cost.EvalCost(cost.Length(cost.Arg(0)))),
			cost.Overload("max_list", cost.EvalCost(cost.Length(cost.Arg(0)))),
		),
	}
	return func(env *cel.Env) (*cel.Env, error) {
		for _, option := range options {
			var err error
			if env, err = option(env); err != nil {
				return nil, err
			}
		}
		return env, nil
	}
}

// sortSteps is how often an element of a sorted list is compared: log2 of MaxRows, rounded up.
const sortSteps = 10

// ownMember is a macro by which list.name() means the function @name.
func ownMember(name string) cel.Macro {
	return cel.ReceiverMacro(name, 0, func(factory cel.MacroExprFactory, list celast.Expr, _ []celast.Expr) (celast.Expr, *cel.Error) {
		return factory.NewMemberCall("@"+name, list), nil
	})
}

func elementsOf(list ref.Val) (elements []ref.Val) {
	for it := list.(traits.Lister).Iterator(); it.HasNext() == types.True; {
		elements = append(elements, it.Next())
	}
	return elements
}

// sorted orders a list; nulls come last, as in SQL.
func sorted(list ref.Val) ref.Val {
	elements, failed := elementsOf(list), ref.Val(nil)
	slices.SortStableFunc(elements, func(a, b ref.Val) int {
		switch {
		case failed != nil || a == types.NullValue && b == types.NullValue:
			return 0
		case a == types.NullValue:
			return 1
		case b == types.NullValue:
			return -1
		}
		order, err := compare(a, b)
		failed = err
		return order
	})
	if failed != nil {
		return failed
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elements)
}

// compare orders two values: numbers by their size, of whatever type, and others of one type.
// failed is nil, or the error of those that have no order.
func compare(a, b ref.Val) (order int, failed ref.Val) {
	comparer, ok := a.(traits.Comparer)
	if !ok {
		return 0, types.NewErr("a %s has no order", a.Type().TypeName())
	}
	result := comparer.Compare(b)
	if n, ok := result.(types.Int); ok {
		return int(n), nil
	}
	if types.IsError(result) {
		return 0, result
	}
	return 0, types.NewErr("a %s and a %s have no order", a.Type().TypeName(), b.Type().TypeName())
}

// extreme is the first element of a list that nothing exceeds in a direction; null if there is
// none. Nulls do not count, as in SQL.
func extreme(list ref.Val, direction int) (found ref.Val) {
	found = types.NullValue
	for _, element := range elementsOf(list) {
		if element == types.NullValue {
			continue
		}
		if found == types.NullValue {
			if _, failed := compare(element, element); failed != nil {
				return failed
			}
			found = element
			continue
		}
		order, failed := compare(element, found)
		if failed != nil {
			return failed
		}
		if order*direction > 0 {
			found = element
		}
	}
	return found
}

// distinct are the different elements of a list, in their order.
func distinct(list ref.Val) ref.Val {
	seen, kept := map[any]bool{}, []ref.Val{}
	for _, element := range elementsOf(list) {
		var key any
		if at, ok := element.(types.Timestamp); ok {
			key = at.UnixMicro()
		} else if key, ok = comparable(element); !ok {
			return types.NewErr("distinct compares texts, numbers, booleans, times and null, and not a %s", element.Type().TypeName())
		}
		if !seen[key] {
			seen[key] = true
			kept = append(kept, element)
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, kept)
}
