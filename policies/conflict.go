package policies

import (
	"slices"

	"postern/service/catalog"
)

// Strategy says what happens to a write of a row that has changed since the
// client saw it.
type Strategy string

// The strategies. All but Newest and Version need the previous values, which the
// client sends where its table tracks them (trackPrevious).
const (
	NoStrategy Strategy = ""
	Newest     Strategy = "newest"    // the later time in a column wins; the earlier write is dropped without a word
	Version    Strategy = "version"   // a column counts changes; a write of another count is a CONFLICT
	Fields     Strategy = "fields"    // each column on its own: where the stored value is not the previous one, it stays
	Increment  Strategy = "increment" // the difference of new and previous value is added to the stored one
	Server     Strategy = "server"    // a changed row stays as it is; the write is dropped without a word
	Reject     Strategy = "reject"    // a changed row stays as it is; the write is a CONFLICT
)

// Conflict is a table's strategy.
type Conflict struct {
	Strategy Strategy
	Columns  []string // one for Newest and Version, those to add up for Increment
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
		c.with = map[string]any{} // neither, which compiling says
	}
	return nil
}

func (c *compiler) conflict(r conflictRule, t *Table, table *catalog.Table, at place) Conflict {
	if r.empty() {
		return Conflict{}
	}
	const forms = "fields, server, reject, {newest: column}, {version: column}, {increment: [columns]}"
	if r.word != "" {
		if !slices.Contains([]Strategy{Fields, Server, Reject}, Strategy(r.word)) {
			c.add(at.problem("%q is not one of %s", r.word, forms))
		}
		return Conflict{Strategy: Strategy(r.word)}
	}
	conflict := Conflict{}
	if len(r.with) != 1 {
		c.add(at.problem("write one of %s", forms))
		return conflict
	}
	for word, columns := range r.with {
		conflict.Strategy = Strategy(word)
		if list, ok := columns.([]any); ok && conflict.Strategy == Increment {
			for i, column := range list {
				name, ok := column.(string)
				if !ok {
					c.add(at.in(word, i).problem("%v is no column's name", column))
					continue
				}
				conflict.Columns = append(conflict.Columns, name)
			}
		} else if name, ok := columns.(string); ok && conflict.Strategy != Increment {
			conflict.Columns = []string{name}
		}
	}
	needed := map[Strategy]string{Newest: "a time or a number", Version: "a number", Increment: "numbers"}
	wanted := map[Strategy]func(*catalog.Column) bool{
		Newest:    func(c *catalog.Column) bool { return holdsMoment(c) || isNumber(c) },
		Version:   func(c *catalog.Column) bool { return isNumber(c) },
		Increment: isNumber,
	}[conflict.Strategy]
	if wanted == nil || len(conflict.Columns) == 0 {
		c.add(at.problem("write one of %s", forms))
		return Conflict{}
	}
	for _, name := range conflict.Columns {
		column := table.Column(name)
		switch {
		case column == nil:
			c.add(at.problem("%s has no column %q%s", table, name, didYouMean(name, columnNames(table))))
		case !wanted(column):
			c.add(at.problem("%s.%s is %s: %s needs %s", table, name, column.TypeName, conflict.Strategy, needed[conflict.Strategy]))
		}
	}
	return conflict
}

func isNumber(c *catalog.Column) bool {
	return slices.Contains([]string{"int2", "int4", "int8", "numeric", "float4", "float8"}, c.Type.Name)
}
