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
)

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

func (c *compiler) epochs(said map[string]string, at place) map[string]catalog.TimeUnit {
	units := make(map[string]catalog.TimeUnit, len(said))
	for _, column := range sortedKeys(said) {
		units[column] = catalog.Seconds
		if c.choice(at.in(column), said[column], "s", "ms") == "ms" {
			units[column] = catalog.Milliseconds
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
