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
	unused      []unusedName
	observing   []*Rule
	mistaken    bool // it has mistakes, and is only examined
}

// Decide returns the policy of an operation's table, or the rejection if there is
// none or it does not allow the operation. For a table that the catalogue had when
// the set was compiled, it returns the same pointer each time.
func (s *Set) Decide(op upload.Operation) (*Table, *upload.Rejection) {
	table, reason := s.table(op.Table)
	name := upload.Short(op.Table)
	rejection := func(message, reason string) *upload.Rejection {
		return &upload.Rejection{Code: upload.Unauthorized, Message: message, Details: map[string]any{"table": name, "reason": reason}}
	}
	switch {
	case table == nil:
		return nil, rejection(fmt.Sprintf("writes to table %q are not allowed", name), reason)
	case !table.allow.appliesTo(op.Op):
		return nil, rejection(fmt.Sprintf("%s of table %q is not allowed", deeds[op.Op], name), fmt.Sprintf("this was a %s, and the table's policy allows %s", op.Op, table.allowed()))
	}
	return table, nil
}

// deeds say to a device's user what an operation does.
var deeds = map[upload.Op]string{
	upload.Put: "adding a row", upload.Patch: "changing a row", upload.Delete: "deleting a row",
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

// OpensNoTable reports whether every write is rejected, because there is no policy of a
// table. A folder may say so on purpose: tables: {}.
func (s *Set) OpensNoTable() bool { return len(s.tables) == 0 }

// Opens reports whether there is a policy for a table of the transaction.
func (s *Set) Opens(t upload.Transaction) bool {
	return slices.ContainsFunc(t.Operations, func(op upload.Operation) bool {
		table, _ := s.table(op.Table)
		return table != nil
	})
}

// table returns the policy of a client's table, or the reason why there is none.
func (s *Set) table(name string) (table *Table, reason string) {
	if table = s.tables[name]; table != nil && table != s.rest {
		return table, ""
	}
	if s.rest == nil {
		return nil, "no policy names the table"
	}
	if reason, closed := s.closed[name]; closed {
		return nil, reason
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
func (s *Set) Unused() (warnings []error) {
	for _, u := range s.unused {
		warnings = append(warnings, u.place.problem("no expression uses %s: remove it, or correct the name where it is meant", u.name))
	}
	return inOrder(warnings)
}

// Transaction checks the rules over a whole transaction that need only what was sent. An
// error means that a rule failed to evaluate, or that ctx has ended.
func (s *Set) Transaction(ctx context.Context, in *TransactionInput) (*upload.Rejection, error) {
	in.trace = traceOf(ctx)
	for _, r := range s.transaction {
		if r.followsWrites() {
			continue
		}
		if rejection, err := r.Check(ctx, &Input{Operation: -1, TransactionInput: in}); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// AfterWrites returns the other rules over a whole transaction, which are evaluated on the
// rows as they will be: not those that what was sent skips already.
func (s *Set) AfterWrites(ctx context.Context, in *TransactionInput) (rules []*Rule, err error) {
	for _, r := range s.transaction {
		if !r.followsWrites() {
			continue
		}
		skips, err := r.Skips(ctx, &Input{Operation: -1, TransactionInput: in}, nil)
		if err != nil {
			return nil, err
		}
		if !skips {
			rules = append(rules, r)
		}
	}
	return rules, nil
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
	observing := ""
	if n := len(s.observing); n > 0 {
		observing = fmt.Sprintf(", of which %d only observe", n)
	}
	count := func(n int, noun string) string {
		if n == 1 {
			return "1 " + noun
		}
		return fmt.Sprintf("%d %ss", n, noun)
	}
	return count(len(s.tables), "table") + ", " + count(rules, "rule") + observing
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
			closed[t.History.Name] = fmt.Sprintf("the table keeps the history of %q", name)
		}
	}
	for table, names := range clients {
		closed[table] = "clients know the table as " + strings.Join(names, " and ")
	}
	return closed
}
