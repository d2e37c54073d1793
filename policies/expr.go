package policies

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"

	"postern/service/catalog"
)

const (
	// maxCost bounds the estimated steps of one expression. A comparison is a few, a
	// pass over all operations of the largest transaction some thousands; a loop
	// within such a loop is over it.
	maxCost = 200_000
	// assumedSize is what the estimate takes for the length of texts and lists.
	assumedSize = 1000
	// maxSteps bounds the steps that one evaluation really takes: texts and
	// transactions may be longer than is assumed. A step is some 100 ns.
	maxSteps = 25 * maxCost
	// maxStepsOfAll bounds those of a whole transaction: an expression that goes
	// through tx is quadratic where it is asked about each operation.
	maxStepsOfAll = 20 * maxSteps
	// interruptEvery is how many rounds of a loop may pass before the request's
	// deadline is looked at.
	interruptEvery = 10
)

// The names of the object types in expressions; those of rows are their tables'.
const (
	authType   = "auth"
	sharedType = "operation"
	sentSuffix = " as sent" // of a row's type where any column may be null
)

// expression is a CEL expression that was checked, and what it looks at.
type expression struct {
	program cel.Program
	text    string
	needs   needs
	output  *types.Type
}

// needs is what an expression looks at.
type needs struct {
	new, old map[string]bool // columns; nil where it does not look at the row at all
	newWhole bool            // all of them, as the row is handed on
	oldWhole bool
	data     bool
	sent     map[string]bool // columns of data
	lookup   bool
	lookups  map[string]bool // by name
}

// scope is what expressions of one kind can see.
type scope struct {
	env   *cel.Env
	table *catalog.Table // nil for rules over a whole transaction
}

// newScope declares the variables of an expression. Rows are typed by their
// table, so that a misspelt column is an error when the policies are loaded.
func newScope(table *catalog.Table) (scope, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return scope{}, err
	}
	options := []cel.EnvOption{
		cel.StdLib(), ext.Strings(), ext.Math(), functions(),
		cel.CrossTypeNumericComparisons(true),
		cel.CustomTypeProvider(&provider{Provider: registry, table: table}),
		cel.Variable("auth", cel.ObjectType(authType)),
		cel.Variable("now", cel.TimestampType),
		cel.Variable("tx", cel.ListType(cel.ObjectType(sharedType))),
	}
	if table != nil {
		row := cel.ObjectType(table.String())
		options = append(options,
			cel.Variable("op", cel.StringType), cel.Variable("id", cel.StringType), cel.Variable("metadata", cel.StringType),
			cel.Variable("new", row), cel.Variable("old", row), cel.Variable("data", cel.ObjectType(table.String()+sentSuffix)),
			cel.Variable("lookup", cel.MapType(cel.StringType, cel.DynType)))
	}
	env, err := cel.NewCustomEnv(options...)
	return scope{env, table}, err
}

// provider adds the types of rows, of the user and of operations to CEL's own.
type provider struct {
	types.Provider
	table *catalog.Table
}

var authFields = map[string]*types.Type{
	"sub": types.StringType, "role": types.StringType, "issuer": types.StringType, "session_id": types.StringType,
	"claims": types.NewMapType(types.StringType, types.DynType),
}

var operationFields = map[string]*types.Type{
	"op": types.StringType, "table": types.StringType, "id": types.StringType, "metadata": types.StringType,
	"data": types.NewMapType(types.StringType, types.DynType),
}

func (p *provider) fields(name string) map[string]*types.Type {
	switch {
	case name == authType:
		return authFields
	case name == sharedType:
		return operationFields
	case p.table != nil && (name == p.table.String() || name == p.table.String()+sentSuffix):
		fields := make(map[string]*types.Type, len(p.table.Columns))
		for i := range p.table.Columns {
			c := p.table.Columns[i]
			c.NotNull = c.NotNull && name == p.table.String()
			fields[c.Name] = columnType(&c)
		}
		return fields
	}
	return nil
}

