package policies

import (
	"maps"
	"slices"
	"time"

	"postern/service/catalog"
	"postern/service/upload"
)

// Strategy says what happens to a write if the row has changed since the client saw
// it.
type Strategy string

// The strategies. All but Newest and Version need the previous values, which a
// client sends for the tables that track them (trackPrevious).
const (
	NoStrategy Strategy = ""
	Newest     Strategy = "newest"    // the write with the later time in a column wins; an earlier write is dropped silently; {newest: {column: column, ahead: 5m}} bounds a device's clock
	Version    Strategy = "version"   // a column counts the row's changes; a write that was made to another count is rejected with CONFLICT
	Fields     Strategy = "fields"    // each column by itself: a column whose stored value is not the previous one keeps its stored value
	Increment  Strategy = "increment" // the difference between the new and the previous value is added to the stored value
	Server     Strategy = "server"    // a row that has changed stays as it is; the write is dropped silently
	Reject     Strategy = "reject"    // a row that has changed stays as it is; the write is rejected with CONFLICT
	ByColumn   Strategy = "columns"   // each column has a strategy of its own: fields, increment, reject or newest; "*" is for all others
	Latest     Strategy = "latest"    // the later of two times stays; files do not name it, because a time column of ByColumn has it
)

// Conflict is the strategy of a table, or of one of its columns.
type Conflict struct {
	Strategy Strategy
	Columns  []string            // one for Newest and Version, the ones to add up for Increment, for ByColumn those that the policy names
	ByColumn map[string]Conflict // the columns that have a strategy; nil unless the strategy is ByColumn
	ahead    time.Duration       // of Newest and Latest; see Ahead
}

// Of returns the strategy by which a column's new value depends on the stored one.
func (c *Conflict) Of(column string) Conflict {
	switch c.Strategy {
	case ByColumn:
		return c.ByColumn[column]
	case Fields:
		return *c
	case Version, Increment:
		if slices.Contains(c.Columns, column) {
			return *c
		}
	}
	return Conflict{}
}

// Increments reports whether a transaction may add to numbers, so that it has another effect
// if it is applied twice.
func (s *Set) Increments(t upload.Transaction) bool {
	return slices.ContainsFunc(t.Operations, func(op upload.Operation) bool {
		table, _ := s.Decide(op)
		return table != nil && op.Op != upload.Delete && len(op.Previous) > 0 && table.Conflict.increments()
	})
}

func (c *Conflict) increments() bool {
	for _, of := range c.ByColumn {
		if of.Strategy == Increment {
			return true
		}
	}
	return c.Strategy == Increment
}

// Ahead returns how far the time that a device sends in a column may be ahead of now.
// It is 0 if it may be any time.
func (c *Conflict) Ahead(column string) time.Duration {
	if c.Strategy == Newest && c.Columns[0] == column {
		return c.ahead
	}
	if s := c.ByColumn[column]; s.Strategy == Latest {
		return s.ahead
	}
	return 0
}

// conflictRule is a word, or a strategy with its columns.
type conflictRule struct {
	word string
	with map[string]any
}

func (c conflictRule) empty() bool { return c.word == "" && c.with == nil }

func (c *conflictRule) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&c.word) == nil {
		return nil
	}
	if unmarshal(&c.with) != nil || c.with == nil {
		c.with = map[string]any{} // neither of the two, which the compiler reports
	}
	return nil
}

const (
	conflictForms = "write one of fields, server, reject, {newest: column}, {version: column}, {increment: [columns]}, {columns: {column: strategy}}"
	columnForms   = "write one of fields, increment, reject, {newest: column}"
)

func (c *compiler) conflict(t *Table, r conflictRule, table *catalog.Table, at place) Conflict {
	if r.empty() {
		return Conflict{}
	}
	if r.word != "" {
		if !slices.Contains([]Strategy{Fields, Server, Reject}, Strategy(r.word)) {
			c.add(at.problem("%q is not a conflict strategy: %s", r.word, conflictForms))
		}
		return Conflict{Strategy: Strategy(r.word)}
	}
	if _, ok := r.with[string(ByColumn)]; ok {
		return c.conflictByColumn(t, r.with, table, at)
	}
	conflict := c.strategy(r.with, at)
	if len(conflict.Columns) == 0 {
		for _, name := range sortedKeys(r.with) {
			if _, fits := conflictTypes[Strategy(name)]; !fits && table.Column(name) != nil {
				c.add(at.in(name).problem("%s is a column, and this is the place of a strategy: write strategies by column as {columns: {%s: …}}", name, name))
				return Conflict{}
			}
		}
		c.add(at.problem("this is not a conflict strategy: %s", conflictForms))
		return Conflict{}
	}
	for _, name := range conflict.Columns {
		c.conflictColumn(conflict, name, table, at)
	}
	return conflict
}

