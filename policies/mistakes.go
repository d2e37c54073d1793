package policies

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"postern/service/catalog"
)

// readDays writes out days in the durations of an expression, such as duration('3d'), which
// CEL does not know.
func readDays(root celast.Expr) {
	literals := celast.NewExprFactory()
	celast.PreOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		if literal, ok := onlyText(e, "duration"); ok {
			if d, err := parseDuration(literal); err == nil {
				arg := e.AsCall().Args()[0]
				arg.SetKindCase(literals.NewLiteral(arg.ID(), types.String(d.String())))
			}
		}
	}))
}

// readNulls lets a choice be null, as in new.done ? auth.sub : null. For CEL's checker, null
// and a text have nothing in common.
func readNulls(parsed *celast.AST) {
	factory, next := celast.NewExprFactory(), celast.MaxID(parsed)
	celast.PreOrderVisit(parsed.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if functionName(e) != operators.Conditional {
			return
		}
		for _, arg := range e.AsCall().Args()[1:] {
			if isNull(arg) {
				next++
				at, _ := parsed.SourceInfo().GetOffsetRange(arg.ID())
				parsed.SourceInfo().SetOffsetRange(next, at)
				arg.SetKindCase(factory.NewCall(arg.ID(), "dyn", factory.NewLiteral(next, types.NullValue)))
			}
		}
	}))
}

// explainAll words the mistakes that CEL finds. After one of syntax, the others may follow
// from it.
func (s scope) explainAll(issues *cel.Issues, text string, at place) error {
	var problems []error
	for _, found := range issues.Errors() {
		problems = append(problems, at.expressionProblem(text, found.Location.Line(), found.Location.Column()+1, s.explain(found.Message, text)))
		if strings.HasPrefix(found.Message, "Syntax error") {
			break
		}
	}
	return errors.Join(problems...)
}

var days = regexp.MustCompile(`^([+-]?)(\d+(?:\.\d+)?)d(.*)$`)

// parseDuration reads a duration as Go writes it, with days of 24 hours before it: 3d,
// 1d12h, 30s.
func parseDuration(text string) (time.Duration, error) {
	match := days.FindStringSubmatch(text)
	if match == nil {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseFloat(match[2], 64)
	if err != nil {
		return 0, err
	}
	rest := time.Duration(0)
	if match[3] != "" {
		if rest, err = time.ParseDuration(match[1] + match[3]); err != nil {
			return 0, err
		}
	}
	hours, err := time.ParseDuration(match[1] + strconv.FormatFloat(24*n, 'f', -1, 64) + "h")
	return hours + rest, err
}

// onlyText returns the text with which a function is called; ok is false if it is not
// called with a text alone.
func onlyText(e celast.Expr, function string) (text string, ok bool) {
	if functionName(e) != function || len(e.AsCall().Args()) != 1 {
		return "", false
	}
	return textOf(e.AsCall().Args()[0])
}

func textOf(e celast.Expr) (text string, ok bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	literal, ok := e.AsLiteral().(types.String)
	return string(literal), ok
}

// clockFunctions are the functions of a timestamp that take a time zone.
var clockFunctions = []string{"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds"}

var zoneOffset = regexp.MustCompile(`^[+-]?([01]?\d|2[0-3]):[0-5]\d$`)

// mistakes finds values in an expression that would make it fail, or that its column cannot
// have: durations, time zones, what columns are compared with, and columns in changed.
func (s scope) mistakes(checked *celast.AST, text string, at place) error {
	var problems []error
	add := func(e celast.Expr, format string, args ...any) {
		start := checked.SourceInfo().GetStartLocation(e.ID())
		problems = append(problems, at.expressionProblem(text, start.Line(), start.Column()+1, fmt.Sprintf(format, args...)))
	}
	celast.PreOrderVisit(checked.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() != celast.CallKind {
			return
		}
		call := e.AsCall()
		if literal, ok := onlyText(e, "duration"); ok {
			if _, err := parseDuration(literal); err != nil {
				add(call.Args()[0], "%q is not a duration: write one like 30s, 12h or 3d", literal)
			}
		}
		if slices.Contains(clockFunctions, call.FunctionName()) && len(call.Args()) == 1 {
			if zone, ok := textOf(call.Args()[0]); ok && !isZone(zone) {
				add(call.Args()[0], "there is no time zone %q: write one like Europe/Berlin, or an offset like +02:00", zone)
			}
		}
		if slices.Contains([]string{operators.Equals, operators.NotEquals, operators.In}, call.FunctionName()) {
			s.values(checked, call.Args()[0], call.Args()[1], call.FunctionName() == operators.In, add)
			s.values(checked, call.Args()[1], call.Args()[0], false, add)
		}
		s.changedColumns(e, add)
	}))
	return errors.Join(problems...)
}

