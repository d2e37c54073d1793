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

// Rule is one rule of a table, or of transactions as a whole.
type Rule struct {
	Name    string
	Client  bool // the app decides what follows a no
	Lookups []*Lookup

	on      []upload.Op
	when    *expression // nil: always
	check   *expression
	code    upload.Code
	message string
	details map[string]*expression
	place   place
}

// On reports whether the rule is for an operation.
func (r *Rule) On(op upload.Op) bool { return slices.Contains(r.on, op) }

// onByDefault are the operations of a rule that does not say: all, but no DELETE
// where it looks at the new row or what was sent, which a DELETE does not have,
// and not at the old one, which tells that it has thought of it.
func (r *Rule) onByDefault() []upload.Op {
	list := []upload.Op{upload.Put, upload.Patch, upload.Delete}
	var of needs
	for _, e := range r.expressions() {
		if e != nil {
			of.data = of.data || e.needs.data || e.needs.new != nil
			of.oldWhole = of.oldWhole || e.needs.old != nil
		}
	}
	if of.data && !of.oldWhole {
		return list[:2]
	}
	return list
}

// LooksAtOld reports whether the rule looks at the row as it was, if only whether
// there was one.
func (r *Rule) LooksAtOld() bool {
	return slices.ContainsFunc(r.expressions(), func(e *expression) bool { return e.needs.old != nil })
}

// LooksAtNew reports whether the rule looks at the row as it will be.
func (r *Rule) LooksAtNew() bool {
	return slices.ContainsFunc(r.expressions(), func(e *expression) bool { return e.needs.new != nil })
}

// NeedsStored reports whether the rule can be decided only with the database's
// help: of what was sent, the row as it will be has just the columns for which
// known says yes.
func (r *Rule) NeedsStored(known func(column string) bool) bool {
	if len(r.Lookups) > 0 {
		return true
	}
	return slices.ContainsFunc(r.expressions(), func(e *expression) bool { return e.needsStored(known) })
}

func (r *Rule) expressions() []*expression {
	list := []*expression{r.check}
	if r.when != nil {
		list = append(list, r.when)
	}
	return slices.AppendSeq(list, maps.Values(r.details))
}

// Columns are those of the stored row that the rule looks at, of a table: before
// the operation and after it.
func (r *Rule) Columns(table *catalog.Table) (old, new []string) {
	collect := func(columns map[string]bool, whole bool, into []string) []string {
		for _, name := range columnNames(table) {
			if (whole || columns[name]) && !slices.Contains(into, name) {
				into = append(into, name)
			}
		}
		return into
	}
	for _, e := range r.expressions() {
		old = collect(e.needs.old, e.needs.oldWhole, old)
		new = collect(e.needs.new, e.needs.newWhole, new)
	}
	return old, new
}

