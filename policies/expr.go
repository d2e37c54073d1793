package policies

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

const (
	// maxCost bounds the estimated steps of one expression. A comparison takes a few
	// steps, a loop over all operations of the largest transaction some thousands. A
	// loop within such a loop is beyond the bound.
	maxCost = 200_000
	// assumedSize is the length of texts and lists that the estimate assumes.
	assumedSize = 1000
	// assumedChanges is the number of columns that one write changes.
	assumedChanges = 50
	// maxSteps bounds the steps that one evaluation takes, because texts and
	// transactions may be longer than assumed. A step takes about 100 ns.
	maxSteps = 25 * maxCost
	// All expressions for one transaction together have maxTransactionSteps, and
	// stepsPerOperation for each operation. A table's rule that loops over tx runs for
	// each operation, so its time is quadratic up to here.
	maxTransactionSteps = 4 * maxSteps
	stepsPerOperation   = 2000
	// interruptEvery is the number of loop iterations between two checks of the
	// request's deadline.
	interruptEvery = 10
)

// expression is a compiled CEL expression, with what it looks at.
type expression struct {
	program cel.Program
	nulls   cel.Program // the same, for one that has failed; see unknownIfNull
	loops   bool        // over a list; otherwise it takes no more steps than it has parts
	text    string
	needs   needs
	lets    []*let    // that it uses
	lookups []*Lookup // of these lets
	output  *types.Type
	ast     *celast.AST
	at      place
	unsure  bool // it uses a let or function that has a mistake, so nothing is said of its nulls

	observed func() (cel.Program, error) // the same, which keeps the values of its parts
}

// compile compiles an expression. Its result must have the type want; nil allows any.
func (s scope) compile(text string, want *types.Type, at place) (*expression, error) {
	ast, err := s.check(text, at)
	if err != nil {
		return nil, err
	}
	output := ast.OutputType()
	if want != nil && !want.IsAssignableType(output) && output.Kind() != types.DynKind {
		return nil, at.expressionProblem(text, 1, 1, fmt.Sprintf("the result is %s, but must be %s", typeName(output), want))
	}
	if problem := errors.Join(s.problem(ast.NativeRep(), text, at), s.mistakes(ast.NativeRep(), text, at)); problem != nil {
		return nil, problem
	}
	estimate, err := s.env.EstimateCost(ast, costs{})
	if err != nil {
		return nil, at.problem("%v", err)
	}
	if estimate.Max > maxCost {
		return nil, at.expressionProblem(text, 1, 1, fmt.Sprintf("this may take %s steps, more than %d: remove a loop, or split the rule", steps(estimate.Max), maxCost))
	}
	e := &expression{loops: loops(ast.NativeRep()), text: text, output: output, ast: ast.NativeRep(), at: at, unsure: s.names.mistaken(text)}
	tests := memberTests(ast.NativeRep())
	options := append([]cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}, tests...)
	if e.loops {
		options = append(options, cel.InterruptCheckFrequency(interruptEvery), cel.CostLimit(maxSteps))
	}
	if e.nulls, err = s.env.Program(ast, append(options, unknownIfNull(ast.NativeRep()))...); err == nil {
		e.program, err = s.env.Program(ast, append(options, at.file.coverage.watch(ast.NativeRep(), at)...)...)
	}
	if err != nil {
		return nil, at.problem("%v", err)
	}
	e.observed = sync.OnceValues(func() (cel.Program, error) {
		return s.env.Program(ast, append(tests, cel.EvalOptions(cel.OptTrackState), unknownIfNull(ast.NativeRep()))...)
	})
	e.needs.find(ast.NativeRep().Expr())
	e.addLets(s.lets, ast.NativeRep().Expr())
	return e, nil
}

// typeName is a type without CEL's word for one that may be null.
func typeName(t *types.Type) string {
	return strings.TrimSuffix(strings.TrimPrefix(t.String(), "wrapper("), ")")
}