// changedColumns checks the columns that are looked for in changed.
func (s scope) changedColumns(e celast.Expr, add func(e celast.Expr, format string, args ...any)) {
	var names []celast.Expr
	switch call := e.AsCall(); {
	case call.FunctionName() == "hasOnly" && isVariable(call.Target(), "changed"):
		names = elements(call.Args()[0])
	case call.FunctionName() == operators.In && isVariable(call.Args()[1], "changed"):
		names = call.Args()[:1]
	}
	for _, name := range names {
		if column, ok := textOf(name); ok && s.table != nil && s.table.Column(column) == nil {
			add(name, "%s has no column %q%s", s.table, column, didYouMean(column, columnNames(s.table)))
		}
	}
}

func isZone(name string) bool {
	if strings.Contains(name, ":") {
		return zoneOffset.MatchString(name)
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// values checks the constants that a column is compared with. Lists are compared element by
// element, or if in is true, with each element of the other.
func (s scope) values(checked *celast.AST, column, with celast.Expr, in bool, add func(e celast.Expr, format string, args ...any)) {
	switch c, constant := s.columnOf(column), constantIn(checked, with); {
	case in && with.Kind() == celast.ListKind:
		for _, element := range with.AsList().Elements() {
			s.values(checked, column, element, false, add)
		}
	case in:
		if list, ok := constant.(traits.Lister); ok && c != nil {
			for i := range list.Size().(types.Int) {
				s.value(c, list.Get(i), with, add)
			}
		}
	case column.Kind() == celast.ListKind && with.Kind() == celast.ListKind:
		for i, element := range column.AsList().Elements() {
			if i < len(with.AsList().Elements()) {
				s.values(checked, element, with.AsList().Elements()[i], false, add)
			}
		}
	case c != nil && constant != nil:
		s.value(c, constant, with, add)
	}
}

// value checks a constant that a column is compared with: whether the column can have it.
func (s scope) value(c *catalog.Column, constant ref.Val, with celast.Expr, add func(e celast.Expr, format string, args ...any)) {
	switch label, isText := constant.(types.String); {
	case c.Type.Kind == catalog.Enum && isText:
		if !slices.Contains(c.Type.Labels, string(label)) {
			add(with, "%s is never %q, but one of %s%s", c.Name, label, strings.Join(c.Type.Labels, ", "), didYouMean(string(label), c.Type.Labels))
		}
	case c.Type.Kind != catalog.Base || slices.Contains([]string{"json", "jsonb", "bytea"}, c.Type.Name): // a client sends these as another text
	default:
		if err := fits(s.table, c, constant); err != nil {
			add(with, "%v", err)
		}
	}
}

// constantIn is the value of a constant: a literal, or a param; nil if it is none.
func constantIn(checked *celast.AST, e celast.Expr) ref.Val {
	switch e.Kind() {
	case celast.LiteralKind:
		return e.AsLiteral()
	case celast.IdentKind:
		if of := checked.ReferenceMap()[e.ID()]; of != nil {
			return of.Value
		}
	}
	return nil
}

// columnOf returns the column that an expression is: new.state, old.state or data.state;
// nil if it is none.
func (s scope) columnOf(e celast.Expr) *catalog.Column {
	if s.table == nil || e.Kind() != celast.SelectKind || e.AsSelect().IsTestOnly() {
		return nil
	}
	operand := e.AsSelect().Operand()
	if !isVariable(operand, "new") && !isVariable(operand, "old") && !isVariable(operand, "data") {
		return nil
	}
	return s.table.Column(e.AsSelect().FieldName())
}

// usualNames are what authors call fields of auth elsewhere.
var usualNames = map[string]string{
	"uid": "sub", "id": "sub", "user": "sub", "user_id": "sub", "userid": "sub", "subject": "sub", "iss": "issuer", "session": "session_id",
	"jwt": "claims", "token": "claims", "email": "claims.email", "app_metadata": "claims.app_metadata", "user_metadata": "claims.user_metadata",
}

// suggestField suggests a field in the place of one that does not exist, by what it was
// asked of.
func (s scope) suggestField(name, text string) string {
	of := regexp.MustCompile(`(\w+)\s*\.\s*` + regexp.QuoteMeta(name) + `\b`).FindStringSubmatch(text)
	switch {
	case of != nil && of[1] == "auth":
		if usual := usualNames[strings.ToLower(name)]; usual != "" {
			return `: did you mean "auth.` + usual + `"?`
		}
		return didYouMean(name, sortedKeys(authFields))
	case of != nil && s.table != nil && slices.Contains([]string{"new", "old", "data"}, of[1]):
		return didYouMean(name, columnNames(s.table))
	}
	return didYouMean(name, sortedKeys(operationFields))
}
