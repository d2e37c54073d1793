package policies

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Set is a folder of policies, compiled against the tables of a database. It does
// not change, but for what Wait takes out of its users' allowances, and may be
// shared.
type Set struct {
	SHA256 string

	tables      map[string]*Table // by the client's name
	rest        *Table            // the table named "*"; nil when there is none
	taken       map[string]string // the tables of schema public that rest does not open, and why
	transaction []*Rule
	code        []CodeRule
	rate        *Rate
	rated       bool // some table has a rate, or all together have
	charges     charges
}

// Table is the policy of one table.
type Table struct {
	Schema, Name  string            // where it lives in Postgres
	Columns       map[string]string // client column: database column, where they differ
	IgnoreUnknown bool              // columns that the table does not have are left out
	RejectMissing bool              // a PATCH of a row that does not exist is rejected, not ignored
	ID            []string          // the database columns that a client's id is made of; empty is the primary key
	Separator     string            // between the parts of such an id
	Put           PutMode
	SoftDelete    string                    // the database column that a DELETE sets; empty deletes the row
	Epoch         map[string]value.TimeUnit // database columns whose numbers are times since 1970
	Owner         string                    // the column that holds the user's sub; empty where there is none
	Assignments   []Assignment
	Immutable     []string // columns that keep their first value
	Writable      []string // the only columns that clients may send; nil is all
	Conflict      Conflict
	History       *History // nil where none is kept
	Rules         []*Rule
	Rate          *Rate

	allow  []upload.Op
	client []upload.Code // codes that are the client's to decide
	named  []string      // the columns that must be there
	place  place
}

// PutMode says what a PUT does to a row that exists.
type PutMode string

// The three modes.
const (
	Merge   PutMode = "merge"   // sets the columns that were sent
	Replace PutMode = "replace" // sets those, and all others to their defaults
	Insert  PutMode = "insert"  // is rejected as a UNIQUE_VIOLATION
)

// Column is the database's name of a client's column. One that has another name
// to clients has no second one: rules over transactions look at the client's
// names, and would not see it. What is returned then is no column.
func (t *Table) Column(client string) string {
	if name, ok := t.Columns[client]; ok {
		return name
	}
	for name, column := range t.Columns {
		if column == client {
			return client + " (" + name + " to clients)"
		}
	}
	return client
}

// Fits checks that a table still has the columns that the policy names: it may
// have changed since the policy was compiled, in a way that keeps the policies
// from being compiled again.
func (t *Table) Fits(table *catalog.Table) error {
	for _, column := range t.named {
		if table.Column(column) == nil {
			return &Failed{t.place.position(), fmt.Errorf("%s has no column %q any more", table, column)}
		}
	}
	return nil
}

// Key are the columns that a client's id is made of.
func (t *Table) Key(table *catalog.Table) []string {
	if len(t.ID) > 0 {
		return t.ID
	}
	return table.PrimaryKey
}

// Plain reports whether all operations alike on the table are made alike: nothing
// depends on who makes them or on previous values, and nothing is kept of them.
func (t *Table) Plain() bool {
	return t.Owner == "" && len(t.Immutable) == 0 && t.Conflict.Strategy == NoStrategy && t.History == nil
}

// Evaluates reports whether any expression looks at the table's operations.
func (t *Table) Evaluates() bool { return len(t.Rules)+len(t.Assignments) > 0 }

// Directed reports whether a rejection with this code is the client's to decide
// about.
func (t *Table) Directed(code upload.Code) bool { return slices.Contains(t.client, code) }

// compiler turns a Source into a Set, and collects all that is wrong with it.
type compiler struct {
	snapshot *catalog.Snapshot
	problems []error
}

// Compile holds the policies against the tables of a database. The error lists
// all problems found, with file, line and column.
func (s *Source) Compile(snapshot *catalog.Snapshot) (*Set, error) {
	c := &compiler{snapshot: snapshot}
	set := &Set{SHA256: s.SHA256, tables: map[string]*Table{}}
	for i := range s.files {
		f := &s.files[i]
		for _, name := range sortedKeys(f.content.Tables) {
			at := f.place("tables", name)
			if other := set.tables[name]; other != nil {
				c.add(at.problem("the table is already defined at %s", other.place.position()))
				continue
			}
			set.tables[name] = c.table(name, f.content.Tables[name], at)
		}
		set.transaction = append(set.transaction, c.rules(f.content.Transaction.Rules, nil, f.place("transaction"))...)
		if f.content.Rate != nil {
			if set.rate != nil {
				c.add(f.place("rate").problem("there is already a rate for all tables"))
			}
			set.rate = c.rate(f.content.Rate, f.place("rate"))
		}
	}
	set.rest, set.taken = set.tables["*"], set.named()
	set.code = s.code
	for _, r := range s.code {
		for _, name := range r.Tables {
			if set.tables[name] == nil && set.rest == nil {
				c.add(fmt.Errorf("rule %s, in Go: no policy opens table %q%s", r.Name, name, didYouMean(name, sortedKeys(set.tables))))
			}
		}
	}
	set.rated = set.rate != nil
	for _, t := range set.tables {
		set.rated = set.rated || t.Rate != nil
	}
	return set, errors.Join(inOrder(c.problems)...)
}

