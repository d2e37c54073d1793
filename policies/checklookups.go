package policies

import (
	"errors"
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// LookupColumn is a column of a lookup's query.
type LookupColumn struct {
	Name string
	Kind LookupKind
}

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

// CheckLookups prepares every lookup. It lists those that cannot be prepared, columns
// that expressions ask of them and that they do not have, and comparisons of columns with
// values of another type, with file, line and column. prepare returns a lookup's columns;
// nil if they are not known.
func (s *Set) CheckLookups(prepare func(*Lookup) (columns []LookupColumn, err error)) error {
	var problems []error
	for _, name := range sortedKeys(s.tables) {
		prepared := map[*Lookup][]LookupColumn{} // one of let may be several rules'
		for _, rule := range s.tables[name].Rules {
			for _, l := range rule.Lookups {
				columns, known := prepared[l]
				if !known {
					var err error
					if columns, err = prepare(l); err != nil {
						problems = append(problems, l.place.problem("%v", err))
					}
					prepared[l] = columns
				}
				for _, of := range rule.expressions {
					c := &lookupCheck{of, l.Name, columns, nil}
					if columns != nil {
						celast.PreOrderVisit(of.ast.Expr(), celast.NewExprVisitor(c.visit))
					}
					problems = append(problems, c.problems...)
				}
			}
		}
	}
	return errors.Join(inOrder(problems)...)
}

// lookupCheck finds what an expression asks of a lookup that it does not have.
type lookupCheck struct {
	*expression
	lookup   string
	columns  []LookupColumn
	problems []error
}

func (c *lookupCheck) add(e celast.Expr, format string, args ...any) {
	c.problems = append(c.problems, c.problem(e, fmt.Sprintf(format, args...)))
}

func (c *lookupCheck) visit(e celast.Expr) {
	if e.Kind() == celast.SelectKind && lookupOf(e.AsSelect().Operand()) == c.lookup && c.column(e) == nil {
		var names []string
		for _, column := range c.columns {
			names = append(names, column.Name)
		}
		name := e.AsSelect().FieldName()
		c.add(e, "lookup %s has no column %q%s", c.lookup, name, didYouMean(name, names))
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
				c.add(arg, "lookup.%s.%s is %s, and no condition", c.lookup, column.Name, column.Kind)
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
		c.add(column, "lookup.%s.%s is %s: write timestamp(lookup.%s.%s%s)", c.lookup, found.Name, kind, c.lookup, found.Name, rest)
	default:
		c.add(column, "lookup.%s.%s is %s, and is compared with %s", c.lookup, found.Name, kind, is)
	}
}

// column returns the lookup's column that an expression is; nil if it is none.
func (c *lookupCheck) column(e celast.Expr) *LookupColumn {
	if e.Kind() != celast.SelectKind || lookupOf(e.AsSelect().Operand()) != c.lookup {
		return nil
	}
	i := slices.IndexFunc(c.columns, func(column LookupColumn) bool { return column.Name == e.AsSelect().FieldName() })
	if i < 0 {
		return nil
	}
	return &c.columns[i]
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
