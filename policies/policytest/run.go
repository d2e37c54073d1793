package policytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/upload"
)

// run runs one test.
func (s *suite) run(ctx context.Context, t *test, set *policies.Set, snapshot *catalog.Snapshot) (result Result) {
	started := time.Now()
	result = Result{Name: t.Name, Line: t.line}
	defer func() { result.Took = time.Since(started) }()
	fail := func(format string, args ...any) {
		result.Failures = append(result.Failures, fmt.Sprintf(format, args...))
	}
	offline := apply.NewOffline(set, snapshot)
	if err := s.give(offline, t); err != nil {
		fail("%v", err)
		return result
	}
	who, err := s.Users[t.As].identity()
	if err != nil {
		fail("user %s: %v", t.As, err)
		return result
	}
	transaction, err := t.transaction()
	if err != nil {
		fail("operations: %v", err)
		return result
	}
	now, err := policies.ParseMoment(s.clock(*t))
	if err != nil {
		fail("now: %v", err)
		return result
	}
	ctx = policies.WithTrace(ctx, func(said policies.TraceEntry) { result.Said = append(result.Said, said) })
	decision, err := offline.Decide(ctx, who, now, transaction)
	if decision != nil {
		result.Notes, result.Effects = decision.Notes, decision.Effects
	}
	var undecidable *apply.Undecidable
	switch {
	case errors.As(err, &undecidable):
		result.Outcome = err.Error()
		fail("%v", err)
		return result
	case err != nil:
		result.Outcome = "a rule failed: " + err.Error()
		fail("a rule failed, and the client would try again: %v", err)
		return result
	}
	result.Outcome = Outcome(decision.Rejection)
	result.Failures = append(result.Failures, t.Expect.differences(decision.Rejection)...)
	if len(result.Failures) == 0 {
		result.Failures = t.Expect.rowDifferences(offline)
	}
	return result
}

// Give gives an Offline of a set what a file has under rows, defaults and lookups, spelled
// as in tests.
func Give(offline *apply.Offline, set *policies.Set, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var given struct {
		Rows     rows                      `yaml:"rows"`
		Defaults map[string]map[string]any `yaml:"defaults"`
		Lookups  map[string]any            `yaml:"lookups"`
	}
	if _, err := policies.Decode(path, content, &given); err != nil {
		return err
	}
	for _, name := range sortedKeys(given.Lookups) {
		if err := set.KnowsLookup(name); err != nil {
			return fmt.Errorf("%s: lookups: %w", path, err)
		}
	}
	s := suite{Rows: given.Rows, Defaults: given.Defaults}
	if err := s.give(offline, &test{Lookups: given.Lookups}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// give gives a test its rows, defaults and lookups.
func (s *suite) give(offline *apply.Offline, t *test) error {
	for _, table := range sortedKeys(s.Defaults) {
		columns, err := members(s.Defaults[table])
		if err == nil {
			err = offline.Default(table, columns)
		}
		if err != nil {
			return err
		}
	}
	for _, given := range []rows{s.Rows, t.Rows} {
		for _, table := range sortedKeys(given) {
			for _, id := range sortedKeys(given[table]) {
				if _, instead := t.Rows[table][id]; instead && t.Rows[table][id] == nil {
					continue
				}
				columns, err := members(given[table][id])
				if err == nil {
					err = offline.Row(table, id, columns)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	for name, row := range t.Lookups {
		result, err := spell(row)
		if err != nil {
			return fmt.Errorf("lookup %s: %w", name, err)
		}
		offline.Lookup(name, result)
	}
	return nil
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
func (e *expectation) rowDifferences(offline *apply.Offline) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, table := range sortedKeys(e.Rows) {
		for _, id := range sortedKeys(e.Rows[table]) {
			columns := e.Rows[table][id]
			_, _, there, err := offline.Stored(table, id)
			switch {
			case err != nil:
				add("%v", err)
			case columns == nil && there:
				add("expected no row %q of %s, but it is there", id, table)
			case columns != nil && !there:
				add("expected row %q of %s, but it is not there", id, table)
			}
			if err != nil || !there {
				continue
			}
			for _, column := range sortedKeys(columns) {
				want, err := spell(columns[column])
				why := ""
				if err == nil {
					why, err = offline.Holds(table, id, column, want)
				}
				if err != nil {
					why = err.Error()
				}
				if why != "" {
					add("expected %s.%s of row %q to be %s: %s", table, column, id, want, why)
				}
			}
		}
	}
	return list
}
