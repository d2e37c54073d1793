package policies

import (
	"context"
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Assignment is a value that the policy sets in a column.
type Assignment struct {
	Column string

	value     *expression
	on        actions // as the file says
	applies   actions // see Rule
	isDefault bool
	isDate    bool // a time that is set becomes its day, by UTC
	place     place
}

// AppliesToRow reports whether the assignment is made for an operation on a row that
// exists, or does not.
func (a *Assignment) AppliesToRow(op upload.Op, exists bool) bool {
	return a.applies.appliesToRow(op, exists)
}

// IsDefault reports whether the value is for a column that the client did not send.
func (a *Assignment) IsDefault() bool { return a.isDefault }

// Value returns what the column is set to, as a client would send it. The error is
// the expression's, or that of ctx.
func (a *Assignment) Value(ctx context.Context, in *Input) (jsontext.Value, error) {
	value, err := a.value.eval(ctx, in)
	if err == nil {
		var json jsontext.Value
		if json, err = a.toJSON(value); err == nil {
			if in.trace != nil {
				in.trace(TraceEntry{Operation: in.Operation, Rule: a.Column, Position: a.place.position(), Result: Assigned, Detail: string(json)})
			}
			return json, nil
		}
	}
	return nil, ruleError(a.place.position()+" "+a.place.String(), err)
}

func (a *Assignment) toJSON(value ref.Val) (jsontext.Value, error) {
	if at, ok := value.(types.Timestamp); ok && a.isDate {
		return jsontext.Value(at.UTC().Format(`"2006-01-02"`)), nil
	}
	return toJSON(value)
}

// assignable reports whether a column can be set to values of a CEL type.
func assignable(column *catalog.Column, from *types.Type) bool {
	if from.Kind() == types.NullTypeKind {
		return !column.NotNull
	}
	var kinds []types.Kind
	switch to := valueType(column.Type); to.Kind() {
	case types.BoolKind:
		kinds = []types.Kind{types.BoolKind, types.IntKind}
	case types.IntKind, types.DoubleKind:
		kinds = []types.Kind{types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind}
	case types.TimestampKind:
		kinds = []types.Kind{types.TimestampKind}
	case types.StringKind:
		if holdsText(column) {
			return true
		}
		kinds = []types.Kind{types.StringKind}
	default:
		return true
	}
	return from.Kind() == types.DynKind || slices.Contains(kinds, from.Kind())
}

// expressions compiles the rules and the assignments of a table's policy.
func (c *compiler) expressions(t *Table, r tableRule, table *catalog.Table, at place) {
	if len(r.Let)+len(r.Rules)+len(r.Set)+len(r.Defaults) == 0 {
		return
	}
	s, err := c.lets(r, table, at)
	if err != nil {
		c.add(err)
		return
	}
	defer func() { c.unused = append(c.unused, unusedLets(s.lets)...) }()
	t.Rules = c.rules(r.Rules, s, at)
	for _, rule := range t.Rules {
		rule.applies = rule.on.in(t.allow)
	}
	key := t.Key(table)
	for _, column := range sortedKeys(r.Set) {
		at := at.in("set", column)
		on := c.actions(r.Set[column].On, at.in("on"))
		if on == 0 {
			on = creates | updates
		}
		if on&deleteStored != 0 {
			c.add(at.problem("a DELETE sets no columns: write on: [create, update], or one of the two"))
		}
		if value := c.assigned(s, key, column, r.Set[column].Value, at); value != nil {
			t.Assignments = append(t.Assignments, Assignment{column, value, on, on.in(t.allow), false, isDate(table, column), at})
		}
	}
	for _, column := range sortedKeys(r.Defaults) {
		at := at.in("defaults", column)
		on := creates
		if t.Put == Replace {
			on = puts // it gives every column that was not sent its default
		}
		if value := c.assigned(s, key, column, r.Defaults[column], at); value != nil {
			t.Assignments = append(t.Assignments, Assignment{column, value, on, on.in(t.allow), true, isDate(table, column), at})
		}
	}
}

func isDate(table *catalog.Table, column string) bool {
	return table.Column(column).Type.Name == "date"
}

// checkConstant checks that a value which is always the same fits its column. The device's
// user could do nothing about one that does not.
func (s scope) checkConstant(e *expression, column *catalog.Column) error {
	if len(celast.MatchDescendants(celast.NavigateAST(e.ast), celast.KindMatcher(celast.IdentKind))) > 0 {
		return nil
	}
	constant, err := e.eval(context.Background(), &Input{TransactionInput: &TransactionInput{}})
	if err != nil {
		return err
	}
	a := Assignment{isDate: isDate(s.table, column.Name)}
	json, err := a.toJSON(constant)
	if err == nil {
		_, err = value.Convert(s.table, column, json)
	}
	return err
}

// assigned compiles the value of a column; nil if it cannot be set.
func (c *compiler) assigned(s scope, key []string, name, text string, at place) *expression {
	column := c.column(s.table, name, at)
	switch {
	case column == nil:
		return nil
	case column.Generated:
		c.add(at.problem("%s.%s is generated by the database and cannot be set: remove it here", s.table, name))
		return nil
	case slices.Contains(key, name):
		c.add(at.problem("%s.%s is part of the row's id, which the client chooses: remove it here", s.table, name))
		return nil
	}
	e, err := s.compile(text, nil, at)
	if err != nil {
		c.add(err)
		return nil
	}
	if e.needsStored(func(string) bool { return false }) || e.needs.lookup {
		c.add(at.problem("the stored row is not known yet when columns are set: use data, auth, now, op, id, metadata and tx only"))
	}
	if !assignable(column, e.output) {
		is, gives := column.TypeName, e.output.String()
		if e.output.Kind() == types.NullTypeKind {
			is, gives = "NOT NULL", "null"
		}
		c.add(at.expressionProblem(text, 1, 1, fmt.Sprintf("%s.%s is %s, but the value is %s", s.table, name, is, gives)))
	} else if err := s.checkConstant(e, column); err != nil {
		c.add(at.expressionProblem(text, 1, 1, err.Error()))
	}
	return e
}
