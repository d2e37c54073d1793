package policytest

import (
	"fmt"
	"slices"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// names are what tests may name.
type names struct {
	codes, rules []string
	anyCode      bool // rules in Go may have codes that are not known
	set          *policies.Set
	tables       *catalog.Snapshot
}

func namesOf(live *policies.Live, tables *catalog.Snapshot) (*names, error) {
	set, err := live.For(tables)
	if err != nil {
		return nil, err
	}
	n := &names{codes: live.Codes(), rules: live.RuleNames(), anyCode: live.HasCode(), set: set, tables: tables}
	for _, code := range upload.Codes {
		n.codes = append(n.codes, string(code))
	}
	return n, nil
}

// validation finds what is wrong with a test file before its tests run.
type validation struct {
	*suite
	document *policies.Document
	names    *names
	problems []error
}

func (v *validation) add(path []any, format string, args ...any) {
	v.problems = append(v.problems, v.document.Problem(false, path, format, args...))
}

// addKey is add for a problem of the key itself.
func (v *validation) addKey(path []any, format string, args ...any) {
	v.problems = append(v.problems, v.document.Problem(true, path, format, args...))
}

func in(path []any, more ...any) []any { return slices.Concat(path, more) }

func (v *validation) validate() {
	if len(v.Tests) == 0 && len(v.problems) == 0 {
		v.add(nil, "tests are missing")
	}
	if v.Defaults != nil {
		v.addKey([]any{"defaults"}, "defaults: the schema has them: leave this out")
	}
	v.rows(v.Rows, []any{"rows"})
	seen := map[string]bool{}
	for i := range v.Tests {
		t, path := &v.Tests[i], []any{"tests", i}
		if t.Name == "" || seen[t.Name] {
			v.add(in(path, "name"), "a test needs a name of its own")
		}
		seen[t.Name] = true
		if t.Lookups != nil {
			v.addKey(in(path, "lookups"), "lookups: lookups read the given rows: write those that the query finds under rows")
		}
		if t.Steps != nil && (t.Operations != nil || t.Expect.Outcome != "") {
			v.addKey(in(path, "steps"), "steps: each step has its own operations and expect: move those of the test into a step")
		}
		v.rows(t.Rows, in(path, "rows"))
		for _, s := range v.steps(i) {
			v.step(&s)
		}
	}
}

func (v *validation) step(s *step) {
	if _, known := v.Users[s.As]; !known {
		v.add(in(s.path, "as"), "as: %q is none of the file's users%s", s.As, policies.DidYouMean(s.As, sortedKeys(v.Users)))
	}
	switch {
	case s.Now == "":
		v.add(s.path, "now is missing, in the file or the test: a test must not depend on the clock")
	case !isTime(s.Now):
		v.add(in(s.path, "now"), "now: %q is no time: write one like 2026-11-24T12:00:00Z", s.Now)
	}
	if len(s.Operations) == 0 {
		v.add(s.path, "operations are missing")
	}
	for i, op := range s.Operations {
		if !slices.Contains([]string{"PUT", "PATCH", "DELETE"}, op.Op) {
			v.add(in(s.path, "operations", i, "op"), "op is PUT, PATCH or DELETE, not %q", op.Op)
		}
	}
	v.expect(&s.Expect, len(s.Operations), in(s.path, "expect"))
}

func (v *validation) expect(e *expectation, operations int, path []any) {
	switch {
	case e.Outcome == "":
		v.add(path, "expect: outcome: is missing: %s, or a code", accepted)
	case e.Outcome == accepted && e.ofRejection():
		v.add(path, "expect: operation, rule, message, client and details are of a rejection, and outcome is %s", accepted)
	case e.Outcome != accepted && !v.names.anyCode && !slices.Contains(v.names.codes, e.Outcome):
		v.add(in(path, "outcome"), "%q is neither %s nor a code of Postern or the policies%s", e.Outcome, accepted, policies.DidYouMean(e.Outcome, append(v.names.codes, accepted)))
	}
	if e.Rule != nil && *e.Rule != "" && !slices.Contains(v.names.rules, *e.Rule) {
		v.add(in(path, "rule"), "the policies have no rule %q%s", *e.Rule, policies.DidYouMean(*e.Rule, v.names.rules))
	}
	for i, name := range e.Observed {
		switch {
		case !slices.Contains(v.names.rules, name):
			v.add(in(path, "observed", i), "the policies have no rule %q%s", name, policies.DidYouMean(name, v.names.rules))
		case !slices.ContainsFunc(v.names.set.Observing(), func(r *policies.Rule) bool { return r.Name == name }):
			v.add(in(path, "observed", i), "rule %q rejects, and does not only observe: expect its code as outcome", name)
		}
	}
	if e.Operation != nil && (*e.Operation < -1 || *e.Operation >= operations) {
		v.add(in(path, "operation"), "there is no operation %d: write 0 for the first, or -1 for the transaction as a whole", *e.Operation)
	}
	v.rows(e.Rows, in(path, "rows"))
}

// rows checks the tables and columns of rows.
func (v *validation) rows(given rows, path []any) {
	everything := v.names.set.Everything()
	for _, name := range sortedKeys(given) {
		policy, _ := everything.Decide(upload.Operation{Op: upload.Put, Table: name})
		var table *catalog.Table
		if policy != nil {
			table = v.names.tables.Table(policy.Schema, policy.Name)
		}
		if table == nil {
			v.addKey(in(path, name), "there is no table %q%s", name, policies.DidYouMean(name, v.names.clients()))
			continue
		}
		for _, id := range sortedKeys(given[name]) {
			for _, column := range sortedKeys(given[name][id]) {
				if policy.Find(table, column) == nil {
					v.addKey(in(path, name, id, column), "table %q has no column %q%s", name, column, policies.DidYouMean(column, clientColumns(policy, table)))
				}
			}
		}
	}
}

// clients are the names of tables that rows can be of.
func (n *names) clients() []string {
	list := n.set.Tables()
	for _, table := range n.tables.Tables() {
		if table.Schema == "public" && !slices.Contains(list, table.Name) {
			list = append(list, table.Name)
		}
	}
	return list
}

func clientColumns(policy *policies.Table, table *catalog.Table) (list []string) {
	for i := range table.Columns {
		list = append(list, policy.ClientName(table.Columns[i].Name))
	}
	return list
}

func isTime(text string) bool {
	_, err := policies.ParseMoment(text)
	return err == nil
}

// inSteps names the step that a message is about, if the test has several.
func inSteps(steps []step, i int, text string) string {
	if len(steps) == 1 {
		return text
	}
	return fmt.Sprintf("step %d: %s", i+1, text)
}
