package policytest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/apply"
	"postern/service/plan"
)

// Text prints a report for people, as go test does: failures, and a line for each
// file; with verbose every test, and the result of each rule. With colour, what was
// expected is red and what is there instead is green.
func (r *Report) Text(out io.Writer, verbose, colour bool) {
	for _, f := range r.Files {
		failed := false
		for _, result := range f.Results {
			failed = failed || len(result.Failures) > 0
			result.text(out, f.Path, verbose, colour)
		}
		state := "ok  "
		if failed {
			state = "FAIL"
		}
		fmt.Fprintf(out, "%s\t%s\t%d tests\t%s\n", state, f.Path, len(f.Results), f.Took.Round(time.Millisecond))
	}
}

func (r *Result) text(out io.Writer, path string, verbose, colour bool) {
	state := "PASS"
	if len(r.Failures) > 0 {
		state = "FAIL"
	} else if !verbose {
		return
	}
	fmt.Fprintf(out, "--- %s: %s (%s)\n", state, r.Name, r.Took.Round(10*time.Microsecond))
	for _, failure := range r.Failures {
		first, more, several := strings.Cut(failure, "\n")
		fmt.Fprintf(out, "    %s:%d: %s\n", path, r.Line, first)
		if several {
			compared(out, more, colour)
		}
	}
	for i, step := range r.Steps {
		if len(r.Steps) > 1 {
			fmt.Fprintf(out, "    step %d\n", i+1)
		}
		if verbose {
			fmt.Fprintf(out, "    outcome: %s\n", step.Outcome)
		}
		if verbose || len(r.Failures) > 0 {
			Rules(out, step.Trace)
			Effects(out, step.Effects)
		}
	}
}

// compared prints the lines of a comparison.
func compared(out io.Writer, lines string, colour bool) {
	const red, green, plain = "\x1b[31m", "\x1b[32m", "\x1b[0m"
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case colour && strings.HasPrefix(line, "-"):
			line = red + line + plain
		case colour && strings.HasPrefix(line, "+"):
			line = green + line + plain
		}
		fmt.Fprintf(out, "        %s\n", line)
	}
}

// Effects prints what each operation did to its row.
func Effects(out io.Writer, effects []apply.Effect) {
	for _, e := range effects {
		text := string(e.Did)
		var before, after map[string]jsontext.Value
		_ = json.Unmarshal(e.Before, &before) // Postgres made them; nil is an empty map
		_ = json.Unmarshal(e.After, &after)
		var changes []string
		for _, column := range e.Changed() {
			changes = append(changes, fmt.Sprintf("%s %s -> %s", column, cut(before[column]), cut(after[column])))
		}
		if len(changes) > 0 {
			text += ": " + strings.Join(changes, ", ")
		}
		for _, column := range e.Kept {
			text += fmt.Sprintf("; %s is not what was sent%s: it is %s", column, resolution(e.Resolved, column), cut(after[column]))
		}
		fmt.Fprintf(out, "    operation %d: %s\n", e.Operation, text)
	}
}

// resolution says what a conflict strategy did with a column.
func resolution(resolved []plan.Resolution, column string) string {
	for _, r := range resolved {
		switch {
		case r.Column != column:
		case r.Merged:
			return ", merged by " + string(r.Strategy)
		default:
			return ", dropped by " + string(r.Strategy)
		}
	}
	return ""
}

// cut shortens a value for one line.
func cut(value jsontext.Value) string {
	const most = 100
	if runes := []rune(string(value)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(value)
}

// Rules prints the result of each rule.
func Rules(out io.Writer, entries []policies.TraceEntry) {
	for _, e := range entries {
		where := fmt.Sprintf("operation %d", e.Operation)
		if e.Operation < 0 {
			where = "transaction"
		}
		if e.Result == policies.Assigned {
			fmt.Fprintf(out, "    %s: sets %s = %s (%s)\n", where, e.Rule, e.Detail, e.Position)
			continue
		}
		if e.Result == policies.Kept {
			fmt.Fprintf(out, "    %s: does not set %s, its when is false (%s)\n", where, e.Rule, e.Position)
			continue
		}
		detail := e.Detail
		if detail != "" {
			detail = ": " + detail
		}
		result := ruleResults[e.Result]
		if e.Observed && (e.Result == policies.Rejected || e.Result == policies.Errored) {
			result += ", but only observes"
		}
		fmt.Fprintf(out, "    %s: rule %s %s%s (%s)\n", where, e.Rule, result, detail, e.Position)
	}
}

var ruleResults = map[policies.RuleResult]string{
	policies.Passed: "passed", policies.Rejected: "REJECTED", policies.Skipped: "skipped, its when is false", policies.Errored: "FAILED to evaluate",
}

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit prints a report in JUnit's XML, which CI systems read.
func (r *Report) JUnit(out io.Writer) error {
	suites := junitSuites{Tests: r.Count(), Failures: r.Failed()}
	for _, f := range r.Files {
		suite := junitSuite{Name: f.Path, Tests: len(f.Results), Time: seconds(f.Took)}
		for _, result := range f.Results {
			c := junitCase{Name: result.Name, Class: f.Path, File: f.Path, Line: result.Line, Time: seconds(result.Took)}
			if len(result.Failures) > 0 {
				suite.Failures++
				first, _, _ := strings.Cut(result.Failures[0], "\n")
				c.Failure = &junitFailure{first, strings.Join(result.Failures, "\n")}
			}
			suite.Cases = append(suite.Cases, c)
		}
		suites.Suites = append(suites.Suites, suite)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(suites); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
