package policies

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// compiler turns a Source into a Set and collects the mistakes it finds.
type compiler struct {
	snapshot *catalog.Snapshot
	set      *Set
	problems []error
	base     scope // what every expression can use
	names    *names
	unused   []unusedName
}

// add adds a mistake, or several. Tables that share a let share its mistakes.
func (c *compiler) add(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			c.add(err)
		}
		return
	}
	if !slices.ContainsFunc(c.problems, func(other error) bool { return other.Error() == err.Error() }) {
		c.problems = append(c.problems, err)
	}
}

// Compile checks the policies against the tables of a database. The error lists all
// mistakes, with file, line and column.
func (s *Source) Compile(snapshot *catalog.Snapshot) (*Set, error) {
	set, problems := s.examine(snapshot, nil)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return set, nil
}

// examine compiles what it can. formProblems are those that reading the files has found;
// problems are all, in order. If there are some, the set is for Warnings and CheckLookups
// alone.
func (s *Source) examine(snapshot *catalog.Snapshot, formProblems []error) (set *Set, problems []error) {
	set = &Set{SHA256: s.SHA256, tables: map[string]*Table{}, code: s.code}
	c := &compiler{snapshot: snapshot, set: set}
	if err := c.defineNames(s.files); err != nil {
		return set, append(formProblems, err)
	}
	for i := range s.files {
		f := &s.files[i]
		for _, name := range sortedKeys(f.content.Tables) {
			at := f.place("tables", name)
			if other := set.tables[name]; other != nil {
				c.add(at.problem("the table already has a policy at %s: keep one of the two", other.place.position()))
				continue
			}
			set.tables[name] = c.table(name, f.content.Tables[name], at)
		}
		if f.content.Rate != nil {
			if set.rate != nil {
				c.add(f.place("rate").problem("another file has a rate for all tables: keep one of the two"))
			}
			set.rate = c.rate(f.content.Rate, f.place("rate"))
		}
	}
	c.shareSoftDelete(set)
	set.rest, set.closed = set.tables["*"], set.closedTables()
	set.openTables(snapshot)
	c.transactionRules(s)
	c.checkCode(set)
	c.checkNames(s, set)
	c.checkDeletes(set)
	set.findObserving()
	set.rated = set.rate != nil
	for _, t := range set.tables {
		set.rated = set.rated || t.Rate != nil
	}
	set.unused = append(c.unused, c.names.unused()...)
	problems = inOrder(append(formProblems, slices.DeleteFunc(c.problems, s.follows)...))
	if len(problems) > 0 {
		set.leaveOut(s, formProblems, problems)
	}
	return set, problems
}

// shareSoftDelete gives a soft delete to all policies of the same table in Postgres.
// Otherwise clients could set its column, or delete the row, under another name.
func (c *compiler) shareSoftDelete(set *Set) {
	first := map[string]*Table{}
	for _, name := range sortedKeys(set.tables) {
		t := set.tables[name]
		other := first[t.Schema+"."+t.Name]
		switch {
		case t.SoftDelete == "":
		case other == nil:
			first[t.Schema+"."+t.Name] = t
		case other.SoftDelete != t.SoftDelete:
			c.add(t.place.in("soft_delete").problem("the policy at %s has %q for the same table in Postgres: name one column in both", other.place.position(), other.SoftDelete))
		}
	}
	for _, t := range set.tables {
		if other := first[t.Schema+"."+t.Name]; other != nil && t.Named && t.SoftDelete == "" {
			t.SoftDelete = other.SoftDelete
			t.required = append(t.required, t.SoftDelete)
		}
	}
}

// checkCode checks that the tables of the rules in Go have a policy.
func (c *compiler) checkCode(set *Set) {
	for _, r := range set.code {
		for _, name := range r.Tables {
			if set.tables[name] == nil && set.rest == nil {
				c.add(fmt.Errorf("rule %s, in Go: no policy names table %q%s", r.Name, name, didYouMean(name, sortedKeys(set.tables))))
			}
		}
	}
}