// conflictColumn checks that a column exists and has a type that its strategy can use.
func (c *compiler) conflictColumn(conflict Conflict, name string, table *catalog.Table, at place) {
	needs := conflictTypes[conflict.Strategy]
	switch column := c.column(table, name, at); {
	case column == nil:
	case column.Generated:
		c.add(at.problem("%s.%s is generated by the database: name a column that clients send", table, name))
	case !needs.fits(column):
		c.add(at.problem("%s.%s is %s: %s needs %s", table, name, column.TypeName, conflict.Strategy, needs.words))
	case conflict.ahead > 0 && !holdsTime(column):
		c.add(at.problem("%s.%s is %s: ahead needs a timestamp", table, name, column.TypeName))
	}
}

// strategy reads a strategy with its columns. It has none if the form is wrong.
func (c *compiler) strategy(with map[string]any, at place) (conflict Conflict) {
	if len(with) != 1 {
		return conflict
	}
	for word, columns := range with {
		conflict.Strategy = Strategy(word)
		if _, ok := conflictTypes[conflict.Strategy]; !ok {
			return conflict
		}
		switch columns := columns.(type) {
		case []any:
			if conflict.Strategy == Increment {
				conflict.Columns = c.incremented(columns, at.in(word))
			}
		case string:
			if conflict.Strategy != Increment {
				conflict.Columns = []string{columns}
			}
		case map[string]any:
			if name, ok := columns["column"].(string); ok && conflict.Strategy == Newest {
				conflict.Columns = []string{name}
				conflict.ahead = c.ahead(columns, at.in(word))
			}
		}
	}
	return conflict
}

func (c *compiler) incremented(list []any, at place) (columns []string) {
	for i, column := range list {
		name, ok := column.(string)
		if !ok {
			c.add(at.in(i).problem("%v is not a column name", column))
			continue
		}
		columns = append(columns, name)
	}
	return columns
}

// ahead reads how far a device's clock may be ahead.
func (c *compiler) ahead(with map[string]any, at place) time.Duration {
	for _, key := range sortedKeys(with) {
		if key != "column" && key != "ahead" {
			c.add(at.in(key).problem("%q is not allowed here: write {column: updated_at, ahead: 5m}", key))
		}
	}
	word, ok := with["ahead"]
	if !ok {
		return 0
	}
	text, _ := word.(string)
	ahead, err := time.ParseDuration(text)
	if err != nil || ahead <= 0 {
		c.add(at.in("ahead").problem("%v is not a duration above zero: write one like 30s, 5m or 1h", word))
	}
	return ahead
}

// conflictTypes are the columns that strategies need, by their types and in words.
var conflictTypes = map[Strategy]struct {
	fits  func(*catalog.Column) bool
	words string
}{
	Newest:    {func(c *catalog.Column) bool { return holdsTime(c) || isNumber(c) }, "a timestamp or a number"},
	Version:   {isNumber, "a number"},
	Increment: {isNumber, "numbers"},
}

func isNumber(c *catalog.Column) bool {
	return slices.Contains([]string{"int2", "int4", "int8", "numeric", "float4", "float8"}, c.Type.Name)
}

// wholeRow says what to write instead of a strategy for the whole row beside columns.
var wholeRow = map[string]string{
	string(Newest):    `write "*": {newest: column} among the columns`,
	string(Increment): "write increment for each of them among the columns",
	string(Version):   "write reject for each column that must not have changed",
}