// check finds the types of an expression, and writes out the functions of the policy
// files. CEL checks their calls first, so that a problem is in the author's words.
func (s scope) check(text string, at place) (*cel.Ast, error) {
	parsed, err := s.parse(text, at)
	if err != nil {
		return nil, err
	}
	ast, issues := s.env.Check(parsed)
	if issues.Err() != nil {
		return nil, s.explainAll(issues, text, at)
	}
	s.names.use(ast.NativeRep().Expr())
	if len(s.names.calls(ast.NativeRep().Expr())) == 0 {
		return ast, nil
	}
	if parsed, err = s.parse(text, at); err != nil {
		return nil, err
	}
	if err := s.names.writeOut(parsed.NativeRep()); err != nil {
		return nil, at.expressionProblem(text, 1, 1, err.Error())
	}
	if ast, issues = s.env.Check(parsed); issues.Err() != nil {
		return nil, s.explainAll(issues, text, at)
	}
	return ast, nil
}

func (s scope) parse(text string, at place) (*cel.Ast, error) {
	parsed, issues := s.env.Parse(text)
	if issues.Err() != nil {
		return nil, s.explainAll(issues, text, at)
	}
	readDays(parsed.NativeRep().Expr())
	readNulls(parsed.NativeRep())
	return parsed, nil
}

func loops(ast *celast.AST) bool {
	return len(celast.MatchDescendants(celast.NavigateAST(ast), celast.KindMatcher(celast.ComprehensionKind))) > 0
}

// problem finds what CEL's checker accepts and what cannot work: making a message,
// because rows have no fields that could be set, comparing op with a word that no
// operation has, and going through all operations for each of them.
func (s scope) problem(ast *celast.AST, text string, at place) (problem error) {
	add := func(e celast.Expr, message string) {
		if problem == nil {
			start := ast.SourceInfo().GetStartLocation(e.ID())
			problem = at.expressionProblem(text, start.Line(), start.Column()+1, message)
		}
	}
	isOp := func(e celast.Expr) bool {
		switch e.Kind() {
		case celast.IdentKind:
			return s.table != nil && e.AsIdent() == "op"
		case celast.SelectKind:
			return e.AsSelect().FieldName() == "op" && ast.GetType(e.AsSelect().Operand().ID()).TypeName() == operationType
		}
		return false
	}
	var compared func(e celast.Expr)
	compared = func(e celast.Expr) {
		switch e.Kind() {
		case celast.LiteralKind:
			if op, ok := e.AsLiteral().(types.String); ok && !slices.Contains([]types.String{"put", "patch", "delete"}, op) {
				message := fmt.Sprintf("op is never %q: compare it with put, patch or delete", string(op))
				if s.table != nil && (op == "create" || op == "update") {
					message += fmt.Sprintf(", which the client sends, or write on: [%s]", string(op))
				}
				add(e, message)
			}
		case celast.ListKind:
			for _, element := range e.AsList().Elements() {
				compared(element)
			}
		}
	}
	if loop := loopOverAll(ast.Expr()); loop != nil && s.table != nil {
		add(loop, "for each operation this goes through the whole transaction: find the operations that belong to this one with tx.of('their table', 'their column', id), or move the rule under transaction")
	}
	celast.PreOrderVisit(ast.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.StructKind:
			add(e, "an expression cannot create a "+e.AsStruct().TypeName()+": compare its columns one by one")
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
	noOverload   = regexp.MustCompile(`^found no matching overload for '([^']+)' applied to '(.*)'$`)
	undeclared   = regexp.MustCompile(`^undeclared reference to '(\w+)'`)
	rowVariables = []string{"new", "old", "data", "op", "id", "metadata", "lookup"}
)

// explain rewords a message of CEL for authors who do not know how CEL works.
func (s scope) explain(message, text string) string {
	const undefined = "undefined field '"
	if name, ok := strings.CutPrefix(message, undefined); ok {
		return message + s.suggestField(strings.TrimSuffix(name, "'"), text)
	}
	match := undeclared.FindStringSubmatch(message)
	if match != nil && s.table == nil && (slices.Contains(rowVariables, match[1]) || s.names.isLet(match[1])) {
		if s.function {
			return match[1] + " belongs to one operation: give the function a parameter for what it needs"
		}
		return match[1] + " belongs to one operation: a rule over whole transactions can use tx, auth, now and lookup"
	}
	if match != nil && match[1] == "each" {
		return "each belongs to a rule under transaction that has each: {table: column}"
	}
	if match := noOverload.FindStringSubmatch(message); match != nil {
		name := match[1]
		if operator, ok := operators.FindReverse(name); ok && operator != "" {
			name = operator
		}
		message = name + " cannot be applied to " + match[2]
		if d := s.names.functions[name]; d != nil {
			return message + ": it is " + d.parameters()
		}
		if strings.Contains(match[2], "timestamp") && strings.Contains(match[2], "string") {
			message += ": write a time as timestamp('2026-11-24T00:00:00Z')"
		}
		if strings.HasSuffix(match[2], ", null)") || strings.HasPrefix(match[2], "(null, ") {
			message += ": the value is not null where it exists, so leave this out. Whether there is a row says old == null"
		}
		return message
	}
	short, _, _ := strings.Cut(message, " expecting {")
	return strings.Replace(short, "mismatched input '<EOF>'", "the expression ends too early", 1)
}

// costs tells CEL's estimate how long texts and lists may be.
type costs struct{}

func (costs) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if slices.Equal(node.Path(), []string{"changed"}) {
		return &cost.SizeEstimate{Min: 0, Max: assumedChanges}
	}
	return &cost.SizeEstimate{Min: 0, Max: assumedSize}
}

