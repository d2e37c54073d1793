package policytest

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

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
		text += fmt.Sprintf(", failed %d", failed)
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
