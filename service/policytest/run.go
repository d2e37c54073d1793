package policytest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/upload"
)

// run runs one test, in a database transaction of its own. The error says why it could
// not be run.
func (s *suite) run(ctx context.Context, db *Database, live *policies.Live, t *test) (result Result, err error) {
	started := time.Now()
	result = Result{Name: t.Name, Line: t.line}
	defer func() { result.Took = time.Since(started) }()
	fail := func(format string, args ...any) {
		result.Failures = append(result.Failures, fmt.Sprintf(format, args...))
	}
	session, err := db.begin(ctx, live)
	if err != nil {
		return result, err
	}
	defer session.close(ctx)
	if err := session.give(ctx, s.rowsOf(t)); err != nil {
		fail("%v", err)
		return result, nil
	}
	who, err := s.Users[t.As].identity()
	if err != nil {
		fail("user %s: %v", t.As, err)
		return result, nil
	}
	transaction, err := t.transaction()
	if err != nil {
		fail("operations: %v", err)
		return result, nil
	}
	now, err := policies.ParseMoment(s.clock(*t))
	if err != nil {
		fail("now: %v", err)
		return result, nil
	}
	traced := policies.WithTrace(ctx, func(entry policies.TraceEntry) { result.Trace = append(result.Trace, entry) })
	effects, rejection, err := session.rehearse(traced, who, now, transaction)
	result.Effects, result.Trace = effects, latest(result.Trace)
	if err != nil {
		result.Outcome = "the client would try again: " + err.Error()
		fail("expected %s, but the client would try again: %v", t.Expect.Outcome, err)
		return result, nil
	}
	result.Outcome = Outcome(rejection)
	result.Failures = append(result.Failures, t.Expect.differences(rejection)...)
	if len(result.Failures) == 0 {
		result.Failures, err = t.Expect.rowDifferences(ctx, session)
	}
	return result, err
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
			add("expected details %s, but they are %s", want, got)
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
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, table := range sortedKeys(e.Rows) {
		for _, id := range sortedKeys(e.Rows[table]) {
			columns := e.Rows[table][id]
			want, err := members(columns)
			if err != nil {
				return nil, err
			}
			row, differing, err := s.stored(ctx, table, id, want)
			switch {
			case err != nil:
				add("expected row %q of %s: %v", id, table, err)
			case columns == nil && row != nil:
				add("expected no row %q of %s, but it is there", id, table)
			case columns != nil && row == nil:
				add("expected row %q of %s, but it is not there", id, table)
			case len(differing) > 0:
				add("expected row %q of %s to have %s", id, table, difference(want, row, differing))
			}
		}
	}
	return list, nil
}

// difference lists the columns that hold another value than the wanted one.
func difference(want []upload.Member, row jsontext.Value, differing []string) string {
	var now map[string]jsontext.Value
	_ = json.Unmarshal(row, &now) // Postgres made it
	var list []string
	for _, column := range differing {
		wanted := jsontext.Value("another value")
		for _, m := range want {
			if m.Name == column {
				wanted = m.Value
			}
		}
		list = append(list, fmt.Sprintf("%s = %s, but it is %s", column, wanted, now[column]))
	}
	return strings.Join(list, "; ")
}
