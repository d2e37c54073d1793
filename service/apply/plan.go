package apply

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// statement is one operation as SQL.
type statement struct {
	sql       string
	args      [][]byte // text or nil, each read by Postgres as its column's type
	operation int      // index within the transaction, as the client sent it
	table     *catalog.Table
	columns   []*catalog.Column // of the first args; the rest are ours
}

// plan is a transaction as SQL, in an order that its foreign keys allow.
type plan []statement

// newPlan decides all that can be decided without the database. The error says
// why the transaction can never be applied as it stands.
func newPlan(set *policies.Set, tables *catalog.Snapshot, t upload.Transaction) (plan, *upload.Rejection) {
	writes := make([]write, 0, len(t.Operations))
	for i, op := range t.Operations {
		w, rejection := newWrite(set, tables, op)
		if rejection != nil {
			rejection.Operation = i
			return nil, rejection
		}
		w.operation = i
		writes = append(writes, w)
	}
	p := make(plan, 0, len(writes))
	for _, w := range inForeignKeyOrder(writes) {
		if w.op == upload.Patch && len(w.columns) == w.keys {
			continue // nothing changes
		}
		p = append(p, w.statement())
	}
	return p, nil
}

// write is one operation whose table, columns and values are known.
type write struct {
	op        upload.Op
	operation int
	policy    *policies.Table
	table     *catalog.Table
	columns   []*catalog.Column // the key's first
	values    [][]byte          // in the order of columns; nil is NULL
	keys      int               // how many of them are the key
}

func newWrite(set *policies.Set, tables *catalog.Snapshot, op upload.Operation) (write, *upload.Rejection) {
	policy, rejection := set.Decide(op)
	if rejection != nil {
		return write{}, rejection
	}
	table := tables.Table(policy.Schema, policy.Name)
	if table == nil {
		return write{}, mismatch("there is no table %s.%s", policy.Schema, policy.Name)
	}
	w := write{op: op.Op, policy: policy, table: table}
	if rejection := w.readKey(op.ID); rejection != nil {
		return write{}, rejection
	}
	if op.Op == upload.Delete {
		return w, nil
	}
	return w, w.readData(op)
}

// readKey splits a client's id into the columns of the key.
func (w *write) readKey(id string) *upload.Rejection {
	names, parts := w.policy.ID, []string{id}
	if len(names) == 0 {
		names = w.table.PrimaryKey
	}
	if len(w.policy.ID) > 1 {
		parts = strings.Split(id, w.policy.Separator)
	}
	if len(names) != len(parts) {
		if len(w.policy.ID) > 1 {
			return &upload.Rejection{Code: upload.InvalidData, Message: fmt.Sprintf("the id of a row of %s is made of %s, with %q between them", w.table, strings.Join(names, " and "), w.policy.Separator)}
		}
		return mismatch("table %s must have a primary key of one column, or a policy that says what a client's id is made of", w.table)
	}
	for i, name := range names {
		column := w.table.Column(name)
		if column == nil {
			return mismatch("table %s has no column %q", w.table, name)
		}
		if rejection := w.add(column, quoted(parts[i])); rejection != nil {
			return rejection
		}
	}
	w.keys = len(names)
	return nil
}

func (w *write) readData(op upload.Operation) *upload.Rejection {
	for _, member := range op.Data {
		name := w.policy.Column(member.Name)
		column := w.table.Column(name)
		if column == nil {
			return mismatch("table %s has no column %q", w.table, name)
		}
		if column.Generated {
			continue // the database makes it; a client that has synced the row sends it back
		}
		value := member.Value
		if unit, ok := w.policy.Epoch[name]; ok {
			moment, err := unit.Moment(value)
			if err != nil {
				return unfit(w.table.Unfit(column, value, err.Error()))
			}
			value = moment
		}
		at := w.indexOf(column)
		if at >= w.keys && at >= 0 {
			return &upload.Rejection{Code: upload.InvalidData, Message: fmt.Sprintf("two of the columns sent are %s.%s", w.table, column.Name)}
		}
		if rejection := w.add(column, value); rejection != nil {
			return rejection
		}
		if at < 0 {
			continue
		}
		// A part of the key was sent among the data too.
		last := len(w.columns) - 1
		if string(w.values[last]) != string(w.values[at]) {
			return &upload.Rejection{Code: upload.InvalidData, Message: fmt.Sprintf("%s.%s is part of the row's id and cannot be set to anything else", w.table, column.Name)}
		}
		w.columns, w.values = w.columns[:last], w.values[:last]
	}
	return nil
}

func (w *write) indexOf(column *catalog.Column) int {
	for i, c := range w.columns {
		if c == column {
			return i
		}
	}
	return -1
}

func (w *write) add(column *catalog.Column, value jsontext.Value) *upload.Rejection {
	text, err := w.table.Convert(column, value)
	if err != nil {
		return unfit(err)
	}
	w.columns, w.values = append(w.columns, column), append(w.values, text)
	return nil
}