// named are the tables of schema public that named policies stand for or keep
// their history in, each with what a client is told that sends that name. Were
// they open under "*" as well, it would be a way around those policies.
func (s *Set) named() map[string]string {
	taken, clients := map[string]string{}, map[string][]string{}
	for _, name := range sortedKeys(s.tables) {
		t := s.tables[name]
		if name != "*" && t.Schema == "public" {
			clients[t.Name] = append(clients[t.Name], strconv.Quote(name))
		}
		if t.History != nil && t.History.Schema == "public" {
			taken[t.History.Name] = fmt.Sprintf("table %q keeps the history of %q, and is not open to clients", t.History.Name, name)
		}
	}
	for table, names := range clients {
		taken[table] = fmt.Sprintf("table %q is open to clients as %s", table, strings.Join(names, " and "))
	}
	return taken
}

func (c *compiler) add(err error) { c.problems = append(c.problems, err) }

func (c *compiler) table(name string, r tableRule, at place) *Table {
	t := &Table{
		Schema: "public", Name: name, Columns: r.Columns, allow: c.allowed(r.Allow, at), place: at,
		ID: r.ID, Separator: cmp.Or(r.Separator, ":"), SoftDelete: r.SoftDelete,
		Owner: r.Owner, Immutable: r.Immutable, Writable: r.Writable,
	}
	for i, code := range r.Client {
		if !codeForm.MatchString(code) {
			c.add(at.in("client", i).problem("%q is not a code: write one like FOREIGN_KEY_VIOLATION", code))
		}
		t.client = append(t.client, upload.Code(code))
	}
	if r.Separator != "" && len(r.ID) < 2 {
		c.add(at.in("separator").problem("it stands between the columns of id: [a, b]"))
	}
	t.IgnoreUnknown = c.choice(at.in("unknown_columns"), r.UnknownColumns, "reject", "ignore") == "ignore"
	t.RejectMissing = c.choice(at.in("on_missing"), r.OnMissing, "ignore", "reject") == "reject"
	t.Put = PutMode(c.choice(at.in("put"), string(r.Put), string(Merge), string(Replace), string(Insert)))
	t.Epoch = c.epochs(r.Epoch, at.in("epoch"))
	if r.Rate != nil {
		t.Rate = c.rate(r.Rate, at.in("rate"))
	}
	if name == "*" {
		c.everyTable(r, at)
		return t
	}
	if r.Table != "" {
		schema, bare, ok := strings.Cut(r.Table, ".")
		if !ok {
			schema, bare = "public", r.Table
		}
		t.Schema, t.Name = schema, bare
	}
	if t.Schema == "postern" {
		c.add(at.in("table").problem("schema postern is Postern's own and closed to clients"))
		return t
	}
	table := c.snapshot.Table(t.Schema, t.Name)
	if table == nil {
		c.add(at.problem("the database has no table %s.%s: create it, or say where it is with table: schema.name", t.Schema, t.Name))
		return t
	}
	c.columns(t, r, table, at)
	c.expressions(t, r, table, at)
	t.Conflict = c.conflict(r.Conflict, t, table, at.in("conflict"))
	t.History = c.history(r.History, at.in("history"))
	t.named = slices.Concat(t.ID, t.Immutable, t.Conflict.Columns, sortedKeys(t.Epoch))
	for _, a := range t.Assignments {
		t.named = append(t.named, a.Column)
	}
	for _, column := range []string{t.Owner, t.SoftDelete} {
		if column != "" {
			t.named = append(t.named, column)
		}
	}
	return t
}

func (c *compiler) epochs(said map[string]string, at place) map[string]value.TimeUnit {
	units := make(map[string]value.TimeUnit, len(said))
	for _, column := range sortedKeys(said) {
		units[column] = value.Seconds
		if c.choice(at.in(column), said[column], "s", "ms") == "ms" {
			units[column] = value.Milliseconds
		}
	}
	return units
}

// allowed are the operations that a table is open to.
func (c *compiler) allowed(a allowed, table place) []upload.Op {
	switch {
	case a.word == "all":
		return []upload.Op{upload.Put, upload.Patch, upload.Delete}
	case a.word != "":
		c.add(table.in("allow").problem("%q is neither all nor a list of put, patch and delete", a.word))
	case len(a.ops) == 0:
		c.add(table.problem("allow is required: all, or a list of put, patch and delete"))
	}
	return c.operations(a.ops, table.in("allow"))
}

