package policies

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// names are the params, functions and lets that the files of a folder define for all
// their expressions. A param is a constant. A function is written out where it is called,
// so that what an expression looks at and what it costs is known.
type names struct {
	options   []cel.EnvOption
	functions map[string]*definition
	lets      map[string]letRule // each a let of the tables that use it
	defined   map[string]place   // by name, of params, functions and lets
	used      map[string]bool    // by name
}

// definition is a function of a policy file.
type definition struct {
	name     string
	params   []string
	types    []*types.Type
	text     string
	place    place
	compiled bool
	mistaken bool
	body     celast.Expr // nil if it has a mistake; other functions are written out in it
	loops    []string    // the variables of its loops
}

var (
	nameForm      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	signature     = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)\(\s*(.*?)\s*\)$`)
	parameterForm = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)\s+([a-z]+)$`)
	// The types of functions' parameters.
	parameterTypes = map[string]*types.Type{
		"string": types.StringType, "int": types.IntType, "double": types.DoubleType, "bool": types.BoolType,
		"timestamp": types.TimestampType, "duration": types.DurationType,
		"list": types.NewListType(types.DynType), "map": types.NewMapType(types.StringType, types.DynType), "any": types.DynType,
	}
)

// defineNames compiles what the files define.
func (c *compiler) defineNames(files []sourceFile) (err error) {
	c.names = &names{functions: map[string]*definition{}, lets: map[string]letRule{}, defined: map[string]place{}, used: map[string]bool{}}
	if c.base, err = newScope(nil, c.names); err != nil {
		return err
	}
	for i := range files {
		f := &files[i]
		for _, name := range sortedKeys(f.content.Params) {
			at := f.place("params", name)
			value, of := paramValue(f.content.Params[name])
			switch {
			case !c.define(name, at):
			case value == nil:
				c.add(at.problem("a param is a text, a number, true or false, or a list of values of one of these types"))
				c.names.options = append(c.names.options, cel.Variable(name, cel.DynType)) // its users have no mistake
			default:
				c.names.options = append(c.names.options, cel.Constant(name, of, value))
			}
		}
		for _, name := range sortedKeys(f.content.Let) {
			if c.define(name, f.place("let", name)) {
				c.names.lets[name] = f.content.Let[name]
			}
		}
		for _, head := range sortedKeys(f.content.Functions) {
			at := f.place("functions", head)
			if d := c.signature(head, at); d != nil && c.define(d.name, at) {
				d.text = f.content.Functions[head]
				c.names.functions[d.name] = d
			}
		}
	}
	for _, name := range sortedKeys(c.names.functions) {
		c.function(c.names.functions[name], nil)
	}
	c.base, err = newScope(nil, c.names)
	return err
}

// define notes a name, and reports whether it was free.
func (c *compiler) define(name string, at place) bool {
	free := c.isFree(name, at)
	if free {
		c.names.defined[name] = at
	}
	return free
}

// isFree reports whether a place may define a name.
func (c *compiler) isFree(name string, at place) bool {
	other, defined := c.names.defined[name]
	switch {
	case !nameForm.MatchString(name):
		c.add(at.problem("%q is not a name: use letters, digits and underscores", name))
	case defined:
		c.add(at.problem("%q is already defined at %s: choose another name, or remove one of the two", name, other.position()))
	case c.isReserved(name):
		c.add(at.problem("expressions already have a variable or function %q: choose another name", name))
	default:
		return true
	}
	return false
}

// isReserved reports whether a name means something in every expression.
func (c *compiler) isReserved(name string) bool {
	return slices.ContainsFunc(variables, func(v variable) bool { return v.name == name }) || slices.Contains(celWords, name) ||
		slices.ContainsFunc(c.base.env.Macros(), func(m cel.Macro) bool { return m.Function() == name && !m.IsReceiverStyle() }) || c.base.env.HasFunction(name)
}

// celWords are those that CEL reserves. See https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax.
var celWords = []string{"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop", "namespace", "null", "package", "return", "true", "var", "void", "while"}

