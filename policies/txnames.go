package policies

import (
	"fmt"
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"postern/service/catalog"
)

// transactionNames checks the tables and columns that expressions look for in tx. A table
// that no policy opens never is in a transaction that passes.
type transactionNames struct {
	*compiler
	set *Set
}

// checkNames checks the tables and columns of tx. It does not if a file could not be read,
// which may have them.
func (c *compiler) checkNames(s *Source, set *Set) {
	if slices.ContainsFunc(s.files, func(f sourceFile) bool { return f.at == nil }) {
		return
	}
	n := &transactionNames{c, set}
	n.check()
}

func (n *transactionNames) check() {
	for _, r := range n.set.transaction {
		n.rule(r)
	}
	for _, name := range sortedKeys(n.set.tables) {
		t := n.set.tables[name]
		for _, r := range t.Rules {
			n.rule(r)
		}
		for i := range t.Assignments {
			for _, e := range t.Assignments[i].expressions() {
				n.expression(e)
			}
		}
	}
}

func (n *transactionNames) rule(r *Rule) {
	for _, e := range r.expressions {
		n.expression(e)
	}
}

func (n *transactionNames) expression(of *expression) {
	if of == nil { // it has a mistake
		return
	}
	add := func(e celast.Expr, format string, args ...any) {
		n.add(of.problem(e, fmt.Sprintf(format, args...)))
	}
	isOperation := func(e celast.Expr) bool { return of.ast.GetType(e.ID()).TypeName() == operationType }
	table := func(e celast.Expr) {
		if name, ok := textOf(e); ok && !n.opens(name) {
			add(e, "no policy opens a table %q, so no transaction has it%s", name, didYouMean(name, n.set.Tables()))
		}
	}
	celast.PreOrderVisit(of.ast.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch {
		case functionName(e) == "of":
			args := e.AsCall().Args()
			table(args[0])
			name, ok := textOf(args[0])
			if column, isText := textOf(args[min(1, len(args)-1)]); ok && isText && len(args) == 3 && column != "id" && n.opens(name) && !n.hasColumn(name, column) {
				add(args[1], "table %q has no column %q%s", name, column, didYouMean(column, n.columns(name)))
			}
		case slices.Contains([]string{operators.Equals, operators.NotEquals, operators.In}, functionName(e)):
			for i, arg := range e.AsCall().Args() {
				other := e.AsCall().Args()[1-i]
				if arg.Kind() != celast.SelectKind || arg.AsSelect().FieldName() != "table" || !isOperation(arg.AsSelect().Operand()) {
					continue
				}
				table(other)
				if other.Kind() == celast.ListKind {
					for _, element := range other.AsList().Elements() {
						table(element)
					}
				}
			}
		case e.Kind() == celast.SelectKind:
			data, column := e.AsSelect().Operand(), e.AsSelect().FieldName()
			if data.Kind() == celast.SelectKind && data.AsSelect().FieldName() == "data" && isOperation(data.AsSelect().Operand()) && !n.anyHasColumn(column) {
				add(e, "no table has a column %q%s", column, didYouMean(column, n.allColumns()))
			}
		}
	}))
}

// opens reports whether a policy opens a client's table. That the database does not have
// the table of a policy is a mistake of that policy.
func (n *transactionNames) opens(name string) bool {
	table, _ := n.set.table(name)
	return table != nil && (n.set.tables[name] != nil || n.snapshot.Table(table.Schema, table.Name) != nil)
}

// columns are the clients' names of a table's columns.
func (n *transactionNames) columns(name string) (list []string) {
	policy, _ := n.set.table(name)
	var table *catalog.Table
	if policy != nil {
		table = n.snapshot.Table(policy.Schema, policy.Name)
	}
	if table == nil {
		return nil
	}
	for _, column := range columnNames(table) {
		list = append(list, policy.ClientName(column))
	}
	return list
}

func (n *transactionNames) hasColumn(name, column string) bool {
	policy, _ := n.set.table(name)
	return policy.IgnoreUnknown || n.snapshot.Table(policy.Schema, policy.Name) == nil || slices.Contains(n.columns(name), column)
}

func (n *transactionNames) anyHasColumn(column string) bool {
	if n.set.rest != nil {
		return true
	}
	return slices.ContainsFunc(n.set.Tables(), func(name string) bool { return n.hasColumn(name, column) })
}

func (n *transactionNames) allColumns() (list []string) {
	for _, name := range n.set.Tables() {
		list = append(list, n.columns(name)...)
	}
	return list
}