// FindStructType implements types.Provider, as the next two do.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if p.fields(name) != nil {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames lists a type's fields.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields := p.fields(name); fields != nil {
		return sortedKeys(fields), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType finds a field. Rows are maps when an expression runs, so
// nothing has to say how to get at it.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields := p.fields(name); fields != nil {
		t, ok := fields[field]
		return &types.FieldType{Type: t}, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// compile checks an expression of which something is expected; nil is anything.
func (s scope) compile(text string, want *types.Type, at place) (*expression, error) {
	ast, issues := s.env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, at.expressionProblem(text, first.Location.Line(), first.Location.Column()+1, s.explain(first.Message))
	}
	output := ast.OutputType()
	if want != nil && !want.IsAssignableType(output) && output.Kind() != types.DynKind {
		return nil, at.expressionProblem(text, 1, 1, fmt.Sprintf("it gives %s, where %s is needed", output, want))
	}
	if problem := s.problem(ast.NativeRep(), text, at); problem != nil {
		return nil, problem
	}
	cost, err := s.env.EstimateCost(ast, costs{})
	if err != nil {
		return nil, at.problem("%v", err)
	}
	if cost.Max > maxCost {
		return nil, at.expressionProblem(text, 1, 1, fmt.Sprintf("it may take %s steps, more than %d: take a loop out of it", steps(cost.Max), maxCost))
	}
	program, err := s.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.InterruptCheckFrequency(interruptEvery), cel.CostLimit(maxSteps))
	if err != nil {
		return nil, at.problem("%v", err)
	}
	e := &expression{program: program, text: text, output: output}
	e.needs.find(ast.NativeRep().Expr())
	return e, nil
}

// problem is what the checker lets through although it cannot work: a message,
// which has no fields that could be set, and an op that no operation has.
func (s scope) problem(ast *celast.AST, text string, at place) (problem error) {
	add := func(e celast.Expr, message string) {
		if problem == nil {
			where := ast.SourceInfo().GetStartLocation(e.ID())
			problem = at.expressionProblem(text, where.Line(), where.Column()+1, message)
		}
	}
	isOp := func(e celast.Expr) bool {
		switch e.Kind() {
		case celast.IdentKind:
			return s.table != nil && e.AsIdent() == "op"
		case celast.SelectKind:
			return e.AsSelect().FieldName() == "op" && ast.GetType(e.AsSelect().Operand().ID()).TypeName() == sharedType
		}
		return false
	}
	var compared func(e celast.Expr)
	compared = func(e celast.Expr) {
		switch e.Kind() {
		case celast.LiteralKind:
			if op, ok := e.AsLiteral().(types.String); ok && !slices.Contains([]types.String{"put", "patch", "delete"}, op) {
				add(e, fmt.Sprintf("op is put, patch or delete, and never %q", string(op)))
			}
		case celast.ListKind:
			for _, element := range e.AsList().Elements() {
				compared(element)
			}
		}
	}
	celast.PreOrderVisit(ast.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.StructKind:
			add(e, "an expression cannot make a "+e.AsStruct().TypeName())
		case celast.CallKind:
			call := e.AsCall()
			if !slices.Contains([]string{operators.Equals, operators.NotEquals, operators.In}, call.FunctionName()) {
				return
			}
			for i, arg := range call.Args() {
				if isOp(arg) {
					compared(call.Args()[1-i])
				}
			}
		}
	}))
	return problem
}

func steps(n uint64) string {
	if n == math.MaxUint64 {
		return "any number of"
	}
	return fmt.Sprint(n)
}

var (
	noOverload  = regexp.MustCompile(`^found no matching overload for '([^']+)' applied to '(.*)'$`)
	undeclared  = regexp.MustCompile(`^undeclared reference to '(\w+)'`)
	rowVariable = []string{"new", "old", "data", "op", "id", "metadata", "lookup"}
)

