package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
	"cel.dev/cel-go/parser"

	"github.com/goccy/go-yaml/ast"
)

// Coverage counts how often each condition of the policies was true, false or failed. A
// condition is a whole when or check, an operand of && and ||, or a part of ?:. Rules
// in Go and details are not counted. It is safe for concurrent use.
type Coverage struct {
	mu          sync.Mutex
	expressions map[string]*CoveredExpression // by place
}

// CoveredExpression is an expression with the results of its conditions.
type CoveredExpression struct {
	Of         string // what it belongs to: "tasks, rule open-list"
	Key        string // its key: check
	Conditions []*Condition

	at place
}

// Condition is a condition with the number of its results.
type Condition struct {
	Text  string
	Depth int  // 0 for the whole expression
	Value bool // it is a result of ?: that is not a condition: it need only be reached

	isTrue, isFalse, failed atomic.Int64 // a value counts as true
}

// WithCoverage counts the results of conditions. It must be called before the first
// use.
func (l *Live) WithCoverage() *Coverage {
	c := &Coverage{expressions: map[string]*CoveredExpression{}}
	for i := range l.source.files {
		l.source.files[i].coverage = c
	}
	return c
}

// Expressions lists what was counted, in the order of the files.
func (c *Coverage) Expressions() []*CoveredExpression {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*CoveredExpression, 0, len(c.expressions))
	for _, name := range sortedKeys(c.expressions) {
		list = append(list, c.expressions[name])
	}
	slices.SortStableFunc(list, func(a, b *CoveredExpression) int { return a.at.compare(b.at) })
	return list
}

// Position is file:line:column of the expression's key.
func (e *CoveredExpression) Position() string { return e.at.position() }

// Counts are how often the condition was true, was false, and failed.
func (c *Condition) Counts() (isTrue, isFalse, failed int64) {
	return c.isTrue.Load(), c.isFalse.Load(), c.failed.Load()
}

// Covered counts the results that a test should see, true and false, and those seen.
func (c *Condition) Covered() (seen, all int) {
	isTrue, isFalse, _ := c.Counts()
	if c.Value {
		return min(int(isTrue), 1), 1
	}
	return min(int(isTrue), 1) + min(int(isFalse), 1), 2
}

// Missed says what no test has seen; empty if nothing is missing.
func (c *Condition) Missed() string {
	isTrue, isFalse, failed := c.Counts()
	switch {
	case isTrue+isFalse+failed == 0:
		return "never reached"
	case c.Value && isTrue == 0, isTrue+isFalse == 0:
		return "always null or failed"
	case c.Value:
	case isTrue == 0:
		return "never true"
	case isFalse == 0:
		return "never false"
	}
	return ""
}

// Covered counts the results that tests should see, and those that they have seen.
func (c *Coverage) Covered() (seen, all int) {
	for _, e := range c.Expressions() {
		for _, condition := range e.Conditions {
			s, a := condition.Covered()
			seen, all = seen+s, all+a
		}
	}
	return seen, all
}

// watch returns the options with which a program counts the results of an expression's
// conditions; none if c is nil.
func (c *Coverage) watch(checked *celast.AST, at place) []cel.ProgramOption {
	if c == nil || slices.Contains(at.path, any("details")) {
		return nil
	}
	of, key := at.owner()
	covered := &CoveredExpression{Of: of, Key: key, at: at}
	watched := map[int64]*Condition{}
	add := func(e celast.Expr, depth int, condition bool) {
		if e.Kind() == celast.LiteralKind || watched[e.ID()] != nil || isOfLoop(e) {
			return
		}
		text := at.expression()
		if depth > 0 || text == "" {
			text = written(e, checked)
		}
		watched[e.ID()] = &Condition{Text: strings.Join(strings.Fields(text), " "), Depth: depth, Value: !condition}
		covered.Conditions = append(covered.Conditions, watched[e.ID()])
	}
	if key == "check" || key == "when" || checked.GetType(checked.Expr().ID()) == types.BoolType {
		add(checked.Expr(), 0, true)
	}
	branches(celast.NavigateAST(checked), 1, func(e celast.Expr, depth int, condition bool) {
		add(e, depth, condition || checked.GetType(e.ID()) == types.BoolType)
	})
	if len(covered.Conditions) > 0 {
		c.mu.Lock()
		c.expressions[covered.Position()+at.String()] = covered
		c.mu.Unlock()
	}
	return []cel.ProgramOption{cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		if condition := watched[i.ID()]; condition != nil {
			return &watchedCondition{i, condition}, nil
		}
		return i, nil
	})}
}

