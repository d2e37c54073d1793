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

// mistakes finds values in an expression that would make it fail, or that its column does
// not have: durations, time zones, and an enum's labels.
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
			s.labels(call.Args()[0], call.Args()[1], call.FunctionName() == operators.In, add)
			s.labels(call.Args()[1], call.Args()[0], false, add)
		}
	}))
	return errors.Join(problems...)
}

func isZone(name string) bool {
	if strings.Contains(name, ":") {
		return zoneOffset.MatchString(name)
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// labels checks the texts that an enum's column is compared with. Lists are compared
// element by element, or if in is true, with each element of the other.
func (s scope) labels(column, with celast.Expr, in bool, add func(e celast.Expr, format string, args ...any)) {
	switch {
	case in && with.Kind() == celast.ListKind:
		for _, element := range with.AsList().Elements() {
			s.labels(column, element, false, add)
		}
	case in:
	case column.Kind() == celast.ListKind && with.Kind() == celast.ListKind:
		for i, element := range column.AsList().Elements() {
			if i < len(with.AsList().Elements()) {
				s.labels(element, with.AsList().Elements()[i], false, add)
			}
		}
	default:
		c := s.columnOf(column)
		label, ok := textOf(with)
		if c != nil && ok && c.Type.Kind == catalog.Enum && !slices.Contains(c.Type.Labels, label) {
			add(with, "%s is never %q, but one of %s%s", c.Name, label, strings.Join(c.Type.Labels, ", "), didYouMean(label, c.Type.Labels))
		}
	}
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
