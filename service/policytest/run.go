package policytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/upload"
)

// run runs one test, in a database transaction of its own. The error says why it could
// not be run.
func (s *suite) run(ctx context.Context, db *Database, live *policies.Live, i int) (result Result, err error) {
	t, started := &s.Tests[i], time.Now()
	result = Result{Name: t.Name, Line: t.line}
	defer func() { result.Took = time.Since(started) }()
	session, err := db.begin(ctx, live)
	if err != nil {
		return result, err
	}
	defer session.close(ctx)
	if err := session.give(ctx, s.rowsOf(t)); err != nil {
		result.Failures = append(result.Failures, err.Error())
		return result, nil
	}
	steps := s.steps(i)
	for n := range steps {
		done, failures, err := s.step(ctx, session, &steps[n])
		if err != nil {
			return result, err
		}
		result.Steps = append(result.Steps, done)
		for _, failure := range failures {
			result.Failures = append(result.Failures, inSteps(steps, n, failure))
		}
		if len(failures) > 0 { // what follows builds on it
			break
		}
	}
	return result, nil
}

// step makes one transaction of a test and compares its outcome.
func (s *suite) step(ctx context.Context, session *session, t *step) (done Step, failures []string, err error) {
	fail := func(format string, args ...any) (Step, []string, error) {
		return done, append(failures, fmt.Sprintf(format, args...)), nil
	}
	who, err := s.Users[t.As].identity()
	if err != nil {
		return fail("user %s: %v", t.As, err)
	}
	transaction, err := t.transaction()
	if err != nil {
		return fail("operations: %v", err)
	}
	now, err := policies.ParseMoment(t.Now)
	if err != nil {
		return fail("now: %v", err)
	}
	traced := policies.WithTrace(ctx, func(entry policies.TraceEntry) { done.Trace = append(done.Trace, entry) })
	effects, rejection, err := session.rehearse(traced, who, now, transaction)
	done.Effects, done.Trace = effects, latest(done.Trace)
	if err != nil {
		done.Outcome = "the client would try again: " + err.Error()
		return fail("expected %s, but the client would try again: %v", t.Expect.Outcome, err)
	}
	done.Outcome = Outcome(rejection)
	failures = append(t.Expect.differences(rejection), t.Expect.observedDifferences(done.Trace)...)
	if len(failures) == 0 {
		failures, err = t.Expect.rowDifferences(ctx, session)
	}
	return done, failures, err
}

// observedDifferences are what is not as expected of the rules that only observe. As with
// the others, none may fail to evaluate.
func (e *expectation) observedDifferences(trace []policies.TraceEntry) (list []string) {
	var observed []string
	for _, entry := range trace {
		switch {
		case !entry.Observed:
		case entry.Result == policies.Errored:
			list = append(list, fmt.Sprintf("rule %s, which only observes, failed to evaluate: %s", entry.Rule, entry.Detail))
		case entry.Result == policies.Rejected && !slices.Contains(observed, entry.Rule):
			observed = append(observed, entry.Rule)
		}
	}
	slices.Sort(observed)
	if want := slices.Compact(slices.Sorted(slices.Values(e.Observed))); e.Observed != nil && !slices.Equal(want, observed) {
		list = append(list, fmt.Sprintf("expected observed: [%s], but it is [%s]", strings.Join(want, ", "), strings.Join(observed, ", ")))
	}
	return list
}

// rowsOf are the rows that are there before a test.
func (s *suite) rowsOf(t *test) rows {
	given := rows{}
	for _, from := range []rows{s.Rows, t.Rows} {
		for table, rows := range from {
			if given[table] == nil {
				given[table] = map[string]map[string]any{}
			}
			maps.Copy(given[table], rows)
		}
	}
	return given
}