func (c *compiler) table(name string, r tableRule, at place) *Table {
	t := &Table{
		Schema: "public", Name: name, Named: name != "*", Columns: r.Columns, place: at,
		ID: r.ID, Separator: cmp.Or(r.Separator, ":"), SoftDelete: r.SoftDelete,
		Owner: r.Owner, Immutable: r.Immutable, Writable: r.Writable, client: c.codes(r.Client, at.in("client")),
	}
	if r.Separator != "" && len(r.ID) < 2 {
		c.add(at.in("separator").problem("a separator needs an id of several columns: add id: [a, b], or remove it"))
	}
	t.IgnoreUnknown = c.choice(at.in("unknown_columns"), r.UnknownColumns, "reject", "ignore") == "ignore"
	t.RejectMissing = c.choice(at.in("on_missing"), r.OnMissing, "ignore", "reject") == "reject"
	c.allowed(t, r, at)
	t.Epoch = c.epochs(r.Epoch, at.in("epoch"))
	if r.Rate != nil {
		t.Rate = c.rate(r.Rate, at.in("rate"))
	}
	if name == "*" {
		c.everyTable(r, at)
		return t
	}
	table := c.find(t, r.Table, at)
	if table == nil {
		return t
	}
	c.columns(t, table, at)
	c.expressions(t, r, table, at)
	c.mode(t, r, at)
	c.messages(t, r.Messages, table, at.in("messages"))
	t.findNeeds()
	t.Conflict = c.conflict(t, r.Conflict, table, at.in("conflict"))
	t.History = c.history(r.History, at.in("history"))
	t.required = requiredColumns(t)
	return t
}

// find sets the schema and the name of a policy's table and looks it up; nil if the
// table may not be opened or does not exist.
func (c *compiler) find(t *Table, name string, at place) *catalog.Table {
	if schema, bare, ok := strings.Cut(name, "."); ok {
		t.Schema, t.Name = schema, bare
	} else if name != "" {
		t.Name = name
	}
	if t.Schema == "postern" {
		c.add(at.in("table").problem("clients cannot write to schema postern, which holds Postern's own tables: name one of your tables"))
		return nil
	}
	table := c.snapshot.Table(t.Schema, t.Name)
	if table == nil {
		c.add(at.problem("the database has no table %s.%s: create it, or name its schema and table with table: schema.name", t.Schema, t.Name))
	}
	return table
}

// requiredColumns lists the database columns without which the policy does not work.
func requiredColumns(t *Table) []string {
	columns := slices.Concat(t.ID, t.Immutable, t.Writable, t.Conflict.Columns, sortedKeys(t.Epoch))
	for _, client := range sortedKeys(t.Columns) {
		columns = append(columns, t.Columns[client])
	}
	for _, a := range t.Assignments {
		columns = append(columns, a.Column)
	}
	for _, column := range []string{t.Owner, t.SoftDelete} {
		if column != "" {
			columns = append(columns, column)
		}
	}
	return columns
}

func (c *compiler) codes(words []string, at place) (codes []upload.Code) {
	for i, code := range words {
		if !codeForm.MatchString(code) {
			c.add(at.in(i).problem("%q is not an error code: write one like FOREIGN_KEY_VIOLATION", code))
		}
		codes = append(codes, upload.Code(code))
	}
	return codes
}

func (c *compiler) epochs(words map[string]string, at place) map[string]value.TimeUnit {
	units := make(map[string]value.TimeUnit, len(words))
	for _, column := range sortedKeys(words) {
		units[column] = value.Seconds
		if c.choice(at.in(column), words[column], "s", "ms") == "ms" {
			units[column] = value.Milliseconds
		}
	}
	return units
}

// allowed sets what a table's policy allows. If it allows create and not update, a PUT
// only inserts.
func (c *compiler) allowed(t *Table, r tableRule, at place) {
	a := r.Allow
	switch {
	case a.word == "all":
		t.allow = allActions
	case a.word != "":
		c.add(at.in("allow").problem("%q is not allowed here: write all, or a list of create, update and delete", a.word))
	case len(a.ops) == 0:
		c.add(at.problem("allow is missing: write all, or a list of create, update and delete"))
	}
	t.allow |= c.actions(a.ops, at.in("allow"))
	t.Put = PutMode(c.choice(at.in("put"), string(r.Put), string(Merge), string(Replace), string(Insert)))
	if t.allow&puts == putNew {
		if r.Put != "" && t.Put != Insert {
			c.add(at.in("put").problem("allow has no update, so a PUT of a row that exists is rejected: remove put, or add update to allow"))
		}
		t.Put = Insert
	}
	if t.Put == Insert {
		t.allow &^= putStored
	}
}

