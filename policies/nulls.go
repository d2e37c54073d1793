package policies

import (
	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// Null in expressions is as in SQL: what is computed from null is null, ! of null is null,
// and && and || are null unless their other side decides them. Only ==, != and in take a
// null that is stored or sent for a value, as "is not distinct from" does. CEL fails on
// null instead, and lets && and || forgive a side that fails. It also has a value that
// stands for one that is not known, which goes through an expression as SQL's null does. So
// an expression that fails is evaluated once more, with each null that CEL would fail on
// replaced by that value. If the result is unknown, a null is the cause, at least together
// with a failure. Otherwise the failure stays: it is never a result.

// unknownIfNull is the option of a program in which a null that CEL would fail on is
// unknown.
func unknownIfNull(checked *celast.AST) cel.ProgramOption {
	required := map[int64]bool{}
	n := &nulls{required: required}
	n.require(checked.Expr(), nil)
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		if path, ok := i.(interpreter.InterpretableAttribute); ok {
			return &requiredPath{path, required}, nil
		}
		if required[i.ID()] {
			return &requiredValue{i}, nil
		}
		return i, nil
	})
}

// requiredValue is a step of a program whose null is unknown.
type requiredValue struct{ interpreter.InterpretableV2 }

// Exec implements interpreter.InterpretableV2.
func (r *requiredValue) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return unlessNull(r.InterpretableV2.Exec(frame), r.ID())
}

// Eval implements interpreter.Interpretable.
func (r *requiredValue) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, r.Exec)
}

// requiredPath is a variable, with the fields that are asked of it. A field of null is
// unknown.
type requiredPath struct {
	interpreter.InterpretableAttribute
	required map[int64]bool
}

// AddQualifier implements interpreter.InterpretableAttribute.
func (r *requiredPath) AddQualifier(q interpreter.Qualifier) (interpreter.Attribute, error) {
	if constant, ok := q.(interpreter.ConstantQualifier); ok { // has() wants one
		q = &fieldByName{constant}
	} else {
		q = &field{q}
	}
	_, err := r.InterpretableAttribute.AddQualifier(q)
	return r, err
}

// Exec implements interpreter.InterpretableV2.
func (r *requiredPath) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	value := r.InterpretableAttribute.Exec(frame)
	if r.required[r.ID()] { // which is now that of the last field
		return unlessNull(value, r.ID())
	}
	return value
}

// Eval implements interpreter.Interpretable.
func (r *requiredPath) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, r.Exec)
}

type (
	field       struct{ interpreter.Qualifier }
	fieldByName struct{ interpreter.ConstantQualifier }
)

// Qualify implements interpreter.Qualifier.
func (f *field) Qualify(vars interpreter.Activation, of any) (any, error) {
	if of == types.NullValue || isNullIndex(vars, f.Qualifier) {
		return types.NewUnknown(f.ID(), nil), nil
	}
	return f.Qualifier.Qualify(vars, of)
}

// Qualify implements interpreter.Qualifier.
func (f *fieldByName) Qualify(vars interpreter.Activation, of any) (any, error) {
	if of == types.NullValue {
		return types.NewUnknown(f.ID(), nil), nil
	}
	return f.ConstantQualifier.Qualify(vars, of)
}

// isNullIndex reports whether a qualifier is the index of list[index], and null.
func isNullIndex(vars interpreter.Activation, q interpreter.Qualifier) bool {
	index, ok := q.(interpreter.Attribute)
	if !ok {
		return false
	}
	value, err := index.Resolve(vars)
	return err == nil && value == types.NullValue
}

// unlessNull is a value, or CEL's unknown in the place of null.
func unlessNull(value ref.Val, id int64) ref.Val {
	if value == types.NullValue {
		return types.NewUnknown(id, nil)
	}
	return value
}

// orNull is a value, or null in the place of one that is unknown.
func orNull(value ref.Val) ref.Val {
	if types.IsUnknown(value) {
		return types.NullValue
	}
	return value
}
