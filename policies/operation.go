package policies

import (
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"postern/service/upload"
)

// operationValue is an operation of tx. It is a map whose values are made when an
// expression first looks at them: a rule over a large transaction looks at few of them.
type operationValue struct {
	op   *upload.Operation
	data ref.Val
}

// Find implements traits.Mapper.
func (v *operationValue) Find(key ref.Val) (ref.Val, bool) {
	switch key {
	case types.String("op"):
		return types.String(strings.ToLower(string(v.op.Op))), true
	case types.String("table"):
		return types.String(v.op.Table), true
	case types.String("id"):
		return types.String(v.op.ID), true
	case types.String("metadata"):
		return types.String(v.op.Metadata), true
	case types.String("data"):
		if v.data == nil {
			v.data = dataValue(v.op.Data)
		}
		return v.data, true
	}
	return nil, false
}

func dataValue(members []upload.Member) ref.Val {
	data := make(map[string]ref.Val, len(members))
	for _, m := range members {
		data[m.Name] = valueOrError(m.Name, m.Value)
	}
	return Row(data).value()
}

// whole is the operation as an ordinary map, for what expressions seldom do with it.
func (v *operationValue) whole() traits.Mapper {
	fields := make(map[ref.Val]ref.Val, len(operationFields))
	for name := range operationFields {
		fields[types.String(name)], _ = v.Find(types.String(name))
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, fields)
}

// The rest of traits.Mapper.

func (v *operationValue) Contains(key ref.Val) ref.Val { return v.whole().Contains(key) }
func (v *operationValue) Get(key ref.Val) ref.Val      { return v.whole().Get(key) }
func (v *operationValue) Iterator() traits.Iterator    { return v.whole().Iterator() }
func (v *operationValue) Size() ref.Val                { return types.Int(len(operationFields)) }
func (v *operationValue) Equal(other ref.Val) ref.Val  { return v.whole().Equal(other) }
func (v *operationValue) Type() ref.Type               { return types.MapType }
func (v *operationValue) Value() any                   { return v.whole().Value() }

func (v *operationValue) ConvertToNative(t reflect.Type) (any, error) {
	return v.whole().ConvertToNative(t)
}

func (v *operationValue) ConvertToType(t ref.Type) ref.Val { return v.whole().ConvertToType(t) }
