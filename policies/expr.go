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
	"cel.dev/cel-go/interpreter"
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

// expression is a CEL expression that was checked, and what it looks at.
type expression struct {
	program cel.Program
	text    string
	needs   needs
	output  *types.Type
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
