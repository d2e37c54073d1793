package policies

import (
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// memberTests are the options of a program in which has(new.meta.admin) is false if meta is
// a JSON list. A number and a text have no members either, and CEL says so; of a list, it
// says that a text is no index, and fails.
func memberTests(checked *celast.AST) []cel.ProgramOption {
	tests := map[int64]bool{}
	celast.PreOrderVisit(checked.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() != celast.SelectKind || !e.AsSelect().IsTestOnly() {
			return
		}
		of := e.AsSelect().Operand()
		tests[e.ID()] = of.Kind() != celast.IdentKind || !slices.Contains([]string{"new", "old", "data"}, of.AsIdent()) // a row is no list
	}))
	if !slices.Contains(slices.Collect(maps.Values(tests)), true) {
		return nil
	}
	return []cel.ProgramOption{cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		if path, ok := i.(interpreter.InterpretableAttribute); ok {
			return &testedPath{path, tests}, nil
		}
		return i, nil
	})}
}

// testedPath is a variable, with the fields that are asked of it.
type testedPath struct {
	interpreter.InterpretableAttribute
	tests map[int64]bool // the ids of has()
}

// AddQualifier implements interpreter.InterpretableAttribute.
func (t *testedPath) AddQualifier(q interpreter.Qualifier) (interpreter.Attribute, error) {
	if constant, ok := q.(interpreter.ConstantQualifier); ok && t.tests[q.ID()] {
		q = &memberTest{constant}
	}
	_, err := t.InterpretableAttribute.AddQualifier(q)
	return t, err
}

type memberTest struct{ interpreter.ConstantQualifier }

// Qualify implements interpreter.Qualifier.
func (m *memberTest) Qualify(vars interpreter.Activation, of any) (any, error) {
	switch of.(type) {
	case traits.Lister, []any:
		return false, nil
	}
	return m.ConstantQualifier.Qualify(vars, of)
}
