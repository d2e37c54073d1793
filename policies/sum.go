package policies

import (
	"math/big"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// sum declares sum(list). Its cost is the length of the list.
func sum() cel.EnvOption {
	const overload = "sum_list"
	declared := cel.Function("sum", cel.Overload(overload, []*cel.Type{cel.ListType(cel.DynType)}, cel.DoubleType, cel.UnaryBinding(sumOf)))
	costs := cel.CostModel(cost.Overload(overload, cost.EvalCost(cost.Sum(cost.Const(cost.CallCost), cost.Length(cost.Arg(0))))))
	return func(env *cel.Env) (*cel.Env, error) {
		env, err := declared(env)
		if err != nil {
			return nil, err
		}
		return costs(env)
	}
}

// sumOf adds decimal numbers exactly, so that 0.1 and 0.2 are 0.3. Nulls count as nothing,
// as in SQL.
func sumOf(list ref.Val) ref.Val {
	total := new(big.Rat)
	for it := list.(traits.Lister).Iterator(); it.HasNext() == types.True; {
		var text string
		switch v := it.Next().(type) {
		case types.Null:
			continue
		case types.Int:
			text = strconv.FormatInt(int64(v), 10)
		case types.Double:
			text = strconv.FormatFloat(float64(v), 'g', -1, 64)
		case types.String:
			text = string(v)
		default:
			return types.NewErr("sum adds numbers, and not a %s", v.Type().TypeName())
		}
		f, err := strconv.ParseFloat(text, 64) // bounds the exponent, too
		if err != nil || f-f != 0 {
			return types.NewErr("sum adds numbers: one of the values is none")
		}
		number, ok := new(big.Rat).SetString(text)
		if !ok {
			return types.NewErr("sum adds numbers: one of the values is none")
		}
		total.Add(total, number)
	}
	result, _ := total.Float64()
	return types.Double(result)
}
