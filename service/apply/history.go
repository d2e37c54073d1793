package apply

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// history is a row for each column that the client changed, in the table that
// the policy keeps for it: what it was, where the client tracks that, what it
// became, and why, where the client says so.
func (w *write) history(tables *catalog.Snapshot) (statements []statement) {
	if w.policy.History == nil || w.sent.Op == upload.Delete {
		return nil
	}
	table := tables.Table(w.policy.History.Schema, w.policy.History.Name)
	if table == nil {
		return nil
	}
	previous := map[string]jsontext.Value{}
	for _, m := range w.sent.Previous {
		previous[m.Name] = m.Value
	}
	for _, m := range w.sent.Data {
		s := statement{operation: w.operation, table: table}
		add := func(column string, value []byte) {
			if c := table.Column(column); c != nil {
				s.columns, s.args = append(s.columns, c), append(s.args, value)
			}
		}
		add(policies.HistoryRow, []byte(w.sent.ID))
		add(policies.HistoryField, []byte(w.policy.Column(m.Name)))
		add(policies.HistoryPrevious, historic(table.Column(policies.HistoryPrevious), previous[m.Name]))
		add(policies.HistoryValue, historic(table.Column(policies.HistoryValue), m.Value))
		if w.sent.Metadata != "" {
			add(policies.HistoryMetadata, []byte(w.sent.Metadata))
		}
		var sql strings.Builder
		sql.WriteString("insert into " + table.SQL() + " (")
		list(&sql, s.columns, func(_ int, c *catalog.Column) string { return c.SQL() })
		sql.WriteString(") values (")
		list(&sql, s.columns, func(i int, _ *catalog.Column) string { return parameter(i + 1) })
		s.sql = sql.String() + ")"
		statements = append(statements, s)
	}
	return statements
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
