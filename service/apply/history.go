package apply

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// history is a row for each column that the client changed, in the table that
// the policy keeps for it: what it was, where the client tracks that, what it
// became, and why, where the client says so. It is written with the operation, by
// its statement, if that touches the row. A field that is kept from being set, by
// another writer's change (see policies.Fields) or since a PUT increments nothing,
// has no history of it: returning says of each such field whether it was set.
func (b *builder) history() (returning, sql string) {
	if b.policy.History == nil || b.sent.Op == upload.Delete {
		return "", ""
	}
	table := b.tables.Table(b.policy.History.Schema, b.policy.History.Name)
	if table == nil {
		return "", ""
	}
	previous := map[string]jsontext.Value{}
	for _, m := range b.sent.Previous {
		previous[m.Name] = m.Value
	}
	var columns []*catalog.Column
	var rows []string
	for _, m := range b.sent.Data {
		changed := b.policy.Find(b.table, m.Name)
		at := b.indexOf(changed)
		if at < b.keys || b.isAssigned(changed) {
			continue // it is the row's id, or the client has no say in it
		}
		var values []string
		columns = columns[:0]
		add := func(name string, value []byte) {
			if c := table.Column(name); c != nil {
				columns, values = append(columns, c), append(values, b.param(value)+"::"+c.TypeName)
			}
		}
		add(policies.HistoryRow, []byte(b.sent.ID))
		add(policies.HistoryField, []byte(changed.Name))
		add(policies.HistoryPrevious, historic(table.Column(policies.HistoryPrevious), previous[m.Name]))
		add(policies.HistoryValue, historic(table.Column(policies.HistoryValue), m.Value))
		if b.sent.Metadata != "" {
			add(policies.HistoryMetadata, []byte(b.sent.Metadata))
		}
		set := "true"
		conflict := b.policy.Conflict
		_, tracked := b.previous[changed]
		if tracked && conflict.Strategy == policies.Fields || !tracked && conflict.Strategy == policies.Increment && slices.Contains(conflict.Columns, changed.Name) {
			set = "set" + strconv.Itoa(at)
			returning += ", " + b.is(changed, b.values[at]) + " as " + set
		}
		rows = append(rows, "("+strings.Join(append(values, set), ", ")+")")
	}
	if len(rows) == 0 {
		return "", ""
	}
	var names strings.Builder
	list(&names, columns, func(_ int, c *catalog.Column) string { return c.SQL() })
	return returning, ", history as (insert into " + table.SQL() + " (" + names.String() + ") select " + names.String() +
		" from touched cross join lateral (values " + strings.Join(rows, ", ") + ") as change (" + names.String() + `, "was set") where "was set")`
}

// historic is a value in a column of JSON as it was sent, in one of text as text.
func historic(column *catalog.Column, value jsontext.Value) []byte {
	if value == nil || value.Kind() == 'n' {
		return nil
	}
	if value.Kind() != '"' || column.Type.Name == "jsonb" || column.Type.Name == "json" {
		return value
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil { // it was decoded, so it can be
		return value
	}
	return text
}