// NullWhereNotAllowed reports whether the rule looks at a column of the new row
// that is null and must not be: the database will reject the row, in better
// words than an expression that fails.
func (r *Rule) NullWhereNotAllowed(table *catalog.Table, in *Input) bool {
	null := func(columns map[string]bool, row Row) bool {
		for name := range columns {
			if c := table.Column(name); c != nil && c.NotNull && row[name] == types.NullValue {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(r.expressions(), func(e *expression) bool { return null(e.needs.new, in.New) || null(e.needs.sent, in.Data) })
}

// Skips reports whether the rule's when is false already by what was sent, so that
// the stored row need not be read for it.
func (r *Rule) Skips(ctx context.Context, in *Input, known func(column string) bool) (bool, error) {
	if r.when == nil || r.when.needs.lookup || r.when.needsStored(known) {
		return false, nil
	}
	applies, err := r.truth(ctx, r.when, in)
	if err == nil && !applies && in.trace != nil {
		in.trace(Said{Operation: in.Operation, Rule: r.Name, Position: r.place.position(), Verdict: NotAsked, Because: r.seen(in, []*expression{r.when})})
	}
	return !applies, err
}

// Check decides. A rejection means that the rule says no; an error that it
// failed, which is nobody's no and nobody's yes.
func (r *Rule) Check(ctx context.Context, in *Input) (*upload.Rejection, error) {
	if in.trace != nil {
		return r.traced(ctx, in)
	}
	_, rejection, err := r.decide(ctx, in)
	return rejection, err
}

func (r *Rule) decide(ctx context.Context, in *Input) (applies bool, no *upload.Rejection, err error) {
	if r.when != nil {
		if applies, err = r.truth(ctx, r.when, in); err != nil || !applies {
			return false, nil, err
		}
	}
	if holds, err := r.truth(ctx, r.check, in); err != nil || holds {
		return true, nil, err
	}
	no, err = r.rejection(ctx, in)
	return true, no, err
}

func (r *Rule) rejection(ctx context.Context, in *Input) (*upload.Rejection, error) {
	rejection := &upload.Rejection{Code: r.code, Message: r.message, ClientHandling: r.Client, Rule: r.Name, Operation: -1}
	if len(r.details) > 0 {
		details := map[string]jsontext.Value{}
		for _, name := range sortedKeys(r.details) {
			value, err := r.details[name].eval(ctx, in)
			if err == nil {
				details[name], err = toJSON(value)
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil { // the rule has said no all the same
				details[name] = jsontext.Value("null")
				r.traceDetail(in, name, err)
			}
		}
		rejection.Details = details
	}
	return rejection, nil
}

func (r *Rule) truth(ctx context.Context, e *expression, in *Input) (bool, error) {
	value, err := e.eval(ctx, in)
	if err != nil {
		return false, r.failed(err)
	}
	holds, ok := value.(types.Bool)
	if !ok {
		return false, r.failed(fmt.Errorf("%s: gave a %s", e.text, value.Type().TypeName()))
	}
	return bool(holds), nil
}

// Failed is the error of a rule that could not be run.
type Failed struct {
	Rule string // its position and name
	Err  error
}

func (f *Failed) Error() string { return f.Rule + ": " + f.Err.Error() }

func (f *Failed) Unwrap() error { return f.Err }

// failed is the failure of the rule, or whatever else it names, unless the
// request's time was up, which says nothing of it.
func failed(rule string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return &Failed{rule, err}
}

func (r *Rule) failed(err error) error { return failed(r.place.position()+" "+r.Name, err) }

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// rules compiles the rules of a table; nil is those over whole transactions.
func (c *compiler) rules(list []ruleRule, table *catalog.Table, at place) (rules []*Rule) {
	if len(list) == 0 {
		return nil
	}
	s, err := newScope(table)
	if err != nil {
		c.add(at.problem("%v", err))
		return nil
	}
	names := map[string]bool{}
	for i, r := range list {
		at := at.in("rules", i)
		if r.Name == "" || names[r.Name] {
			c.add(at.problem("a rule needs a name of its own"))
		}
		names[r.Name] = true
		rules = append(rules, c.rule(r, s, at))
	}
	return rules
}

func (c *compiler) rule(r ruleRule, s scope, at place) *Rule {
	rule := &Rule{Name: r.Name, Client: r.Client, on: c.operations(r.On, at.in("on")), code: upload.Code(r.Code), message: r.Message, place: at}
	if !codeForm.MatchString(r.Code) {
		c.add(at.in("code").problem("%q is not a code: write one like TITLE_TOO_LONG", r.Code))
	}
	if s.table == nil && len(r.On) > 0 {
		c.add(at.in("on").problem("a rule over whole transactions is asked once for each, whatever its operations"))
	}
	if r.Message == "" {
		c.add(at.problem("message is required: it is what people read"))
	}
	expression := func(text string, want *types.Type, path ...any) *expression {
		e, err := s.compile(text, want, at.in(path...))
		if err != nil {
			c.add(err)
			return e
		}
		for _, name := range sortedKeys(e.needs.lookups) {
			if _, ok := r.Lookup[name]; !ok {
				column := 1 + max(strings.Index(text, "lookup."+name), strings.Index(text, "lookup["))
				c.add(at.in(path...).expressionProblem(text, 1, column, fmt.Sprintf("the rule has no lookup %q%s", name, didYouMean(name, sortedKeys(r.Lookup)))))
			}
		}
		return e
	}
	if r.Check == "" {
		c.add(at.problem("check is required: an expression that is true where the write may happen"))
	} else {
		rule.check = expression(r.Check, types.BoolType, "check")
	}
	if r.When != "" {
		rule.when = expression(r.When, types.BoolType, "when")
	}
	for _, name := range sortedKeys(r.Details) {
		if rule.details == nil {
			rule.details = map[string]*detail{}
		}
		rule.details[name] = expression(r.Details[name], nil, "details", name)
	}
	for _, name := range sortedKeys(r.Lookup) {
		rule.Lookups = append(rule.Lookups, c.lookup(name, r.Lookup[name], s.table, at.in("lookup", name)))
	}
	if len(rule.on) == 0 {
		rule.on = rule.onByDefault()
	}
	return rule
}

type detail = expression
