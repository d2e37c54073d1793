package plan

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// history are the parts by which a write's own statement adds a row to the policy's
// history table for each column that it changes: what was stored before, and what is
// stored then. Neither is what the client claims.
//
// before is a query that locks and reads the stored row. It runs first, because the
// guard wasSeen needs it. The lock waits for other writers, so that the query reads
// the very row that the write changes. A DELETE returns that row itself; a PUT that
// only inserts has none, and its user may not be able to read the new one.
type history struct {
	before    string // "before as (…), "; empty if it is not needed
	returning string // the values of the touched row, with a comma before each
	insert    string // ", history as (…)"
}

// wasSeen is the condition that the query before has found the row.
const wasSeen = "exists (select from before)"

// newHistory is nil if the write adds no rows to a history.
func newHistory(b *builder) *history {
	w := b.w
	if w.policy.History == nil {
		return nil
	}
	table := b.tables.Table(w.policy.History.Schema, w.policy.History.Name)
	sent, unsent := historicColumns(b)
	columns := slices.Concat(sent, unsent)
	if table == nil || len(columns) == 0 {
		return nil
	}
	inserts := w.sent.Op == upload.Put && w.policy.Put == policies.Insert
	h, from, keepsSent := &history{}, " from touched", table.Column(policies.HistorySent) != nil
	if !inserts && !w.hardDeletes() {
		h.before = "before as (select " + columnList(columns, func(c *catalog.Column) string { return "t." + c.SQL() }) +
			" from " + w.table.SQL() + " as t where " + w.isRow() + " for update of t), "
		from += " left join before as b on true"
	}
	changes := make([]string, len(columns))
	for i, c := range columns {
		touched := "touched" + strconv.Itoa(i)
		previous, value, counts := "to_jsonb(b."+c.SQL()+")", touched, "true"
		switch {
		case inserts:
			previous, value = "null::jsonb", "to_jsonb("+parameter(w.indexOf(c)+1)+")"
		case w.hardDeletes():
			previous, value = touched, "null::jsonb"
		case i >= len(sent):
			counts = wasSeen
		}
		if !inserts {
			h.returning += ", to_jsonb(t." + c.SQL() + ") as " + touched
		}
		changes[i] = "(" + strings.Join([]string{b.param([]byte(c.Name)) + "::text", previous, value, counts}, ", ")
		if keepsSent {
			changes[i] += ", " + b.resolvedFrom(c)
		}
		changes[i] += ")"
	}
	change, changed := "change (field, previous, value, counts)", "change.previous is distinct from change.value"
	if keepsSent {
		change, changed = "change (field, previous, value, counts, sent)", "("+changed+" or change.sent is not null)"
	}
	names, values := historyRow(b, table)
	h.insert = ", history as (insert into " + table.SQL() + " (" + names + ") select " + values + from + " cross join lateral (values " +
		strings.Join(changes, ", ") + ") as " + change + " where counts and " + changed + ")"
	return h
}

// historicColumns are the columns that a write may change and whose changes are kept:
// those that the client sent, and for a PUT that replaces the row those that it did
// not send. What the policy sets has no history.
func historicColumns(b *builder) (sent, unsent []*catalog.Column) {
	w := b.w
	if w.sent.Op == upload.Delete && !w.hardDeletes() {
		return []*catalog.Column{w.table.Column(w.policy.SoftDelete)}, nil
	}
	if w.hardDeletes() {
		for i := range w.table.Columns {
			if c := &w.table.Columns[i]; !c.Generated && !slices.Contains(w.key(), c) {
				sent = append(sent, c)
			}
		}
		return sent, nil
	}
	for _, m := range w.sent.Data {
		if c := w.policy.Find(w.table, m.Name); w.indexOf(c) >= w.keys && !w.isAssigned(c) {
			sent = append(sent, c)
		}
	}
	if w.sent.Op == upload.Put && w.policy.Put == policies.Replace {
		for _, c := range b.merged() {
			if w.indexOf(c) < 0 {
				unsent = append(unsent, c)
			}
		}
	}
	return sent, unsent
}

// historyRow are the columns of a row of the history, and their values.
func historyRow(b *builder, table *catalog.Table) (names, values string) {
	add := func(name, value string) {
		if names != "" {
			names, values = names+", ", values+", "
		}
		names, values = names+table.Column(name).SQL(), values+value
	}
	add(policies.HistoryRow, b.param([]byte(b.w.sent.ID))+"::"+table.Column(policies.HistoryRow).TypeName)
	add(policies.HistoryField, "change.field")
	add(policies.HistoryPrevious, historic(table.Column(policies.HistoryPrevious), "change.previous"))
	add(policies.HistoryValue, historic(table.Column(policies.HistoryValue), "change.value"))
	if c := table.Column(policies.HistorySent); c != nil {
		add(policies.HistorySent, historic(c, "change.sent"))
	}
	if c := table.Column(policies.HistoryMetadata); c != nil && b.w.sent.Metadata != "" {
		add(policies.HistoryMetadata, b.param([]byte(b.w.sent.Metadata))+"::"+c.TypeName)
	}
	return names, values
}

// historic is a JSON value for a column of JSON, and its text for a column of text.
func historic(column *catalog.Column, value string) string {
	switch column.Type.Name {
	case "jsonb":
		return value
	case "json":
		return value + "::json"
	}
	return value + " #>> '{}'"
}