// choice checks that a word is one of some; an empty word is the first of them.
func (c *compiler) choice(at place, word string, words ...string) string {
	if word == "" {
		return words[0]
	}
	if !slices.Contains(words, word) {
		c.add(at.problem("%q is not allowed here: write %s", word, orList(words)))
	}
	return word
}

func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// everyTable rejects the keys that a policy for every table cannot have.
func (c *compiler) everyTable(r tableRule, at place) {
	if r.Because == "" {
		c.add(at.problem(`opening every table needs a reason: add because: "RLS decides"`))
	}
	for key, set := range map[string]bool{
		"table": r.Table != "", "columns": r.Columns != nil, "id": r.ID != nil, "soft_delete": r.SoftDelete != "", "epoch": r.Epoch != nil,
		"owner": r.Owner != "", "let": r.Let != nil, "set": r.Set != nil, "defaults": r.Defaults != nil, "immutable": r.Immutable != nil, "writable": r.Writable != nil,
		"conflict": !r.Conflict.empty(), "messages": r.Messages != nil, "history": r.History != "", "mode": r.Mode != "", "rules": r.Rules != nil,
	} {
		if set {
			c.add(at.in(key).problem(`"*" cannot have %s, which is for one table: move it to a policy of that table`, key))
		}
	}
}

// column finds a column that the policy names.
func (c *compiler) column(table *catalog.Table, name string, at place) *catalog.Column {
	column := table.Column(name)
	if column == nil {
		c.add(at.problem("%s has no column %q%s", table, name, didYouMean(name, columnNames(table))))
	}
	return column
}

// columns checks the columns that a policy names, and their types.
func (c *compiler) columns(t *Table, table *catalog.Table, at place) {
	for _, client := range sortedKeys(t.Columns) {
		c.column(table, t.Columns[client], at.in("columns", client))
	}
	c.key(t, table, at)
	for i, column := range t.Immutable {
		c.column(table, column, at.in("immutable", i))
	}
	for i, column := range t.Writable {
		c.column(table, column, at.in("writable", i))
	}
	if t.Owner != "" {
		at := at.in("owner")
		switch column := c.column(table, t.Owner, at); {
		case column == nil:
		case column.Generated:
			c.add(at.problem("%s.%s is generated by the database: name a column that can be set", table, column.Name))
		case !holdsSubject(column):
			c.add(at.problem("%s.%s is %s: an owner column must be uuid, text or a whole number", table, column.Name, column.TypeName))
		}
	}
	if t.SoftDelete != "" {
		at := at.in("soft_delete")
		if column := c.column(table, t.SoftDelete, at); column != nil && column.Type.Name != "bool" && !holdsTime(column) {
			c.add(at.problem("%s.%s is %s: name a boolean or a timestamp, which a DELETE sets to true or to now", table, column.Name, column.TypeName))
		}
	}
	for _, name := range sortedKeys(t.Epoch) {
		at := at.in("epoch", name)
		if column := c.column(table, name, at); column != nil && !holdsTime(column) {
			c.add(at.problem("%s.%s is %s: epoch is for timestamps", table, name, column.TypeName))
		}
	}
}

// key checks the columns that a client's id consists of.
func (c *compiler) key(t *Table, table *catalog.Table, at place) {
	for i, column := range t.ID {
		c.column(table, column, at.in("id", i))
	}
	switch n := len(table.PrimaryKey); {
	case len(t.ID) > 0:
	case n == 0:
		c.add(at.problem("%s has no primary key: name the columns of a client's id with id: [a, b]", table))
	case n > 1:
		c.add(at.problem("the primary key of %s has %d columns: name the columns of a client's id with id: [a, b]", table, n))
	}
	key := t.Key(table)
	if t.Put == Insert || t.Updates() || !t.allow.appliesTo(upload.Put) || len(key) == 0 ||
		slices.ContainsFunc(key, func(name string) bool { return table.Column(name) == nil }) || table.HasUniqueIndex(key) {
		return
	}
	c.add(at.problem("%s has no unique index on exactly %s that is checked at once: a PUT needs it to find out whether the row exists. Create it, make the key not deferrable, or write put: insert",
		table, strings.Join(key, ", ")))
}

func holdsTime(c *catalog.Column) bool {
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
