package policies

import (
	"context"
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Assignment is a value that the policy sets in a column.
type Assignment struct {
	Column  string
	Lookups []*Lookup // of the lets that it uses

	value     *expression
	when      *expression // nil means always
	on        actions     // as the file says
	applies   actions     // see Rule
	isDefault bool
	isDate    bool // a time that is set becomes its day, by UTC
	place     place
	unsure    bool // its when has a mistake, so nothing is said of its nulls
}

// AppliesToRow reports whether the assignment is made for an operation on a row that
// exists, or does not.
func (a *Assignment) AppliesToRow(op upload.Op, exists bool) bool {
	return a.applies.appliesToRow(op, exists)
}

// overrides reports whether the policy drops what the client sends for a column.
func (t *Table) overrides(column string, op upload.Op, exists bool) bool {
	if t == nil || exists && slices.Contains(t.Immutable, column) {
		return false
	}
	return slices.ContainsFunc(t.Assignments, func(a Assignment) bool {
		return a.Column == column && !a.isDefault && a.AppliesToRow(op, exists)
	})
}

// IsDefault reports whether the value is for a column that the client did not send.
func (a *Assignment) IsDefault() bool { return a.isDefault }

// Position is file:line:column of the assignment, and its keys.
func (a *Assignment) Position() string { return a.place.position() + " " + a.place.String() }

// NeedsStored reports whether the value needs the stored row or a lookup. known says
// which columns of the new row are known from what was sent.
func (a *Assignment) NeedsStored(known func(column string) bool) bool {
	return len(a.Lookups) > 0 || slices.ContainsFunc(a.expressions(), func(e *expression) bool { return e.needsStored(known) })
}

// Columns returns the columns of a table's row that the value depends on: before the
// operation, and after it.
func (a *Assignment) Columns(table *catalog.Table) (old, new []string) {
	return columnsOf(a.expressions(), table)
}

func (a *Assignment) expressions() []*expression {
	return slices.DeleteFunc([]*expression{a.value, a.when}, func(e *expression) bool { return e == nil })
}

// Value returns what the column is set to, as a client would send it. sets is false if
// when is false: then the column keeps its value. The error is the expression's, or that
// of ctx.
func (a *Assignment) Value(ctx context.Context, in *Input) (json jsontext.Value, sets bool, err error) {
	entry := TraceEntry{Operation: in.Operation, Rule: a.Column, Position: a.place.position(), Result: Kept}
	if sets, err = a.isSet(ctx, in); sets && err == nil {
		var value ref.Val
		if value, err = a.value.eval(ctx, in); err == nil {
			json, err = a.toJSON(orNull(value))
		}
		entry.Result, entry.Detail = Assigned, string(json)
	}
	if err != nil {
		return nil, false, ruleError(a.Position(), err)
	}
	if in.trace != nil {
		in.trace(entry)
	}
	return json, sets, nil
}

// isSet evaluates when.
func (a *Assignment) isSet(ctx context.Context, in *Input) (bool, error) {
	if a.when == nil {
		return true, nil
	}
	return a.when.condition(ctx, in, true)
}

// LooksAtForbiddenNull reports whether the value depends on a column that the client must
// send, because it is NOT NULL without a default, and that is null. The database rejects
// such a row.
func (a *Assignment) LooksAtForbiddenNull(table *catalog.Table, in *Input) bool {
	return lookAtForbiddenNull(a.expressions(), in, table, func(c *catalog.Column) bool { return c.NotNull && !c.HasDefault })
}

// Misfit is the error of a value that its column cannot hold. That is no fault of the
// device's user.
func (a *Assignment) Misfit(err error) error {
	return ruleError(a.Position(), &evalError{a.value.text, err})
}

func (a *Assignment) toJSON(value ref.Val) (jsontext.Value, error) {
	if at, ok := value.(types.Timestamp); ok && a.isDate {
		return jsontext.Value(at.UTC().Format(`"2006-01-02"`)), nil
	}
	return toJSON(value)
}

// fits returns why a column cannot hold a constant; nil if it can.
func fits(table *catalog.Table, column *catalog.Column, constant ref.Val) error {
	a := Assignment{isDate: column.Type.Name == "date"}
	json, err := a.toJSON(constant)
	if err == nil {
		_, err = value.Convert(table, column, json)
	}
	return err
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
	if s, err = s.beforeDefaults(); err != nil {
		c.add(at.problem("%v", err))
		return
	}
	for _, column := range sortedKeys(r.Set) {
		at := at.in("set", column)
		on := c.actions(r.Set[column].On, at.in("on"))
		if on == 0 {
			on = creates | updates
		}
		if on&deleteStored != 0 {
			c.add(at.problem("a DELETE sets no columns: write on: [create, update], or one of the two"))
		}
		c.assignment(t, s, Assignment{Column: column, on: on, place: at}, r.Set[column])
	}
	for _, column := range sortedKeys(r.Defaults) {
		at := at.in("defaults", column)
		on := creates
		if t.Put == Replace {
			on = puts // it gives every column that was not sent its default
		}
		if len(r.Defaults[column].On) > 0 {
			c.add(at.in("on").problem("a default is for new rows: remove on, or write it under set"))
		}
		c.assignment(t, s, Assignment{Column: column, on: on, place: at, isDefault: true}, r.Defaults[column])
	}
}

// assignment compiles what a column is set to and adds it to the policy, unless the column
// cannot be set.
func (c *compiler) assignment(t *Table, s scope, a Assignment, r assignment) {
	column := c.assignedColumn(t, s.table, a)
	if column == nil {
		return
	}
	at := a.place
	if !r.bare {
		at = at.in("value")
	}
	if a.value = c.assigned(s, r.Value, nil, at); a.value == nil {
		return
	}
	c.checkResults(s, a.value, column)
	if r.When != "" {
		a.when = c.assigned(s, r.When, types.BoolType, a.place.in("when"))
		a.unsure = a.when == nil
	}
	for _, e := range a.expressions() {
		for _, l := range e.lookups {
			if !slices.Contains(a.Lookups, l) {
				a.Lookups = append(a.Lookups, l)
			}
		}
		if e := firstVariable(e.ast.Expr(), "old"); a.isDefault && t.Put != Replace && e != nil {
			c.add(a.value.problem(e, "a default is for new rows, which have no old: leave it out"))
		}
	}
	a.applies, a.isDate = a.on.in(t.allow), column.Type.Name == "date"
	t.Assignments = append(t.Assignments, a)
}

// assignedColumn returns the column of an assignment; nil if it cannot be set.
func (c *compiler) assignedColumn(t *Table, table *catalog.Table, a Assignment) *catalog.Column {
	column := c.column(table, a.Column, a.place)
	switch {
	case column == nil:
	case column.Generated:
		c.add(a.place.problem("%s.%s is generated by the database and cannot be set: remove it here", table, a.Column))
		return nil
	case slices.Contains(t.Key(table), a.Column):
		c.add(a.place.problem("%s.%s is part of the row's id, which the client chooses: remove it here", table, a.Column))
		return nil
	}
	return column
}

// assigned compiles an expression of an assignment; nil if it has a mistake.
func (c *compiler) assigned(s scope, text string, want *types.Type, at place) *expression {
	e, err := s.compile(text, want, at)
	if err != nil {
		c.add(err)
		return nil
	}
	if used := firstVariable(e.ast.Expr(), "lookup"); used != nil {
		c.add(e.problem(used, "lookup belongs to one rule: write let: {list: {lookup: select …}}, and use its name"))
	}
	return e
}

// checkResults checks what an expression can give against the column: its type, and
// constants, because the device's user could do nothing about one that does not fit.
func (c *compiler) checkResults(s scope, of *expression, column *catalog.Column) {
	for _, result := range results(of.ast.Expr()) {
		constant, err := constantOf(of, result)
		if !assignable(column, of.ast.GetType(result.ID())) {
			is, gives := column.TypeName, typeName(of.ast.GetType(result.ID()))
			if isNull(result) {
				is, gives = "NOT NULL", "null"
			}
			err = fmt.Errorf("%s.%s is %s, but the value is %s", s.table, column.Name, is, gives)
		} else if constant != nil && err == nil {
			err = fits(s.table, column, constant)
		}
		if err != nil {
			c.add(of.problem(beginning(result), err.Error()))
		}
	}
}

// results are the parts of an expression that may become its value: those of ?:.
func results(e celast.Expr) []celast.Expr {
	switch functionName(e) {
	case operators.Conditional:
		return append(results(e.AsCall().Args()[1]), results(e.AsCall().Args()[2])...)
	case "dyn":
		if isNull(e.AsCall().Args()[0]) { // see readNulls
			return e.AsCall().Args()
		}
	}
	return []celast.Expr{e}
}

// constantOf returns the value of a result that is always the same; nil if there is none.
func constantOf(of *expression, result celast.Expr) (ref.Val, error) {
	switch {
	case result.Kind() == celast.LiteralKind:
		return result.AsLiteral(), nil
	case len(celast.MatchDescendants(celast.NavigateAST(of.ast), celast.KindMatcher(celast.IdentKind))) > 0:
		return nil, nil
	}
	return of.eval(context.Background(), &Input{TransactionInput: &TransactionInput{}})
}