func (c *compiler) operations(words opList, at place) (ops []upload.Op) {
	for i, word := range words {
		op := upload.Op(strings.ToUpper(word))
		if strings.ToLower(word) != word || !slices.Contains([]upload.Op{upload.Put, upload.Patch, upload.Delete}, op) {
			c.add(at.in(i).problem("%q is not one of put, patch, delete", word))
			continue
		}
		ops = append(ops, op)
	}
	return ops
}

// choice is one of the words, the first where nothing was said.
func (c *compiler) choice(at place, said string, words ...string) string {
	if said == "" {
		return words[0]
	}
	if !slices.Contains(words, said) {
		c.add(at.problem("%q is not one of %s", said, strings.Join(words, ", ")))
	}
	return said
}

// everyTable allows of a policy for all tables only what needs no table.
func (c *compiler) everyTable(r tableRule, at place) {
	if r.Because == "" {
		c.add(at.problem(`opening every table needs a reason: because: "RLS decides"`))
	}
	for key, said := range map[string]bool{
		"table": r.Table != "", "columns": r.Columns != nil, "id": r.ID != nil, "soft_delete": r.SoftDelete != "", "epoch": r.Epoch != nil,
		"owner": r.Owner != "", "set": r.Set != nil, "defaults": r.Defaults != nil, "immutable": r.Immutable != nil, "writable": r.Writable != nil,
		"conflict": !r.Conflict.empty(), "history": r.History != "", "rules": r.Rules != nil,
	} {
		if said {
			c.add(at.in(key).problem("this is of one table, not of all"))
		}
	}
}

// columns checks that the columns a policy names are there.
func (c *compiler) columns(t *Table, r tableRule, table *catalog.Table, at place) {
	check := func(column string, path ...any) *catalog.Column {
		found := table.Column(column)
		if found == nil {
			c.add(at.in(path...).problem("%s has no column %q%s", table, column, didYouMean(column, columnNames(table))))
		}
		return found
	}
	for _, client := range sortedKeys(t.Columns) {
		check(t.Columns[client], "columns", client)
	}
	for i, column := range t.ID {
		check(column, "id", i)
	}
	if len(t.ID) == 0 && len(table.PrimaryKey) != 1 {
		c.add(at.problem("%s has a primary key of %d columns: say which columns a client's id is made of with id: [a, b]", table, len(table.PrimaryKey)))
	}
	if key := t.Key(table); t.Put != Insert && slices.Contains(t.allow, upload.Put) && len(key) > 0 &&
		!slices.ContainsFunc(key, func(name string) bool { return table.Column(name) == nil }) && !table.Arbiter(key) {
		c.add(at.problem("%s has no unique index over %s alone that is checked at once, which a PUT needs to tell whether the row exists: make the key not deferrable, or allow put: insert",
			table, strings.Join(key, ", ")))
	}
	for i, column := range t.Immutable {
		check(column, "immutable", i)
	}
	for i, column := range t.Writable {
		check(column, "writable", i)
	}
	if t.Owner != "" {
		switch column := check(t.Owner, "owner"); {
		case column == nil:
		case column.Generated:
			c.add(at.in("owner").problem("%s.%s is generated by the database", table, column.Name))
		case !holdsSubject(column):
			c.add(at.in("owner").problem("%s.%s is %s: a user's sub is a uuid or text, or a whole number at times", table, column.Name, column.TypeName))
		}
	}
	if t.SoftDelete != "" {
		if column := check(t.SoftDelete, "soft_delete"); column != nil && column.Type.Name != "bool" && !holdsMoment(column) {
			c.add(at.in("soft_delete").problem("%s.%s is %s: a DELETE sets true or the time", table, column.Name, column.TypeName))
		}
	}
	for _, name := range sortedKeys(t.Epoch) {
		if column := check(name, "epoch", name); column != nil && !holdsMoment(column) {
			c.add(at.in("epoch", name).problem("%s.%s is %s, which holds no moment", table, name, column.TypeName))
		}
	}
}

func holdsMoment(c *catalog.Column) bool {
	return c.Type.Name == "timestamptz" || c.Type.Name == "timestamp"
}

func holdsSubject(c *catalog.Column) bool {
	return slices.Contains([]string{"uuid", "text", "varchar", "bpchar", "citext", "int4", "int8"}, c.Type.Name)
}

func columnNames(table *catalog.Table) []string {
	names := make([]string, len(table.Columns))
	for i := range table.Columns {
		names[i] = table.Columns[i].Name
	}
	return names
}
