package policies

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"postern/service/catalog"
	"postern/service/upload"
)

// EachColumn is a column of a rule over whole transactions. The rule is evaluated for each
// value that its columns have in rows that a transaction writes, such as the ids of the
// expenses that it writes and the expense_ids of their items: for each expense that may
// no longer add up.
type EachColumn struct {
	Schema, Table, Column string

	table  *catalog.Table
	column *catalog.Column
	place  place
}

// eachKinds are the types of values for each, by those of their columns: what SQL reads them
// as. Each value has one text, by which writers of the same one wait for each other.
var eachKinds = map[string]string{"uuid": "uuid", "text": "text", "varchar": "text", "int2": "int8", "int4": "int8", "int8": "int8"}

// Find finds the column. The error says that the database has lost it since the policies
// were compiled.
func (e *EachColumn) Find(tables *catalog.Snapshot) (*catalog.Table, *catalog.Column, error) {
	table := tables.Table(e.Schema, e.Table)
	if table == nil || table.Column(e.Column) == nil {
		return nil, nil, &RuleError{Rule: e.place.position(), Err: fmt.Errorf("the database no longer has %s.%s.%s: restore it, or change the policy", e.Schema, e.Table, e.Column), External: true}
	}
	return table, table.Column(e.Column), nil
}

// EachSQL is a value for each, a text, as a value of its column's type.
func (r *Rule) EachSQL(text string) string {
	return "(" + text + ")::pg_catalog." + eachKinds[r.Each[0].column.Type.Name]
}

// EachValue is a value for each, a text, as expressions see it.
func (r *Rule) EachValue(text string) (ref.Val, error) {
	return FromText(r.Each[0].column.Type, []byte(text))
}

// followsWrites reports whether a rule over whole transactions is evaluated after the
// writes.
func (r *Rule) followsWrites() bool { return len(r.Each) > 0 || len(r.Lookups) > 0 }

// tooManyRows is the rejection of a write for which a lookup has more rows than the rule
// may go through.
func (r *Rule) tooManyRows(lookup string) *upload.Rejection {
	return &upload.Rejection{
		Code: upload.RuleFailed, Rule: r.Name, Operation: -1, ClientHandling: r.ClientHandling,
		Message: "this change concerns more rows than can be checked",
		Details: map[string]any{"reason": fmt.Sprintf("lookup %s of rule %s has more than %d rows", lookup, r.Name, MaxRows)},
	}
}

// transactionRules compiles the rules over whole transactions, with the lets of files that
// they use.
func (c *compiler) transactionRules(s *Source) {
	for i := range s.files {
		list, at := s.files[i].content.Transaction.Rules, s.files[i].place("transaction")
		if len(list) == 0 {
			continue
		}
		shared, err := c.lets(tableRule{Rules: list}, nil, at)
		if err != nil {
			c.add(err)
			continue
		}
		c.set.transaction = append(c.set.transaction, c.rules(list, shared, at)...)
	}
}

// withEach returns the scope of a rule. A rule over whole transactions may look at lookup,
// and at each if it has columns for it.
func (c *compiler) withEach(r ruleRule, s scope, at place) scope {
	if s.table != nil {
		if len(r.Each) > 0 {
			c.add(at.in("each").problem("each is for rules under transaction: remove it, or move the rule"))
		}
		return s
	}
	variables := []cel.EnvOption{cel.Variable("lookup", cel.MapType(cel.StringType, cel.DynType))}
	if s.each, s.hasEach = c.each(r, at), len(r.Each) > 0; len(s.each) > 0 {
		variables = append(variables, cel.Variable("each", valueType(s.each[0].column.Type)))
	} else if s.hasEach {
		variables = append(variables, cel.Variable("each", cel.DynType))
	}
	env, err := s.env.Extend(variables...)
	if err != nil {
		c.add(at.problem("%v", err))
		return s
	}
	s.env = env
	return s
}

// each compiles the columns of a rule, and checks that their values can be compared.
func (c *compiler) each(r ruleRule, at place) (columns []EachColumn) {
	for _, name := range sortedKeys(r.Each) {
		at := at.in("each", name)
		policy, _ := c.set.table(name)
		var table *catalog.Table
		if policy != nil {
			table = c.snapshot.Table(policy.Schema, policy.Name)
		}
		if table == nil {
			c.add(at.problem("no policy opens a table %q, so no transaction writes it%s", name, didYouMean(name, c.set.Tables())))
			continue
		}
		column := c.column(table, r.Each[name], at)
		switch {
		case column == nil:
			continue
		case !column.Type.Known || eachKinds[column.Type.Name] == "":
			c.add(at.problem("%s.%s is %s: a column of each is a uuid, a text or a whole number", table, column.Name, column.TypeName))
			continue
		case len(columns) > 0 && eachKinds[columns[0].column.Type.Name] != eachKinds[column.Type.Name]:
			first := columns[0]
			c.add(at.problem("%s.%s is %s, and %s.%s is %s: the columns of each must have the same type", table, column.Name, column.TypeName, first.table, first.Column, first.column.TypeName))
			continue
		}
		columns = append(columns, EachColumn{table.Schema, table.Name, column.Name, table, column, at})
	}
	return columns
}