func (costs) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// condition evaluates an expression that is true or false. unknown is what it counts as
// if it is null.
func (e *expression) condition(ctx context.Context, in *Input, unknown bool) (bool, error) {
	value, err := e.eval(ctx, in)
	if err != nil {
		return false, err
	}
	if orNull(value) == types.NullValue {
		return unknown, nil
	}
	result, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%s: gave a %s instead of a bool", e.text, value.Type().TypeName())
	}
	return bool(result), nil
}

// eval evaluates the expression. The result is CEL's unknown if a null decides it; see
// unknownIfNull. If the request has ended, the error is that of ctx, whatever the result:
// CEL's || treats an interrupted side as one that failed.
func (e *expression) eval(ctx context.Context, in *Input) (ref.Val, error) {
	for _, l := range e.lets {
		l.evaluate(ctx, in)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, err := e.run(ctx, e.program, in)
	if err != nil {
		return e.unknownOr(ctx, in, err)
	}
	return value, nil
}

// unknownOr is CEL's unknown if a null is the cause of an error, and otherwise the error.
func (e *expression) unknownOr(ctx context.Context, in *Input, err error) (ref.Val, error) {
	var failed *evalError
	if errors.As(err, &failed) {
		if value, _ := e.run(ctx, e.nulls, in); value != nil && types.IsUnknown(value) {
			return value, nil
		}
	}
	return nil, err
}

// run evaluates the expression by one of its programs.
func (e *expression) run(ctx context.Context, program cel.Program, in *Input) (ref.Val, error) {
	if !e.loops {
		value, _, err := program.Eval(in)
		if err != nil {
			return nil, &evalError{e.text, err}
		}
		return value, nil
	}
	if most := maxTransactionSteps + stepsPerOperation*uint64(len(in.Tx)); in.steps > most {
		return nil, fmt.Errorf("%s: the rules take more than %d steps for this transaction of %d operations", e.text, most, len(in.Tx))
	}
	value, details, err := program.ContextEval(ctx, in)
	if details != nil && details.ActualCost() != nil {
		in.steps += *details.ActualCost()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", e.text, err)
	}
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return nil, fmt.Errorf("%s: it takes more than %d steps for this transaction", e.text, maxSteps)
	}
	if err != nil {
		return nil, &evalError{e.text, err}
	}
	return value, nil
}
