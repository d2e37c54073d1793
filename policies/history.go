package policies

import (
	"slices"
	"strings"

	"postern/service/catalog"
)

// The columns of a history table. HistorySent and HistoryMetadata are optional. Any other
// column, such as who and when, must have a default.
const (
	HistoryRow      = "row_id"   // the client's id of the row
	HistoryField    = "field"    // the column
	HistoryPrevious = "previous" // the value that was stored before; null if there was no row
	HistoryValue    = "value"    // the value that is stored then; null if the row is deleted
	HistorySent     = "sent"     // the value that the client sent, if a conflict strategy stored another one
	HistoryMetadata = "metadata" // what the client attached to the write
)

// History is a table that gets a row for each column that a client changes.
type History struct{ Schema, Name string }

func (c *compiler) history(name string, at place) *History {
	if name == "" {
		return nil
	}
	h := &History{"public", name}
	if schema, bare, ok := strings.Cut(name, "."); ok {
		h.Schema, h.Name = schema, bare
	}
	table := c.snapshot.Table(h.Schema, h.Name)
	if table == nil {
		c.add(at.problem("the database has no table %s.%s: create it with the columns %s, %s, %s and %s", h.Schema, h.Name, HistoryRow, HistoryField, HistoryPrevious, HistoryValue))
		return nil
	}
	for _, name := range []string{HistoryRow, HistoryField, HistoryPrevious, HistoryValue, HistorySent, HistoryMetadata} {
		column := table.Column(name)
		switch {
		case column == nil && name != HistorySent && name != HistoryMetadata:
			c.add(at.problem("%s has no column %q: a history table needs %s, %s, %s and %s", table, name, HistoryRow, HistoryField, HistoryPrevious, HistoryValue))
		case column != nil && !holdsText(column):
			c.add(at.problem("%s.%s is %s: make it text or jsonb", table, name, column.TypeName))
		}
	}
	return h
}

func holdsText(c *catalog.Column) bool {
	return slices.Contains([]string{"text", "varchar", "jsonb", "json"}, c.Type.Name)
}
