package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/upload"
)

// Rule is one rule of a table, or of whole transactions.
type Rule struct {
	Name           string
	ClientHandling bool // its rejections are left to the app (requires_client_handling)
	Observes       bool // it rejects nothing; see Observation
	Lookups        []*Lookup
	Each           []EachColumn // of a rule over whole transactions; see EachColumn

	on      actions     // as the file says
	applies actions     // of them, those that matter; see actions.in
	words   []string    // of on
	when    *expression // nil means always
	check   *expression
	code    upload.Code
	message string
	details map[string]*expression
	place   place

	expressions []*expression // all of the above
	mistaken    bool          // a part of it could not be read; see Set.leaveOut
	unsure      bool          // its when has a mistake, so nothing is said of its nulls
}

// Position is file:line:column of the rule.
func (r *Rule) Position() string { return r.place.position() }

// Words are the operations that the rule applies to, as the file says it.
func (r *Rule) Words() []string { return r.words }

// AppliesTo reports whether the rule applies to an operation on some row.
func (r *Rule) AppliesTo(op upload.Op) bool { return r.applies.appliesTo(op) }

// AppliesToRow reports whether the rule applies to an operation on a row that exists,
// or does not.
func (r *Rule) AppliesToRow(op upload.Op, exists bool) bool {
	return r.applies.appliesToRow(op, exists)
}

// DependsOnRow reports whether the rule applies to a PUT that inserts and not to one
// that updates, or the other way round.
func (r *Rule) DependsOnRow(op upload.Op) bool { return r.applies.dependsOnRow(op) }

// LooksAtOld reports whether the rule looks at the row as it was, even if it only
// checks whether there was one.
func (r *Rule) LooksAtOld() bool {
	return slices.ContainsFunc(r.expressions, func(e *expression) bool { return e.needs.old != nil })
}

// LooksAtNew reports whether the rule looks at the row as it will be.
func (r *Rule) LooksAtNew() bool {
	return slices.ContainsFunc(r.expressions, func(e *expression) bool { return e.needs.new != nil })
}

// NeedsStored reports whether the rule needs the stored row or a lookup. known says
// which columns of the new row are known from what was sent.
func (r *Rule) NeedsStored(known func(column string) bool) bool {
	if len(r.Lookups) > 0 {
		return true
	}
	return slices.ContainsFunc(r.expressions, func(e *expression) bool { return e.needsStored(known) })
}

// Columns returns the columns of a table's row that the rule looks at: before the
// operation, and after it.
func (r *Rule) Columns(table *catalog.Table) (old, new []string) {
	return columnsOf(r.expressions, table)
}

// columnsOf returns the columns of a table's row that expressions look at.
func columnsOf(expressions []*expression, table *catalog.Table) (old, new []string) {
	collect := func(columns nameSet, whole bool, into []string) []string {
		for _, name := range columnNames(table) {
			if (whole || slices.Contains(columns, name)) && !slices.Contains(into, name) {
				into = append(into, name)
			}
		}
		return into
	}
	for _, e := range expressions {
		old = collect(e.needs.old, e.needs.oldWhole, old)
		new = collect(e.needs.new, e.needs.newWhole, new)
	}
	return old, new
}

// LooksAtForbiddenNull reports whether the rule looks at a column that is null
// although the table declares it NOT NULL. The database rejects such a row with a
// better message than an expression that fails on the null.
func (r *Rule) LooksAtForbiddenNull(table *catalog.Table, in *Input) bool {
	return lookAtForbiddenNull(r.expressions, in, table, func(c *catalog.Column) bool { return c.NotNull })
}

func lookAtForbiddenNull(expressions []*expression, in *Input, table *catalog.Table, forbids func(*catalog.Column) bool) bool {
	forbidden := func(columns nameSet, row Row) bool {
		return slices.ContainsFunc(columns, func(name string) bool {
			if row[name] != types.NullValue {
				return false
			}
			c := table.Column(name)
			return c != nil && forbids(c)
		})
	}
	return slices.ContainsFunc(expressions, func(e *expression) bool {
		return forbidden(e.needs.new, in.New()) || forbidden(e.needs.sent, in.Data())
	})
}

