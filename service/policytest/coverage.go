package policytest

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/go-json-experiment/json"

	"postern/policies"
)

// coveragePercent is how many of the results that tests should see they have seen,
// rounded down. Policies without conditions are covered.
func coveragePercent(c *policies.Coverage) int {
	seen, all := c.Covered()
	if all == 0 {
		return 100
	}
	return 100 * seen / all
}

// CheckCoverage returns an error if tests have seen fewer results than a percentage.
func CheckCoverage(c *policies.Coverage, least int) error {
	if percent := coveragePercent(c); percent < least {
		return fmt.Errorf("the tests cover %d%% of the policies' conditions, less than %d%%: add tests for the conditions marked with <--", percent, least)
	}
	return nil
}

// CoverageText prints how often each condition was true, false or failed.
func CoverageText(out io.Writer, c *policies.Coverage) {
	of := ""
	for _, e := range c.Expressions() {
		if e.Of != of {
			of = e.Of
			fmt.Fprintf(out, "%s (%s)\n", of, e.Position())
		}
		for i, condition := range e.Conditions {
			label := ""
			if i == 0 {
				label = e.Key
			}
			missed := condition.Missed()
			if missed != "" {
				missed = "  <-- " + missed
			}
			text := cut([]byte(strings.Repeat("  ", condition.Depth) + condition.Text))
			fmt.Fprintf(out, "    %-8s %-60s  %s%s\n", label, text, counts(condition), missed)
		}
	}
	seen, all := c.Covered()
	fmt.Fprintf(out, "coverage: %d%%, %d of %d results\n", coveragePercent(c), seen, all)
}

func counts(c *policies.Condition) string {
	isTrue, isFalse, failed := c.Counts()
	text := fmt.Sprintf("true %d, false %d", isTrue, isFalse)
	if c.Value {
		text = fmt.Sprintf("reached %d", isTrue)
	}
	if failed > 0 {
		text += fmt.Sprintf(", null or failed %d", failed)
	}
	return text
}

//go:embed coverage.html
var coveragePage string

var coverageTemplate = template.Must(template.New("coverage").Funcs(template.FuncMap{
	"counts": counts,
	"indent": func(depth int) int { return 2 * depth },
	"first":  func(list []*policies.CoveredExpression, i int) bool { return i == 0 || list[i-1].Of != list[i].Of },
}).Parse(coveragePage))

// CoverageHTML prints the same as a page that needs no other file.
func CoverageHTML(out io.Writer, c *policies.Coverage) error {
	seen, all := c.Covered()
	return coverageTemplate.Execute(out, map[string]any{"Percent": coveragePercent(c), "Seen": seen, "All": all, "Expressions": c.Expressions()})
}

// CoverageReport is the coverage of the policies with a hash, for the console.
type CoverageReport struct {
	SHA256      string               `json:"sha256"`
	Percent     int                  `json:"percent"`
	Seen        int                  `json:"seen"` // results
	All         int                  `json:"all"`
	Expressions []ExpressionCoverage `json:"expressions"`
}

// ExpressionCoverage is that of one expression.
type ExpressionCoverage struct {
	Of         string              `json:"of"`
	Position   string              `json:"position"`
	Key        string              `json:"key"`
	Conditions []ConditionCoverage `json:"conditions"`
}

// ConditionCoverage is how often a condition was true, false or failed, in words.
type ConditionCoverage struct {
	Text    string `json:"text"`
	Depth   int    `json:"depth"`
	Results string `json:"results"`
	Missed  string `json:"missed,omitzero"`
}

// CoverageJSON prints the same as a CoverageReport.
func CoverageJSON(out io.Writer, c *policies.Coverage, sha256 string) error {
	seen, all := c.Covered()
	report := CoverageReport{SHA256: sha256, Percent: coveragePercent(c), Seen: seen, All: all}
	for _, e := range c.Expressions() {
		expression := ExpressionCoverage{Of: e.Of, Position: e.Position(), Key: e.Key}
		for _, condition := range e.Conditions {
			expression.Conditions = append(expression.Conditions, ConditionCoverage{condition.Text, condition.Depth, counts(condition), condition.Missed()})
		}
		report.Expressions = append(report.Expressions, expression)
	}
	return json.MarshalWrite(out, report)
}