// explain words CEL's message for somebody who does not know how CEL works.
func (s scope) explain(message string) string {
	const undefined = "undefined field '"
	if name, ok := strings.CutPrefix(message, undefined); ok && s.table != nil {
		name = strings.TrimSuffix(name, "'")
		return message + didYouMean(name, append(columnNames(s.table), sortedKeys(authFields)...))
	}
	if match := undeclared.FindStringSubmatch(message); match != nil && s.table == nil && slices.Contains(rowVariable, match[1]) {
		return "a rule over whole transactions sees tx, auth and now, and not " + match[1] + ", which is of one row"
	}
	if match := noOverload.FindStringSubmatch(message); match != nil {
		name := match[1]
		if operator, ok := operators.FindReverse(name); ok && operator != "" {
			name = operator
		}
		message = name + " does not take " + match[2]
		if strings.Contains(match[2], "timestamp") && strings.Contains(match[2], "string") {
			message += ": write a time as timestamp('2026-11-24T00:00:00Z')"
		}
		return message
	}
	short, _, _ := strings.Cut(message, " expecting {")
	return strings.Replace(short, "mismatched input '<EOF>'", "the expression ends too early", 1)
}

// costs tells the estimate how long texts and lists may be.
type costs struct{}

func (costs) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: assumedSize}
}

func (costs) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// find walks the expression.
func (n *needs) find(e celast.Expr) {
	switch e.Kind() {
	case celast.IdentKind:
		switch e.AsIdent() {
		case "new":
			n.newWhole, n.new = true, touched(n.new)
		case "old":
			n.oldWhole, n.old = true, touched(n.old)
		case "data":
			n.data = true
		case "lookup":
			n.lookup = true
		}
	case celast.SelectKind:
		field, operand := e.AsSelect().FieldName(), e.AsSelect().Operand()
		switch {
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "new":
			n.new = touched(n.new, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "old":
			n.old = touched(n.old, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "data":
			n.data, n.sent = true, touched(n.sent, field)
		case operand.Kind() == celast.IdentKind && operand.AsIdent() == "lookup":
			n.lookup, n.lookups = true, touched(n.lookups, field)
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
	if call.FunctionName() == operators.Index && args[0].Kind() == celast.IdentKind && args[0].AsIdent() == "lookup" && args[1].Kind() == celast.LiteralKind {
		if name, ok := args[1].AsLiteral().(types.String); ok {
			n.lookup, n.lookups = true, touched(n.lookups, string(name))
		}
	}
	// old == null asks only whether the row is there.
	if f := call.FunctionName(); (f == operators.Equals || f == operators.NotEquals) && slices.ContainsFunc(args, isNull) {
		args = slices.DeleteFunc(slices.Clone(args), func(a celast.Expr) bool {
			if a.Kind() != celast.IdentKind || a.AsIdent() != "old" {
				return false
			}
			n.old = touched(n.old)
			return true
		})
	}
	for _, arg := range args {
		n.find(arg)
	}
}

func isNull(e celast.Expr) bool {
	return e.Kind() == celast.LiteralKind && e.AsLiteral() == types.NullValue
}

func touched(columns map[string]bool, more ...string) map[string]bool {
	if columns == nil {
		columns = map[string]bool{}
	}
	for _, column := range more {
		columns[column] = true
	}
	return columns
}

// eval runs the expression. Where the request's time is up the error is that of
// ctx, whatever came out: CEL's || takes an evaluation that was cut off for one
// side that failed.
func (e *expression) eval(ctx context.Context, in *Input) (ref.Val, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if in.steps > maxStepsOfAll {
		return nil, fmt.Errorf("%s: the rules take more than %d steps on this transaction", e.text, maxStepsOfAll)
	}
	value, details, err := e.program.ContextEval(ctx, in)
	if details != nil && details.ActualCost() != nil {
		in.steps += *details.ActualCost()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", e.text, err)
	}
	var cut interpreter.EvalCancelledError
	if errors.As(err, &cut) && cut.Cause == interpreter.CostLimitExceeded {
		err = fmt.Errorf("it takes more than %d steps on this transaction", maxSteps)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.text, err)
	}
	return value, nil
}