func (w write) statement() statement {
	s := statement{operation: w.operation, table: w.table, columns: w.columns, args: w.values}
	switch {
	case w.op == upload.Put:
		s.sql = w.insert()
	case w.op == upload.Patch:
		s.sql, s.args = w.orUntouched(w.update(), "UPDATE")
	case w.policy.SoftDelete != "":
		s.sql, s.args = w.orUntouched(w.softDelete(), "UPDATE")
	default:
		s.sql, s.args = w.orUntouched("delete from "+w.table.SQL()+w.where(), "DELETE")
	}
	return s
}

// insert merges by default: columns that were not sent keep the stored row's
// values. An existing row is always updated, if only by its own key, so that
// row-level security judges the write.
func (w write) insert() string {
	var sql strings.Builder
	sql.WriteString("insert into " + w.table.SQL() + " (")
	list(&sql, w.columns, func(_ int, c *catalog.Column) string { return c.SQL() })
	sql.WriteString(")")
	for _, c := range w.columns {
		if c.Identity {
			sql.WriteString(" overriding system value")
			break
		}
	}
	sql.WriteString(" values (")
	list(&sql, w.columns, func(i int, _ *catalog.Column) string { return parameter(i + 1) })
	sql.WriteString(")")
	if w.policy.Put == policies.Insert {
		return sql.String()
	}
	sql.WriteString(" on conflict (")
	list(&sql, w.columns[:w.keys], func(_ int, c *catalog.Column) string { return c.SQL() })
	sql.WriteString(") do update set ")
	list(&sql, w.merged(), func(_ int, c *catalog.Column) string { return c.SQL() + " = excluded." + c.SQL() })
	return sql.String()
}

// merged are the columns of an existing row that a PUT sets.
func (w write) merged() []*catalog.Column {
	columns := w.columns[w.keys:]
	if w.policy.Put == policies.Replace {
		columns = nil
		for i := range w.table.Columns {
			c := &w.table.Columns[i]
			if at := w.indexOf(c); !c.Generated && (at < 0 && !c.Identity || at >= w.keys) {
				columns = append(columns, c)
			}
		}
	}
	if len(columns) == 0 {
		return w.columns[:1]
	}
	return columns
}

func (w write) update() string {
	var sql strings.Builder
	sql.WriteString("update " + w.table.SQL() + " set ")
	list(&sql, w.columns[w.keys:], func(i int, c *catalog.Column) string { return c.SQL() + " = " + parameter(w.keys+i+1) })
	sql.WriteString(w.where())
	return sql.String()
}

// softDelete keeps the moment of the first one.
func (w write) softDelete() string {
	column := w.table.Column(w.policy.SoftDelete)
	value := "now()"
	if column.Type.Name == "bool" {
		value = "true"
	}
	return fmt.Sprintf("update %s set %s = coalesce(nullif(%[2]s::text, 'false')::%[4]s, %[3]s)", w.table.SQL(), column.SQL(), value, column.TypeName) + w.where()
}

func (w write) where() string {
	var sql strings.Builder
	for i, c := range w.columns[:w.keys] {
		sql.WriteString([]string{" where ", " and "}[min(i, 1)] + c.SQL() + " = " + parameter(i+1))
	}
	return sql.String()
}

// orUntouched asks, in the statement itself, why it touched no row: without
// row-level security, none was there, which a DELETE is content with (a cascade
// or another device was faster).
func (w write) orUntouched(sql, event string) (string, [][]byte) {
	rejectMissing := w.policy.RejectMissing && w.op == upload.Patch
	if !w.table.RowSecurity && !rejectMissing {
		return sql, w.values
	}
	names, keys := make([]string, w.keys), make([]string, w.keys)
	for i := range w.keys {
		names[i], keys[i] = w.columns[i].Name, string(w.values[i])
	}
	first := len(w.values)
	args := append(w.values[:first:first],
		strconv.AppendInt(nil, int64(w.operation), 10), strconv.AppendUint(nil, uint64(w.table.OID), 10), catalog.TextArray(names), catalog.TextArray(keys),
		strconv.AppendBool(nil, rejectMissing), strconv.AppendBool(nil, w.table.Intercepts(event)))
	return fmt.Sprintf("with touched as (%s returning 1) select postern.untouched($%d, $%d, $%d, $%d, $%d, $%d) where not exists (select from touched)",
		sql, first+1, first+2, first+3, first+4, first+5, first+6), args
}

func list(sql *strings.Builder, columns []*catalog.Column, text func(int, *catalog.Column) string) {
	for i, c := range columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(text(i, c))
	}
}

func parameter(n int) string { return "$" + strconv.Itoa(n) }

func quoted(text string) jsontext.Value {
	value, err := jsontext.AppendQuote(nil, text)
	if err != nil { // not UTF-8, which the decoder has refused
		return jsontext.Value(`""`)
	}
	return value
}

func mismatch(format string, args ...any) *upload.Rejection {
	return &upload.Rejection{Code: upload.SchemaMismatch, Message: fmt.Sprintf(format, args...)}
}

func unfit(err error) *upload.Rejection {
	rejection := &upload.Rejection{Code: upload.InvalidData, Message: err.Error()}
	var u *catalog.Unfit
	if errors.As(err, &u) {
		rejection.Details = map[string]any{"table": u.Table, "column": u.Column, "type": u.Type, "value": u.Value}
	}
	return rejection
}