// Skips reports whether what was sent already makes the rule's when false, so that
// the stored row need not be read. known is as for NeedsStored.
func (r *Rule) Skips(ctx context.Context, in *Input, known func(column string) bool) (bool, error) {
	if r.when == nil || r.when.needs.lookup || r.when.needsStored(known) {
		return false, nil
	}
	applies, err := r.evaluate(ctx, r.when, in, true)
	if err == nil && !applies {
		r.traceResult(in, false, nil, nil)
	}
	if err != nil && r.Observes {
		r.traceResult(in, false, nil, err)
		return true, r.observe(ctx, false, err)
	}
	return !applies, err
}

// Passes reports whether what was sent already meets the rule, so that nobody needs to
// know whether the row exists. An expression that fails says nothing.
func (r *Rule) Passes(ctx context.Context, in *Input) bool {
	applies, rejection, err := r.result(ctx, in)
	if rejection != nil || err != nil {
		return false
	}
	r.traceResult(in, applies, nil, nil)
	return true
}

// Check evaluates the rule. It returns a rejection if when is true or null, and check
// is false or null. An error means that an expression failed to evaluate, which says nothing
// about the write, or that ctx has ended. A rule that only observes gives neither a
// rejection nor an error of its own.
func (r *Rule) Check(ctx context.Context, in *Input) (*upload.Rejection, error) {
	applies, rejection, err := r.result(ctx, in)
	r.traceResult(in, applies, rejection, err)
	if r.Observes {
		return nil, r.observe(ctx, rejection != nil, err)
	}
	return rejection, err
}

func (r *Rule) result(ctx context.Context, in *Input) (applies bool, rejection *upload.Rejection, err error) {
	if r.when != nil && (in.Excess == "" || !r.when.needs.lookup) {
		if applies, err = r.evaluate(ctx, r.when, in, true); err != nil || !applies {
			return false, nil, err
		}
	}
	if in.Excess != "" {
		return true, r.tooManyRows(in.Excess), nil
	}
	if passes, err := r.evaluate(ctx, r.check, in, false); err != nil || passes {
		return true, nil, err
	}
	rejection, err = r.rejection(ctx, in)
	return true, rejection, err
}

// rejection is what the client receives. A detail that fails to evaluate is null in
// it.
func (r *Rule) rejection(ctx context.Context, in *Input) (*upload.Rejection, error) {
	rejection := &upload.Rejection{Code: r.code, Message: r.message, ClientHandling: r.ClientHandling, Rule: r.Name, Operation: -1}
	if len(r.details) == 0 || r.Observes {
		return rejection, nil
	}
	details := map[string]jsontext.Value{}
	for _, name := range sortedKeys(r.details) {
		value, err := r.details[name].eval(ctx, in)
		if err == nil {
			details[name], err = toJSON(orNull(value))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			details[name] = jsontext.Value("null")
			r.traceDetail(in, name, err)
		}
	}
	rejection.Details = details
	return rejection, nil
}

// evaluate evaluates a condition. unknown is what it counts as if it is null.
func (r *Rule) evaluate(ctx context.Context, e *expression, in *Input, unknown bool) (bool, error) {
	if r.Observes { // it takes no steps from rules that reject
		in.steps, in.observedSteps = in.observedSteps, in.steps
		defer func() { in.steps, in.observedSteps = in.observedSteps, in.steps }()
	}
	result, err := e.condition(ctx, in, unknown)
	if err != nil {
		return false, r.error(err)
	}
	return result, nil
}

func (r *Rule) error(err error) error { return ruleError(r.Position()+" "+r.Name, err) }

// RuleError is the error of a rule, or of another part of a policy, that failed to
// evaluate.
type RuleError struct {
	Rule     string // its position and name
	Err      error
	External bool // the write is not the cause: the schema has changed, or a rule in Go has failed
}

func (e *RuleError) Error() string { return e.Rule + ": " + e.Err.Error() }

func (e *RuleError) Unwrap() error { return e.Err }

