package plan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// historyOf writes a row for each column that the client changed to the history table
// of the policy, in the operation's own statement, if that touches the row. A column
// that the conflict strategy may keep from being set has a row only if it was set:
// returning says so for each of them.
func historyOf(b *builder) (returning, sql string) {
	w := b.w
	if w.policy.History == nil || w.sent.Op == upload.Delete {
		return "", ""
	}
	table := b.tables.Table(w.policy.History.Schema, w.policy.History.Name)
	if table == nil {
		return "", ""
	}
	previous := map[string]jsontext.Value{}
	for _, m := range w.sent.Previous {
		previous[m.Name] = m.Value
	}
	var columns []*catalog.Column
	var rows []string
	for _, m := range w.sent.Data {
		changed := w.policy.Find(w.table, m.Name)
		at := w.indexOf(changed)
		if at < w.keys || w.isAssigned(changed) {
			continue // it is the row's id, or the policy sets it
		}
		var values []string
		columns, values = historyRow(b, table, changed, m, previous[m.Name])
		wasSet := "true"
		if mayKeep(b, changed) {
			wasSet = "set" + strconv.Itoa(at)
			returning += ", " + equals(b, changed, w.values[at]) + " as " + wasSet
		}
		rows = append(rows, "("+strings.Join(append(values, wasSet), ", ")+")")
	}
	if len(rows) == 0 {
		return "", ""
	}
	names := columnList(columns, (*catalog.Column).SQL)
	return returning, ", history as (insert into " + table.SQL() + " (" + names + ") select " + names +
		" from touched cross join lateral (values " + strings.Join(rows, ", ") + ") as change (" + names + `, "was set") where "was set")`
}

// mayKeep reports whether the conflict strategy may keep the stored value of a
// column.
func mayKeep(b *builder, column *catalog.Column) bool {
	conflict := b.w.policy.Conflict
	_, tracked := b.w.previous[column]
	return tracked && conflict.Strategy == policies.Fields ||
		!tracked && conflict.Strategy == policies.Increment && slices.Contains(conflict.Columns, column.Name)
}

// historyRow are the columns and values of one change.
func historyRow(b *builder, table *catalog.Table, changed *catalog.Column, sent upload.Member, previous jsontext.Value) (columns []*catalog.Column, values []string) {
	add := func(name string, value []byte) {
		if c := table.Column(name); c != nil {
			columns, values = append(columns, c), append(values, b.param(value)+"::"+c.TypeName)
		}
	}
	add(policies.HistoryRow, []byte(b.w.sent.ID))
	add(policies.HistoryField, []byte(changed.Name))
	add(policies.HistoryPrevious, historic(table.Column(policies.HistoryPrevious), previous))
	add(policies.HistoryValue, historic(table.Column(policies.HistoryValue), sent.Value))
	if b.w.sent.Metadata != "" {
		add(policies.HistoryMetadata, []byte(b.w.sent.Metadata))
	}
	return columns, values
}

// historic is a value as it was sent in a column of JSON, and its text in a column
// of text.
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