// paramValue returns the value of a param and its type; nil if expressions cannot have
// it.
func paramValue(value any) (ref.Val, *types.Type) {
	switch v := value.(type) {
	case string:
		return types.String(v), types.StringType
	case bool:
		return types.Bool(v), types.BoolType
	case uint64:
		if v > math.MaxInt64 {
			return nil, nil
		}
		return types.Int(v), types.IntType
	case int64:
		return types.Int(v), types.IntType
	case float64:
		return types.Double(v), types.DoubleType
	case []any:
		var all []ref.Val
		of := types.DynType
		for i, element := range v {
			value, t := paramValue(element)
			if value == nil || t.Kind() == types.ListKind || i > 0 && !t.IsExactType(of) {
				return nil, nil
			}
			all, of = append(all, value), t
		}
		return types.NewRefValList(types.DefaultTypeAdapter, all), types.NewListType(of)
	}
	return nil, nil
}

// signature reads the head of a function, such as isJob(job string); nil if it is wrong.
func (c *compiler) signature(head string, at place) *definition {
	match := signature.FindStringSubmatch(head)
	if match == nil {
		c.add(at.problem("write a function as name(parameter type, parameter type): its expression"))
		return nil
	}
	f := celast.NewExprFactory()
	d := &definition{name: match[1], place: at, body: f.NewCall(1, "dyn", f.NewLiteral(2, types.NullValue))}
	if match[2] == "" {
		return d
	}
	for _, parameter := range strings.Split(match[2], ",") {
		match := parameterForm.FindStringSubmatch(strings.TrimSpace(parameter))
		switch {
		case match == nil || parameterTypes[match[2]] == nil:
			c.add(at.problem("%q is not a parameter: write a name and one of the types %s", strings.TrimSpace(parameter), strings.Join(sortedKeys(parameterTypes), ", ")))
			return nil
		case c.isReserved(match[1]) || slices.Contains(d.params, match[1]):
			c.add(at.problem("%q already has a meaning: give the parameter another name", match[1]))
			return nil
		}
		d.params, d.types = append(d.params, match[1]), append(d.types, parameterTypes[match[2]])
	}
	return d
}

// function compiles a function after those that it calls. callers are the functions
// that lead to it. Expressions may call one that has a mistake: they have none.
func (c *compiler) function(d *definition, callers []string) {
	if d.compiled {
		return
	}
	d.compiled, d.mistaken = true, true
	output := types.DynType
	if err := c.order(d, append(callers, d.name)); err != nil {
		c.add(err)
	} else if ast, err := c.body(d); err != nil {
		c.add(err)
	} else {
		d.body, output, d.mistaken = ast.NativeRep().Expr(), ast.OutputType(), c.names.mistaken(d.text)
	}
	c.names.options = append(c.names.options, cel.Function(d.name, cel.Overload(d.name+"_defined", d.types, output)))
}

// order compiles what a function calls.
func (c *compiler) order(d *definition, callers []string) error {
	parsed, issues := c.base.env.Parse(d.text)
	if issues.Err() != nil {
		return c.base.explainAll(issues, d.text, d.place)
	}
	for _, call := range c.names.calls(parsed.NativeRep().Expr()) {
		name := call.AsCall().FunctionName()
		if slices.Contains(callers, name) {
			return d.place.problem("the function calls itself: %s", strings.Join(append(callers, name), " calls "))
		}
		c.function(c.names.functions[name], callers)
	}
	return nil
}

// body compiles the expression of a function.
func (c *compiler) body(d *definition) (*cel.Ast, error) {
	s, err := newScope(nil, c.names)
	if err == nil {
		var parameters []cel.EnvOption
		for i, name := range d.params {
			parameters = append(parameters, cel.Variable(name, d.types[i]))
		}
		s.env, err = s.env.Extend(parameters...)
	}
	if err != nil {
		return nil, d.place.problem("%v", err)
	}
	s.function = true
	ast, err := s.check(d.text, d.place)
	if err != nil {
		return nil, err
	}
	celast.PreOrderVisit(ast.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.ComprehensionKind {
			d.loops = append(d.loops, e.AsComprehension().IterVar())
		}
	}))
	for _, name := range d.params {
		if _, defined := c.names.defined[name]; defined {
			return nil, d.place.problem("%q already has a meaning: give the parameter another name", name)
		}
		if slices.Contains(d.loops, name) {
			return nil, d.place.problem("%q is a parameter and the variable of a loop: give one of them another name", name)
		}
	}
	return ast, nil
}