// ruleError returns a RuleError, unless the request has ended: that is no failure of
// the rule.
func ruleError(rule string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return &RuleError{Rule: rule, Err: err}
}

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// rules compiles the rules of a table, or those over whole transactions.
func (c *compiler) rules(list []ruleRule, s scope, at place) (rules []*Rule) {
	names := map[string]bool{}
	for i, r := range list {
		at := at.in("rules", i)
		switch {
		case r.Name == "":
			c.add(at.problem("name is missing: give the rule a name"))
		case names[r.Name]:
			c.add(at.problem("another rule is named %q: give this one another name", r.Name))
		}
		names[r.Name] = true
		rules = append(rules, c.rule(r, s, at))
	}
	return rules
}

func (c *compiler) rule(r ruleRule, s scope, at place) *Rule {
	s = c.withEach(r, s, at)
	rule := &Rule{Name: r.Name, ClientHandling: r.Client, on: c.actions(r.On, at.in("on")), words: r.On, code: upload.Code(r.Code), message: r.Message, Each: s.each, place: at}
	rule.Observes = c.choice(at.in("mode"), r.Mode, enforce, observe) == observe
	if !codeForm.MatchString(r.Code) {
		c.add(at.in("code").problem("%q is not an error code: write one like TITLE_TOO_LONG", r.Code))
	}
	if s.table == nil && len(r.On) > 0 {
		c.add(at.in("on").problem("a rule over whole transactions cannot have on: it is evaluated once for each transaction. Remove on, and check the op of tx"))
	}
	if r.Message == "" {
		c.add(at.problem("message is missing: write the sentence that the app's user reads"))
	}
	if r.Check == "" {
		c.add(at.problem("check is missing: write an expression that is true if the write is allowed"))
	} else {
		rule.check = c.ruleExpression(r, s, r.Check, types.BoolType, at.in("check"))
	}
	if r.When != "" {
		rule.when = c.ruleExpression(r, s, r.When, types.BoolType, at.in("when"))
		rule.unsure = rule.when == nil
	}
	for _, name := range sortedKeys(r.Details) {
		if rule.details == nil {
			rule.details = map[string]*expression{}
		}
		rule.details[name] = c.ruleExpression(r, s, r.Details[name], nil, at.in("details", name))
	}
	for _, name := range sortedKeys(r.Lookup) {
		rule.Lookups = append(rule.Lookups, c.lookupOf(name, r.Lookup[name], s, at.in("lookup", name)))
	}
	rule.expressions = slices.DeleteFunc(append([]*expression{rule.check, rule.when}, slices.Collect(maps.Values(rule.details))...), func(e *expression) bool { return e == nil })
	for _, e := range rule.expressions {
		for _, l := range e.lookups {
			if !slices.Contains(rule.Lookups, l) {
				rule.Lookups = append(rule.Lookups, l)
			}
		}
	}
	if len(r.On) == 0 {
		rule.on = rule.defaultActions()
		rule.words = rowWords(rule.on)
	}
	rule.applies = rule.on
	return rule
}

// ruleExpression compiles an expression of a rule and checks the lookups it names.
func (c *compiler) ruleExpression(r ruleRule, s scope, text string, want *types.Type, at place) *expression {
	e, err := s.compile(text, want, at)
	if err != nil {
		c.add(err)
		return nil
	}
	for _, name := range e.needs.lookups {
		if _, ok := r.Lookup[name]; !ok {
			column := 1 + max(strings.Index(text, "lookup."+name), strings.Index(text, "lookup["))
			c.add(at.expressionProblem(text, 1, column, fmt.Sprintf("the rule has no lookup %q%s", name, didYouMean(name, sortedKeys(r.Lookup)))))
		}
	}
	return e
}

// defaultActions are those of a rule without on: all, but not DELETE if the rule
// looks at new or data and not at old. A DELETE has no new row and sends no data; a
// rule that looks at old too is assumed to expect that.
func (r *Rule) defaultActions() actions {
	var sent, old bool
	for _, e := range r.expressions {
		sent = sent || e.needs.data || e.needs.new != nil
		old = old || e.needs.old != nil
	}
	if sent && !old {
		return creates | updates
	}
	return allActions
}