// conflictByColumn reads the strategies of columns.
func (c *compiler) conflictByColumn(t *Table, with map[string]any, table *catalog.Table, at place) Conflict {
	for _, word := range sortedKeys(with) {
		if word != string(ByColumn) {
			instead, known := wholeRow[word]
			if !known {
				instead = "remove it"
			}
			c.add(at.in(word).problem("columns stands alone, and %s is not one of its parts: %s", word, instead))
		}
	}
	at = at.in(string(ByColumn))
	words, _ := with[string(ByColumn)].(map[string]any)
	if len(words) == 0 {
		c.add(at.problem("name columns with their strategies, like {title: {newest: updated_at}, qty: increment, notes: fields}"))
		return Conflict{}
	}
	if t.Put == Replace {
		c.add(at.problem("put: replace sets all columns, so it has none to merge: write put: merge, or one strategy for the whole row"))
	}
	conflict := Conflict{Strategy: ByColumn, ByColumn: map[string]Conflict{}}
	for _, name := range sortedKeys(words) {
		s := c.columnStrategy(words[name], name, at.in(name))
		if name != "*" {
			conflict.Columns = append(conflict.Columns, name)
			c.mergedColumn(s, name, t, table, at.in(name))
		}
		conflict.ByColumn[name] = s
	}
	c.timeColumns(&conflict, t, table, at)
	rest, ok := conflict.ByColumn["*"]
	delete(conflict.ByColumn, "*")
	for i := range table.Columns {
		column := &table.Columns[i]
		if _, named := conflict.ByColumn[column.Name]; ok && !named && fixed(t, table, column) == "" {
			conflict.ByColumn[column.Name] = rest
		}
	}
	return conflict
}

// columnStrategy reads the strategy of one column, or of "*".
func (c *compiler) columnStrategy(form any, name string, at place) (conflict Conflict) {
	switch form := form.(type) {
	case string:
		conflict.Strategy = Strategy(form)
	case map[string]any:
		if conflict = c.strategy(form, at); conflict.Strategy == Newest && len(conflict.Columns) == 1 {
			return conflict
		}
	}
	switch s := conflict.Strategy; {
	case s == Increment && name == "*":
		c.add(at.problem("increment is for numbers: name each column that it adds up"))
	case s == Server:
		c.add(at.problem("server is for the whole row: write fields, by which a column that has changed keeps its stored value"))
	case s == Version:
		c.add(at.problem("version is for the whole row: write reject for each column that must not have changed"))
	case (s == Fields || s == Reject || s == Increment) && len(conflict.Columns) == 0:
		return conflict
	default:
		c.add(at.problem("this is not the conflict strategy of a column: %s", columnForms))
	}
	return Conflict{}
}

// mergedColumn checks a column that has a strategy.
func (c *compiler) mergedColumn(conflict Conflict, name string, t *Table, table *catalog.Table, at place) {
	column := c.column(table, name, at)
	if column == nil {
		return
	}
	if why := fixed(t, table, column); why != "" {
		c.add(at.problem("%s.%s %s, so it has no conflicts: leave it out", table, name, why))
	} else if conflict.Strategy == Increment {
		c.conflictColumn(conflict, name, table, at)
	}
}

// fixed says why clients cannot change a column; it is empty if they can.
func fixed(t *Table, table *catalog.Table, column *catalog.Column) string {
	switch name := column.Name; {
	case column.Generated, column.Identity:
		return "is generated by the database"
	case slices.Contains(t.Key(table), name):
		return "is part of the row's id"
	case name == t.Owner:
		return "is set from the token"
	case name == t.SoftDelete:
		return "is set by a DELETE alone"
	case slices.Contains(t.Immutable, name):
		return "keeps its first value"
	case slices.ContainsFunc(t.Assignments, func(a Assignment) bool { return a.Column == name && !a.IsDefault() }):
		return "is set by the policy"
	}
	return ""
}

// timeColumns gives the columns whose times decide a strategy of their own: each keeps
// the latest time.
func (c *compiler) timeColumns(conflict *Conflict, t *Table, table *catalog.Table, at place) {
	times := map[string]Conflict{}
	for _, name := range sortedKeys(conflict.ByColumn) {
		s := conflict.ByColumn[name]
		if s.Strategy != Newest {
			continue
		}
		at, time := at.in(name), s.Columns[0]
		column := table.Column(time)
		if c.conflictColumn(s, time, table, at); column == nil {
			continue
		}
		_, named := conflict.ByColumn[time]
		other, again := times[time]
		switch {
		case named:
			c.add(at.problem("%s decides which %s is the newest, and keeps the latest time by itself: leave out its own strategy", time, name))
		case again && other.ahead != s.ahead:
			c.add(at.problem("%s has another bound for the clock elsewhere: write the same ahead for all columns that it decides", time))
		case slices.Contains(t.Key(table), time), slices.Contains(t.Immutable, time):
			c.add(at.problem("%s.%s %s: name a column that changes with each write", table, time, fixed(t, table, column)))
		}
		times[time] = Conflict{Strategy: Latest, ahead: s.ahead}
		conflict.Columns = append(conflict.Columns, time)
	}
	maps.Copy(conflict.ByColumn, times)
}
