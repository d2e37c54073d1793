package policies

import (
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// LookupColumn is a column of a lookup's query.
type LookupColumn struct {
	Name     string
	Kind     LookupKind
	Nullable bool // it is a table's column that may be null
}

// LookupColumns are the columns of lookups. Of those that could not be prepared there are
// none.
type LookupColumns map[*Lookup][]LookupColumn

// LookupKind is what a lookup's column is in expressions. It comes as JSON, so a time is
// a text.
type LookupKind string

// The kinds. The others, such as JSON, can be anything.
const (
	AnyKind   LookupKind = ""
	Boolean   LookupKind = "a boolean"
	Number    LookupKind = "a number"
	Text      LookupKind = "a text"
	Time      LookupKind = "a text with a time"
	LocalTime LookupKind = "a text with a time without a zone"
	Date      LookupKind = "a text with a date"
)

// completes is what a text lacks to be read by timestamp().
var completes = map[LookupKind]string{Time: "", LocalTime: " + 'Z'", Date: " + 'T00:00:00Z'"}

// CheckLookups prepares every lookup, and returns their columns. It lists those that cannot be prepared, columns
// that expressions ask of them and that they do not have, and comparisons of columns with
// values of another type, with file, line and column. prepare returns a lookup's columns;
// nil if they are not known.
func (s *Set) CheckLookups(prepare func(*Lookup) (columns []LookupColumn, err error)) (LookupColumns, error) {
	var users []lookupUser
	for _, rule := range s.transaction {
		users = append(users, lookupUser{rule.Lookups, rule.expressions})
	}
	for _, name := range sortedKeys(s.tables) {
		users = append(users, s.tables[name].lookupUsers()...)
	}
	var problems []error
	prepared := LookupColumns{} // one of let may be several rules'
	for _, user := range users {
		for _, l := range user.lookups {
			if l.mistaken {
				continue
			}
			columns, known := prepared[l]
			if !known {
				var err error
				if columns, err = prepare(l); err != nil {
					problems = append(problems, l.place.problem("%v", err))
				}
				prepared[l] = columns
			}
			for _, of := range withLets(user.expressions) {
				c := &lookupCheck{expression: of, lookup: l, columns: columns}
				if columns != nil {
					celast.PreOrderVisit(of.ast.Expr(), celast.NewExprVisitor(c.visit))
				}
				problems = append(problems, c.problems...)
			}
		}
	}
	return prepared, Join(problems...)
}

// lookupUser is a rule, or a column that the policy sets, with the lookups that it needs.
type lookupUser struct {
	lookups     []*Lookup
	expressions []*expression
}

func (t *Table) lookupUsers() (users []lookupUser) {
	for _, r := range t.Rules {
		users = append(users, lookupUser{r.Lookups, r.expressions})
	}
	for i := range t.Assignments {
		a := &t.Assignments[i]
		users = append(users, lookupUser{a.Lookups, a.expressions()})
	}
	return users
}

// withLets are expressions with those of the lets that they use.
func withLets(expressions []*expression) (all []*expression) {
	for _, e := range expressions {
		all = append(all, e)
		for _, l := range e.lets {
			if l.value != nil {
				all = append(all, withLets([]*expression{l.value})...)
			}
		}
	}
	return all
}

// lookupCheck finds what an expression asks of a lookup that it does not have.
type lookupCheck struct {
	*expression
	lookup   *Lookup
	columns  []LookupColumn
	each     []string // the variables of loops over its rows
	problems []error
}

func (c *lookupCheck) add(e celast.Expr, format string, args ...any) {
	c.problems = append(c.problems, c.problem(e, fmt.Sprintf(format, args...)))
}

func (c *lookupCheck) visit(e celast.Expr) {
	if e.Kind() == celast.ComprehensionKind && c.lookup.Rows && c.isList(e.AsComprehension().IterRange()) {
		c.each = append(c.each, e.AsComprehension().IterVar())
	}
	if e.Kind() == celast.SelectKind && c.lookup.Rows && c.isList(e.AsSelect().Operand()) {
		c.add(e, "%s is a list of rows: write %[1]s.map(row, row.%s), or remove rows for the first row alone", c.lookup.variable(), e.AsSelect().FieldName())
	}
	if e.Kind() == celast.SelectKind && c.isRow(e.AsSelect().Operand()) && c.column(e) == nil {
		var names []string
		for _, column := range c.columns {
			names = append(names, column.Name)
		}
		name := e.AsSelect().FieldName()
		c.add(e, "lookup %s has no column %q%s", c.lookup.Name, name, didYouMean(name, names))
	}
	if e.Kind() != celast.CallKind {
		return
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		c.compare(args[0], args[1])
		c.compare(args[1], args[0])
	case operators.In:
		for _, element := range elements(args[1]) {
			c.compare(args[0], element)
		}
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		for _, arg := range args {
			if column := c.column(arg); column != nil && column.Kind != Boolean && column.Kind != AnyKind {
				c.add(arg, "%s is %s, and no condition", c.written(arg), column.Kind)
			}
		}
	}
}

// compare checks that a lookup's column is compared with a value of its type.
func (c *lookupCheck) compare(column, with celast.Expr) {
	found := c.column(column)
	if found == nil || found.Kind == AnyKind {
		return
	}
	kind, is := found.Kind, AnyKind
	switch c.ast.GetType(with.ID()).Kind() {
	case types.BoolKind:
		is = Boolean
	case types.IntKind, types.UintKind, types.DoubleKind:
		is = Number
	case types.StringKind:
		is = Text
	case types.TimestampKind:
		is = "a time"
	}
	rest, isTime := completes[kind]
	switch {
	case is == AnyKind, is == kind, is == Text && isTime:
	case isTime && is == "a time":
		c.add(column, "%s is %s: write timestamp(%s%s)", c.written(column), kind, c.written(column), rest)
	default:
		c.add(column, "%s is %s, and is compared with %s", c.written(column), kind, is)
	}
}

// column returns the lookup's column that an expression is; nil if it is none.
func (c *lookupCheck) column(e celast.Expr) *LookupColumn {
	if e.Kind() != celast.SelectKind || !c.isRow(e.AsSelect().Operand()) {
		return nil
	}
	i := slices.IndexFunc(c.columns, func(column LookupColumn) bool { return column.Name == e.AsSelect().FieldName() })
	if i < 0 {
		return nil
	}
	return &c.columns[i]
}

// written is a column of the lookup as authors write it.
func (c *lookupCheck) written(column celast.Expr) string {
	of, name := column.AsSelect().Operand(), column.AsSelect().FieldName()
	if of.Kind() == celast.IdentKind {
		return of.AsIdent() + "." + name
	}
	return c.lookup.variable() + "." + name
}

// isRow reports whether an expression is a row of the lookup. Rows of a list are the
// variable of a loop, and lookup.items[0].
func (c *lookupCheck) isRow(e celast.Expr) bool {
	switch {
	case !c.lookup.Rows:
		return c.isLookup(e)
	case e.Kind() == celast.IdentKind:
		return slices.Contains(c.each, e.AsIdent())
	}
	return functionName(e) == operators.Index && c.isList(e.AsCall().Args()[0])
}

// isList reports whether an expression is a lookup of rows, or a filter of one.
func (c *lookupCheck) isList(e celast.Expr) bool {
	if macro, ok := c.ast.SourceInfo().GetMacroCall(e.ID()); ok && e.Kind() == celast.ComprehensionKind {
		return functionName(macro) == operators.Filter && c.isList(e.AsComprehension().IterRange())
	}
	return c.isLookup(e)
}

// isLookup reports whether an expression is the lookup: lookup.list, or list if it is a let.
func (c *lookupCheck) isLookup(e celast.Expr) bool {
	if c.lookup.Shared {
		return isVariable(e, c.lookup.Name)
	}
	return lookupOf(e) == c.lookup.Name
}

// variable is the lookup as expressions name it.
func (l *Lookup) variable() string {
	if l.Shared {
		return l.Name
	}
	return "lookup." + l.Name
}

// lookupOf returns the lookup that an expression is: lookup.list or lookup["list"]; empty
// if it is none.
func lookupOf(e celast.Expr) string {
	switch {
	case e.Kind() == celast.SelectKind && isVariable(e.AsSelect().Operand(), "lookup"):
		return e.AsSelect().FieldName()
	case functionName(e) == operators.Index && isVariable(e.AsCall().Args()[0], "lookup"):
		name, _ := textOf(e.AsCall().Args()[1])
		return name
	}
	return ""
}