// written is a part of an expression as an author would write it.
func written(e celast.Expr, checked *celast.AST) string {
	text, err := parser.Unparse(e, checked.SourceInfo())
	if err != nil || strings.Contains(text, parser.HiddenAccumulatorName) {
		return "(a loop in a function)" // it was written elsewhere
	}
	text = strings.ReplaceAll(text, "dyn(null)", "null") // see readNulls
	if !strings.Contains(text, "'") {
		text = strings.ReplaceAll(text, `"`, "'")
	}
	return text
}

// isOfLoop reports whether an expression is no author's, but a part of what CEL makes of
// a loop.
func isOfLoop(e celast.Expr) bool {
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent() == parser.HiddenAccumulatorName
	case celast.CallKind:
		return slices.ContainsFunc(e.AsCall().Args(), isOfLoop)
	}
	return false
}

// branches finds the operands of && and ||, and the parts of ?:, which are conditions or
// values. A chain of && is one list of operands.
func branches(e celast.NavigableExpr, depth int, found func(e celast.Expr, depth int, condition bool)) {
	name := functionName(e)
	for i, part := range e.Children() {
		switch {
		case !isBranching(name), name != operators.Conditional && functionName(part) == name:
			branches(part, depth, found)
		default:
			found(part, depth, i == 0 || name != operators.Conditional)
			branches(part, depth+1, found)
		}
	}
}

func functionName(e celast.Expr) string {
	if e.Kind() != celast.CallKind {
		return ""
	}
	return e.AsCall().FunctionName()
}

func isBranching(function string) bool {
	return function == operators.LogicalAnd || function == operators.LogicalOr || function == operators.Conditional
}

// watchedCondition is a step of a program that counts its results.
type watchedCondition struct {
	interpreter.InterpretableV2
	condition *Condition
}

// Exec implements interpreter.InterpretableV2.
func (w *watchedCondition) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	value := w.InterpretableV2.Exec(frame)
	switch {
	case types.IsUnknownOrError(value):
		w.condition.failed.Add(1)
	case value == types.False && !w.condition.Value:
		w.condition.isFalse.Add(1)
	default:
		w.condition.isTrue.Add(1)
	}
	return value
}

// Eval implements interpreter.Interpretable.
func (w *watchedCondition) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, w.Exec)
}

// expression is the text of the expression at the place; empty if there is something else.
func (p place) expression() string {
	switch node := p.find(false).(type) {
	case *ast.StringNode:
		return node.Value
	case *ast.LiteralNode:
		return node.Value.Value
	}
	return ""
}

// owner says what an expression belongs to, and its key there: "tasks, rule clock" and
// "check".
func (p place) owner() (of, key string) {
	if at := slices.Index(p.path, any("rules")); at >= 0 && len(p.path) > at+2 {
		rule, key := p.path[:at+2], place{p.file, p.path[at+2:]}
		name, _ := place{p.file, rule}.in("name").find(false).(*ast.StringNode)
		if name != nil {
			of := fmt.Sprintf("%v, rule %s", p.path[at-1], name.Value)
			if p.observes(at) {
				of += ", which only observes"
			}
			return of, key.String()
		}
	}
	if p.path[0] == "tables" && len(p.path) > 2 {
		return fmt.Sprint(p.path[1]), place{p.file, p.path[2:]}.String()
	}
	return fmt.Sprint(p.path[0]), place{p.file, p.path[1:]}.String()
}

// compare orders places of different files by the file's name, and others by line.
func (p place) compare(q place) int {
	line, column := start(p.find(true))
	otherLine, otherColumn := start(q.find(true))
	return cmp.Or(cmp.Compare(p.file.path, q.file.path), cmp.Compare(line, otherLine), cmp.Compare(column, otherColumn))
}
