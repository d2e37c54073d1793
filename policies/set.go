package policies

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

// Set is a folder of policies, compiled against the tables of a database. A Set and
// all that it holds never change; it is safe for concurrent use.
type Set struct {
	SHA256 string // of the policy files, in hexadecimal

	tables      map[string]*Table // by the client's name
	rest        *Table            // the policy named "*"; nil if there is none
	open        map[string]*Table // rest for each table of schema public, by name
	closed      map[string]string // tables of schema public that rest does not open, with the message for clients
	transaction []*Rule
	code        []CodeRule
	rate        *Rate // of all tables together; nil if there is none
	rated       bool  // there is some rate
	unused      []error
}

// Decide returns the policy of an operation's table, or the rejection if there is
// none or it does not allow the operation. For a table that the catalogue had when
// the set was compiled, it returns the same pointer each time.
func (s *Set) Decide(op upload.Operation) (*Table, *upload.Rejection) {
	table, message := s.table(op.Table)
	switch {
	case table == nil:
		return nil, &upload.Rejection{Code: upload.Unauthorized, Message: message}
	case !table.allow.appliesTo(op.Op):
		return nil, &upload.Rejection{Code: upload.Unauthorized,
			Message: fmt.Sprintf("%s is not allowed on table %q: its policy allows %s", op.Op, upload.Short(op.Table), table.allowed())}
	}
	return table, nil
}

// ClientTable returns the name by which clients know a table, and its policy; nil if they
// do not know it. Of several names, it is the table's own, or else the first.
func (s *Set) ClientTable(table *catalog.Table) (name string, policy *Table) {
	is := func(t *Table) bool {
		return t != nil && t != s.rest && t.Schema == table.Schema && t.Name == table.Name
	}
	if t := s.tables[table.Name]; is(t) {
		return table.Name, t
	}
	for _, name := range sortedKeys(s.tables) {
		if t := s.tables[name]; is(t) {
			return name, t
		}
	}
	if t := s.open[table.Name]; is(t) && s.closed[table.Name] == "" {
		return table.Name, t
	}
	return "", nil
}

// Opens reports whether there is a policy for a table of the transaction.
func (s *Set) Opens(t upload.Transaction) bool {
	return slices.ContainsFunc(t.Operations, func(op upload.Operation) bool {
		table, _ := s.table(op.Table)
		return table != nil
	})
}

// table returns the policy of a client's table, or the message that says why there
// is none.
func (s *Set) table(name string) (table *Table, message string) {
	if table = s.tables[name]; table != nil && table != s.rest {
		return table, ""
	}
	if s.rest == nil {
		return nil, fmt.Sprintf("writes to table %q are not allowed: no policy names the table", upload.Short(name))
	}
	if message, closed := s.closed[name]; closed {
		return nil, message
	}
	if table = s.open[name]; table == nil {
		table = s.rest.named(name) // the database may have got it since
	}
	return table, ""
}

// openTables makes the policy of each table of schema public that "*" may open.
func (s *Set) openTables(snapshot *catalog.Snapshot) {
	if s.rest == nil {
		return
	}
	s.open = map[string]*Table{}
	for _, table := range snapshot.Tables() {
		if table.Schema == "public" {
			s.open[table.Name] = s.rest.named(table.Name)
		}
	}
}

// Unused lists what the policies define and no expression uses, with file, line and
// column.
func (s *Set) Unused() []error { return inOrder(slices.Clone(s.unused)) }

// Transaction checks the rules over a whole transaction. An error means that a rule
// failed to evaluate, or that ctx has ended.
func (s *Set) Transaction(ctx context.Context, in *TransactionInput) (*upload.Rejection, error) {
	in.trace = traceOf(ctx)
	for _, r := range s.transaction {
		if rejection, err := r.Check(ctx, &Input{Operation: -1, TransactionInput: in}); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// CodeRules returns the rules in Go that check a transaction.
func (s *Set) CodeRules(t upload.Transaction) (rules []CodeRule) {
	for _, r := range s.code {
		if slices.ContainsFunc(t.Operations, func(op upload.Operation) bool { return slices.Contains(r.Tables, op.Table) }) {
			rules = append(rules, r)
		}
	}
	return rules
}

// WithoutRules returns a set that maps a client's tables, columns and ids as s does
// and forbids nothing. The team replays a rejected write by it. Tables that s does
// not open stay closed.
func (s *Set) WithoutRules() *Set {
	bare := &Set{SHA256: s.SHA256, tables: make(map[string]*Table, len(s.tables))}
	for name, t := range s.tables {
		bare.tables[name] = t.withoutRules()
	}
	if s.rest != nil {
		bare.rest, bare.open = bare.tables["*"], make(map[string]*Table, len(s.open))
		for name := range s.open {
			bare.open[name] = bare.rest.named(name)
		}
	}
	return bare
}

// Everything returns the set without rules, in which every table of schema public is
// open: for the rows that a policy's test gives.
func (s *Set) Everything() *Set {
	bare := s.WithoutRules()
	if bare.rest == nil {
		bare.rest = &Table{Schema: "public", Bare: true, Separator: ":", allow: allActions}
	}
	return bare
}

// String counts the set's tables and rules: "2 tables, 5 rules".
func (s *Set) String() string {
	rules := len(s.transaction) + len(s.code)
	for _, t := range s.tables {
		rules += len(t.Rules)
	}
	count := func(n int, noun string) string {
		if n == 1 {
			return "1 " + noun
		}
		return fmt.Sprintf("%d %ss", n, noun)
	}
	return count(len(s.tables), "table") + ", " + count(rules, "rule")
}

// closedTables returns the tables of schema public that "*" must not open, each with
// the message for a client that writes to it: tables that another policy maps, and
// history tables. If "*" opened them, clients could bypass those policies.
func (s *Set) closedTables() map[string]string {
	closed, clients := map[string]string{}, map[string][]string{}
	for _, name := range sortedKeys(s.tables) {
		t := s.tables[name]
		if name != "*" && t.Schema == "public" {
			clients[t.Name] = append(clients[t.Name], fmt.Sprintf("%q", name))
		}
		if t.History != nil && t.History.Schema == "public" {
			closed[t.History.Name] = fmt.Sprintf("writes to table %q are not allowed: it keeps the history of %q", t.History.Name, name)
		}
	}
	for table, names := range clients {
		closed[table] = fmt.Sprintf("writes to table %q are not allowed under that name: clients know it as %s", table, strings.Join(names, " and "))
	}
	return closed
}