// Outcome is a rejection in one line; nil is accepted.
func Outcome(r *upload.Rejection) string {
	if r == nil {
		return accepted
	}
	text := fmt.Sprintf("%s: %s", r.Code, r.Message)
	if reason := r.Reason(); reason != "" {
		text += ": " + reason
	}
	if r.Operation >= 0 {
		text += fmt.Sprintf(" (operation %d", r.Operation)
	} else {
		text += " (the whole transaction"
	}
	if r.Rule != "" {
		text += ", rule " + r.Rule
	}
	return text + ")"
}

// differences are what is not as expected.
func (e *expectation) differences(r *upload.Rejection) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if r == nil {
		if e.Outcome != accepted {
			add("expected %s, but it is accepted", e.Outcome)
		}
		return list
	}
	if e.Outcome != string(r.Code) {
		return append(list, fmt.Sprintf("expected %s, but it is %s", e.Outcome, Outcome(r)))
	}
	if e.Operation != nil && *e.Operation != r.Operation {
		add("expected operation %d to be at fault, but it is %d", *e.Operation, r.Operation)
	}
	if e.Rule != nil && *e.Rule != r.Rule {
		add("expected rule %q to say no, but it is %q", *e.Rule, r.Rule)
	}
	if e.Message != nil && *e.Message != r.Message {
		add("expected message %q, but it is %q", *e.Message, r.Message)
	}
	if e.Client != nil && *e.Client != r.ClientHandling {
		add("expected client: %v, but it is %v", *e.Client, r.ClientHandling)
	}
	if e.Details != nil {
		want, err := spell(e.Details)
		got, gotErr := json.Marshal(r.Details, json.Deterministic(true))
		if err != nil || gotErr != nil || canonical(want) != canonical(got) {
			add("the details are not as expected\n- %s\n+ %s", want, got)
		}
	}
	return list
}

func canonical(v jsontext.Value) string {
	clone := v.Clone()
	if clone.Canonicalize() != nil {
		return string(v)
	}
	return string(clone)
}

// rowDifferences are the rows that are not as expected afterwards.
func (e *expectation) rowDifferences(ctx context.Context, s *session) (list []string, err error) {
	for _, table := range sortedKeys(e.Rows) {
		for _, id := range sortedKeys(e.Rows[table]) {
			columns := e.Rows[table][id]
			want, err := members(columns)
			if err != nil {
				return nil, err
			}
			row, differing, err := s.stored(ctx, table, id, want)
			name := fmt.Sprintf("row %q of %s", id, table)
			switch {
			case err != nil:
				list = append(list, fmt.Sprintf("expected %s: %v", name, err))
			case columns == nil && row != nil:
				list = append(list, fmt.Sprintf("expected no %s, but it is there%s", name, difference(nil, row, nil)))
			case columns != nil && row == nil:
				list = append(list, fmt.Sprintf("expected %s, but it is not there%s", name, difference(want, nil, nil)))
			case len(differing) > 0:
				list = append(list, fmt.Sprintf("%s is not as expected%s", name, difference(want, row, differing)))
			}
		}
	}
	return list, nil
}

// difference shows the wanted columns of a row and what they are now, a line each:
// with - what was expected, with + what is there, and without a sign what is both.
func difference(want []upload.Member, row jsontext.Value, differing []string) string {
	var now map[string]jsontext.Value
	_ = json.Unmarshal(row, &now) // Postgres made it; nil is an empty map
	var out strings.Builder
	line := func(sign, column string, value jsontext.Value) {
		fmt.Fprintf(&out, "\n%s %s: %s", sign, column, cut(value))
	}
	for _, m := range want {
		switch {
		case row == nil:
			line("-", m.Name, m.Value)
		case slices.Contains(differing, m.Name):
			line("-", m.Name, m.Value)
			line("+", m.Name, now[m.Name])
		default:
			line(" ", m.Name, m.Value)
		}
	}
	if want == nil {
		for _, column := range sortedKeys(now) {
			line("+", column, now[column])
		}
	}
	return out.String()
}