// calls lists the calls of functions of the policy files, those within others first.
func (n *names) calls(root celast.Expr) (calls []celast.Expr) {
	celast.PostOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.CallKind && !e.AsCall().IsMemberFunction() && n.functions[e.AsCall().FunctionName()] != nil {
			calls = append(calls, e)
		}
	}))
	return calls
}

// mistaken reports whether an expression calls a function that has a mistake.
func (n *names) mistaken(text string) bool {
	return slices.ContainsFunc(anyWord.FindAllString(text, -1), func(word string) bool {
		d := n.functions[word]
		return d != nil && d.mistaken
	})
}

// isLet reports whether a name is a let of the tables that use it.
func (n *names) isLet(name string) bool {
	_, ok := n.lets[name]
	return ok
}

// use notes what an expression uses.
func (n *names) use(root celast.Expr) {
	celast.PreOrderVisit(root, celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.IdentKind:
			n.used[e.AsIdent()] = true
		case celast.CallKind:
			n.used[e.AsCall().FunctionName()] = true
		}
	}))
}

// unused is what no expression uses.
func (n *names) unused() (unused []unusedName) {
	for _, name := range sortedKeys(n.defined) {
		if !n.used[name] {
			unused = append(unused, unusedName{name, n.defined[name]})
		}
	}
	return unused
}

// maxNodes bounds the parts of an expression in which all functions are written out.
const maxNodes = 10_000

// writeOut replaces the calls of functions by the functions' expressions. The parts of
// a function have the position of its call.
func (n *names) writeOut(ast *celast.AST) error {
	factory, info, next := celast.NewExprFactory(), ast.SourceInfo(), celast.MaxID(ast)
	last := next + maxNodes
	copied := func(e celast.Expr, from func(id int64) celast.OffsetRange) celast.Expr {
		e = factory.CopyExpr(e)
		e.RenumberIDs(func(id int64) int64 {
			next++
			info.SetOffsetRange(next, from(id))
			return next
		})
		return e
	}
	for _, call := range n.calls(ast.Expr()) {
		d, args := n.functions[call.AsCall().FunctionName()], call.AsCall().Args()
		for _, arg := range args {
			if name := loopVariable(arg, d.loops); name != "" {
				return fmt.Errorf("%s has a loop whose variable is %s, too: give one of them another name", d.name, name)
			}
		}
		at, _ := info.GetOffsetRange(call.ID())
		body := copied(d.body, func(int64) celast.OffsetRange { return at })
		var uses []celast.Expr
		celast.PreOrderVisit(body, celast.NewExprVisitor(func(e celast.Expr) {
			if e.Kind() == celast.IdentKind && slices.Contains(d.params, e.AsIdent()) {
				uses = append(uses, e)
			}
		}))
		for _, use := range uses {
			use.SetKindCase(copied(args[slices.Index(d.params, use.AsIdent())], func(id int64) celast.OffsetRange {
				at, _ := info.GetOffsetRange(id)
				return at
			}))
			if next > last {
				return fmt.Errorf("with its functions written out, the expression has more than %d parts: simplify them", maxNodes)
			}
		}
		call.SetKindCase(body)
	}
	return nil
}

// loopVariable returns the variable of a loop that an argument looks at; empty if there
// is none.
func loopVariable(arg celast.Expr, loops []string) (name string) {
	celast.PreOrderVisit(arg, celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.IdentKind && slices.Contains(loops, e.AsIdent()) {
			name = e.AsIdent()
		}
	}))
	return name
}

// parameters are those of a function as its head has them.
func (d *definition) parameters() string {
	parts := make([]string, len(d.params))
	for i, name := range d.params {
		parts[i] = name + " " + d.types[i].String()
	}
	return d.name + "(" + strings.Join(parts, ", ") + ")"
}
