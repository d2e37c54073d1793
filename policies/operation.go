package policies

import (
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"postern/service/upload"
)

// lazyMap is a map whose values are made when an expression looks at them, and are not
// kept: a rule over a large transaction looks at few of them at a time.
type lazyMap struct{ fields }

type fields interface {
	field(name string) (value ref.Val, ok bool)
	names() []string
}

// operationValue is an operation of tx.
type operationValue upload.Operation

func (v *operationValue) field(name string) (ref.Val, bool) {
	switch name {
	case "op":
		return types.String(strings.ToLower(string(v.Op))), true
	case "table":
		return types.String(v.Table), true
	case "id":
		return types.String(v.ID), true
	case "metadata":
		return types.String(v.Metadata), true
	case "data":
		return lazyMap{dataValue(v.Data)}, true
	}
	return nil, false
}

func (v *operationValue) names() []string { return sortedKeys(operationFields) }

// dataValue is what an operation sent.
type dataValue []upload.Member

func (v dataValue) field(name string) (ref.Val, bool) {
	for _, m := range v {
		if m.Name == name {
			return valueOrError(name, m.Value), true
		}
	}
	return nil, false
}

func (v dataValue) names() []string {
	names := make([]string, len(v))
	for i, m := range v {
		names[i] = m.Name
	}
	return names
}

// Find implements traits.Mapper.
func (m lazyMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	return m.field(string(name))
}

// whole is an ordinary map, for what expressions seldom do with it.
func (m lazyMap) whole() traits.Mapper {
	values := make(map[string]ref.Val, len(m.names()))
	for _, name := range m.names() {
		values[name], _ = m.field(name)
	}
	return types.NewMap(types.DefaultTypeAdapter, values)
}

// The rest of traits.Mapper.

func (m lazyMap) Contains(key ref.Val) ref.Val { return m.whole().Contains(key) }
func (m lazyMap) Get(key ref.Val) ref.Val      { return m.whole().Get(key) }
func (m lazyMap) Iterator() traits.Iterator    { return m.whole().Iterator() }
func (m lazyMap) Size() ref.Val                { return types.Int(len(m.names())) }
func (m lazyMap) Equal(other ref.Val) ref.Val  { return m.whole().Equal(other) }
func (m lazyMap) Type() ref.Type               { return types.MapType }
func (m lazyMap) Value() any                   { return m.whole().Value() }

func (m lazyMap) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

func (m lazyMap) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }
