package policies

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"postern/service/catalog"
)

// let is a name for an expression or a lookup that the expressions of a table share.
type let struct {
	name    string
	value   *expression // nil for a lookup
	needs   needs
	lookups []*Lookup // that it needs
	used    bool      // by some expression
	place   place
}

// evaluate evaluates the let once for all expressions about an operation. If it fails,
// the expressions that use it fail, unless they need not look at it.
func (l *let) evaluate(ctx context.Context, in *Input) {
	if _, done := in.lets[l.name]; l.value == nil || done {
		return
	}
	value, err := l.value.eval(ctx, in)
	if err != nil {
		value = types.WrapErr(err)
	}
	in.setLet(l.name, value)
}

// mistaken reports whether the let has a mistake, or uses what has one.
func (l *let) mistaken() bool {
	return l.value == nil && len(l.lookups) == 0 || l.value != nil && l.value.unsure
}

// letCompiler compiles the lets of a table, each after those that it uses.
type letCompiler struct {
	*compiler
	rules map[string]letRule
	scope scope
	at    place // of the table's own
}

// lets returns the scope of a table's expressions, with its lets: its own, and those of
// all tables that its expressions use.
func (c *compiler) lets(r tableRule, table *catalog.Table, at place) (scope, error) {
	s, err := newScope(table, c.names)
	if err != nil {
		return s, at.problem("%v", err)
	}
	s.lets = map[string]*let{}
	lc := &letCompiler{c, maps.Clone(c.names.lets), s, at.in("let")}
	for _, name := range sortedKeys(r.Let) {
		if c.isFree(name, lc.at.in(name)) {
			lc.rules[name] = r.Let[name]
		}
	}
	used := c.variablesIn(r)
	for _, name := range sortedKeys(lc.rules) {
		if _, own := r.Let[name]; own || slices.Contains(used, name) {
			lc.compile(name, nil)
		}
	}
	return lc.scope, nil
}

var anyWord = regexp.MustCompile(`\w+`)

// variablesIn lists the variables that the expressions of a table use.
func (c *compiler) variablesIn(r tableRule) (names []string) {
	var texts []string
	for _, list := range []map[string]assignment{r.Set, r.Defaults} {
		for _, a := range list {
			texts = append(texts, a.Value, a.When)
		}
	}
	for _, rule := range r.Rules {
		texts = append(append(texts, rule.Check, rule.When), slices.Collect(maps.Values(rule.Details))...)
	}
	for _, text := range texts {
		if parsed, issues := c.base.env.Parse(text); issues.Err() == nil {
			names = append(names, variablesOf(parsed.NativeRep().Expr())...)
		} else { // it is reported where it is compiled; its lets may have mistakes, too
			names = append(names, anyWord.FindAllString(text, -1)...)
		}
	}
	return names
}

// place is where a let is defined.
func (c *letCompiler) place(name string) place {
	if c.names.isLet(name) {
		return c.names.defined[name]
	}
	return c.at.in(name)
}

// compile compiles a let. users are the lets that lead to it.
func (c *letCompiler) compile(name string, users []string) {
	if c.scope.lets[name] != nil {
		return
	}
	l, rule := &let{name: name, place: c.place(name)}, c.rules[name]
	c.scope.lets[name] = l
	output := types.DynType // also for users of a let that has a mistake
	if rule.Lookup != "" {
		lookup := c.lookup(name, rule.Lookup, c.scope, l.place.in("lookup"))
		lookup.Shared = true
		l.needs.lookup, l.lookups = true, []*Lookup{lookup}
	} else if e := c.expression(l, rule.Value, append(users, name)); e != nil {
		l.value, l.needs, l.lookups, output = e, e.needs, e.lookups, e.output
	}
	env, err := c.scope.env.Extend(cel.Variable(name, output))
	if err != nil {
		c.add(l.place.problem("%v", err))
		return
	}
	c.scope.env = env
}

// expression compiles the expression of a let; nil if it has a mistake.
func (c *letCompiler) expression(l *let, text string, users []string) *expression {
	parsed, issues := c.scope.env.Parse(text)
	if issues.Err() != nil {
		c.add(c.scope.explainAll(issues, text, l.place))
		return nil
	}
	for _, name := range variablesOf(parsed.NativeRep().Expr()) {
		if slices.Contains(users, name) {
			c.add(l.place.problem("it uses itself: %s", strings.Join(append(users, name), " uses ")))
			return nil
		}
		if _, ok := c.rules[name]; ok {
			c.compile(name, users)
		}
	}
	e, err := c.scope.compile(text, nil, l.place)
	switch {
	case err != nil:
		c.add(err)
		return nil
	case slices.Contains(variablesOf(parsed.NativeRep().Expr()), "lookup"):
		c.add(l.place.problem("lookup belongs to one rule: write another let, such as list: {lookup: select …}, and use its name"))
		return nil
	}
	return e
}

// variablesOf lists the variables that an expression uses.
func variablesOf(root celast.Expr) (names []string) {
	celast.PreOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.IdentKind && !slices.Contains(names, e.AsIdent()) {
			names = append(names, e.AsIdent())
		}
	}))
	return names
}

// addLets adds the lets that an expression uses, and what they look at.
func (e *expression) addLets(lets map[string]*let, root celast.Expr) {
	for _, name := range variablesOf(root) {
		l := lets[name]
		if l == nil {
			continue
		}
		l.used = true
		e.lets = append(e.lets, l)
		e.unsure = e.unsure || l.mistaken()
		e.needs.add(l.needs)
		for _, lookup := range l.lookups {
			if !slices.Contains(e.lookups, lookup) {
				e.lookups = append(e.lookups, lookup)
			}
		}
	}
}

// unusedLets are lets that no expression uses.
func unusedLets(lets map[string]*let) (unused []unusedName) {
	for _, name := range sortedKeys(lets) {
		if l := lets[name]; !l.used {
			unused = append(unused, unusedName{name, l.place})
		}
	}
	return unused
}
