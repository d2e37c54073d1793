package model_test

import (
	"strings"

	"pgregory.net/rapid"
)

// A table of a random schema may have a conflict strategy for some of its columns. The
// model has them in SQL of its own.

// drawStrategies gives columns a strategy, and returns the policy's conflict; nil if there
// is none.
func (t *table) drawStrategies(r *rapid.T) map[string]any {
	if t.put == "replace" || !oneIn(r, 3) {
		return nil
	}
	for _, c := range t.columns {
		if c.kind.sql == "timestamptz" && !c.foreign && t.time == nil && oneIn(r, 2) {
			t.time = c
		}
	}
	columns := map[string]any{}
	for _, c := range t.columns {
		// A domain's constraint is checked when a row gets the value, which a strategy decides.
		if c == t.time || c.foreign || c.generated || c.kind == owners || c.name == t.soft || c.kind.sql == "positive" || oneIn(r, 3) {
			continue
		}
		strategies := []string{"fields", "reject"}
		if t.time != nil {
			strategies = append(strategies, "newest")
		}
		if c.kind.sql == "integer" || c.kind.sql == "bigint" {
			strategies = append(strategies, "increment", "increment")
		}
		c.strategy = rapid.SampledFrom(strategies).Draw(r, "strategy")
		columns[c.name] = c.strategy
		if c.strategy == "newest" {
			columns[c.name] = map[string]any{"newest": t.time.name}
		}
	}
	if len(columns) == 0 {
		return nil
	}
	return map[string]any{"columns": columns}
}

// decides reports whether the column is the time of a strategy.
func (t *table) decides(c *column) bool {
	for _, other := range t.columns {
		if c == t.time && other.strategy == "newest" {
			return true
		}
	}
	return false
}

// drawPrevious adds what the client saw before its change.
func (o *operation) drawPrevious(r *rapid.T) {
	for _, c := range o.table.columns {
		m := o.member(c)
		switch {
		case c.strategy == "" || c.strategy == "newest":
			continue
		case o.verb == "DELETE" && c.strategy != "reject", o.verb != "DELETE" && m == nil, o.verb != "PATCH" && oneIn(r, 2), oneIn(r, 24):
			continue
		}
		value := one(r, c.kind.fits[:2])
		// Postgres may compute a difference before it has looked for the row, so none overflows.
		if oneIn(r, 3) || c.strategy == "increment" && len(m.value.text) > 5 {
			value = null
		}
		o.previous = append(o.previous, member{c.client, c, value})
	}
}

// member is what the operation sends for a column; nil if it sends nothing.
func (o *operation) member(c *column) *member {
	for i := range o.members {
		if o.members[i].column == c {
			return &o.members[i]
		}
	}
	return nil
}

// before is the value that the client saw, as SQL; empty if it sends none.
func (o *operation) before(c *column) string {
	for _, m := range o.previous {
		if m.column == c {
			return m.typed()
		}
	}
	return ""
}

func (m member) typed() string { return m.value.literal() + "::" + m.column.kind.sql }

// lacks reports whether the operation does not send what a strategy needs.
func (o *operation) lacks() bool {
	for _, m := range o.written() {
		switch m.column.strategy {
		case "newest":
			if at := o.member(o.table.time); at == nil || at.value.null {
				return true
			}
		case "fields", "increment", "reject":
			if o.verb == "PATCH" && o.before(m.column) == "" {
				return true
			}
		}
	}
	return false
}

// merged is the SQL of what an existing row's column is set to.
func (o *operation) merged(m member, sent string) string {
	stored, before := o.stored(m.column), o.before(m.column)
	switch {
	case o.table.decides(m.column):
		return "case when " + sent + " < " + stored + " or " + sent + " is null then " + stored + " else " + sent + " end"
	case m.column.strategy == "newest":
		at := o.member(o.table.time).typed()
		return "case when " + o.stored(o.table.time) + " > " + at + " then " + stored + " else " + sent + " end"
	case m.column.strategy == "increment" && before == "":
		return stored
	case m.column.strategy == "increment" && !m.value.null:
		return "coalesce(" + stored + ", 0) + (" + sent + " - coalesce(" + before + ", 0))"
	case m.column.strategy == "fields" && before != "":
		return "case when " + stored + " is distinct from " + before + " then " + stored + " else " + sent + " end"
	}
	return sent
}

func (o *operation) stored(c *column) string { return o.table.name + "." + quote(c.name) }

// unchanged is the condition that no column has changed that rejects a conflict; empty if
// there is none.
func (o *operation) unchanged() string {
	var conditions []string
	for _, c := range o.table.columns {
		if c.strategy != "reject" {
			continue
		}
		expected, m := o.before(c), o.member(c)
		switch {
		case o.verb != "DELETE" && m == nil, o.verb == "DELETE" && expected == "":
			continue
		case expected == "":
			expected = m.typed()
		}
		conditions = append(conditions, o.stored(c)+" is not distinct from "+expected)
	}
	return strings.Join(conditions, " and ")
}

// guard is unchanged after a first word; empty if there is no condition.
func (o *operation) guard(word string) string {
	if condition := o.unchanged(); condition != "" {
		return word + condition
	}
	return ""
}

// conflict is the code of an operation that touched no row because it has changed, as far
// as its user may see that; empty if that is not why.
func (m *model) conflict(o *operation) string {
	unchanged := o.unchanged()
	if unchanged == "" || o.verb == "PUT" && o.table.put == "insert" {
		return ""
	}
	changed := "select from " + o.table.name + o.where() + " and not (" + unchanged + ")"
	m.must("set local role none")
	found, _ := m.exec(changed)
	m.must("set local role authenticated")
	if found == 0 {
		return ""
	}
	if o.verb != "DELETE" || o.table.soft != "" {
		changed += " for update"
	}
	if found, _ := m.exec(changed); found == 0 {
		return "UNAUTHORIZED"
	}
	return "CONFLICT"
}
