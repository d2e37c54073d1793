package apply

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// builder writes the SQL of one operation. Identifiers come from the catalogue,
// quoted; values are parameters. In it, t is the stored row.
type builder struct {
	*write
	args   [][]byte
	guards []guard
	tables *catalog.Snapshot
}

// guard is a condition on the stored row under which the operation touches it.
type guard struct {
	sql  string
	code upload.Code // of the rejection where it does not hold, or dropped
}

// What a guard may say that is no rejection.
const (
	dropped upload.Code = "DROPPED" // the operation is dropped without a word
	again   upload.Code = "AGAIN"   // the database transaction has to be tried again
)

func (w *write) statement(tables *catalog.Snapshot) statement {
	b := &builder{write: w, args: w.values[:len(w.values):len(w.values)], tables: tables}
	b.guard()
	s := statement{operation: w.operation, table: w.table, columns: w.columns}
	switch {
	case w.sent.Op == upload.Put:
		s.sql = b.told(b.insert())
	case w.sent.Op == upload.Patch && w.empty():
		s.sql, s.columns = "select", nil // nothing changes, and the rules are asked all the same
		if b.args, b.guards = nil, nil; b.rejectMissing() {
			s.sql += " " + b.untouched()
		}
	case w.sent.Op == upload.Patch:
		s.sql = b.told(b.update())
	case w.policy.SoftDelete != "":
		s.sql = b.told(b.softDelete())
	default:
		s.sql = b.told("delete from " + w.table.SQL() + " as t" + b.where())
	}
	s.args = b.args
	s.verify = newVerification(w)
	return s
}

// alike reports whether the SQL of two operations is the same.
func (w *write) alike(other *write) bool {
	return w.policy == other.policy && w.sent.Op == other.sent.Op && slices.Equal(w.columns, other.columns) && slices.Equal(w.initial, other.initial) &&
		w.policy.Plain() && !(w.sent.Op == upload.Patch && w.empty()) && len(w.rules) == 0 && len(other.rules) == 0
}

// again is the statement of an operation that is like the one before.
func (w *write) again(before statement) statement {
	s := statement{sql: before.sql, operation: w.operation, table: w.table, columns: w.columns, args: w.values}
	if len(before.args) > len(w.values) {
		b := &builder{write: w, args: w.values[:len(w.values):len(w.values)]}
		b.told("")
		s.args = b.args
	}
	return s
}

// param adds a parameter.
func (b *builder) param(value []byte) string {
	b.args = append(b.args, value)
	return parameter(len(b.args))
}

// insert merges by default: columns that were not sent keep the stored row's
// values. An existing row is always updated, if only by its own key, so that
// row-level security judges the write.
func (b *builder) insert() string {
	var sql strings.Builder
	sql.WriteString("insert into " + b.table.SQL() + " as t (")
	list(&sql, b.columns, func(_ int, c *catalog.Column) string { return c.SQL() })
	sql.WriteString(")")
	for _, c := range b.columns {
		if c.Identity {
			sql.WriteString(" overriding system value")
			break
		}
	}
	sql.WriteString(" values (")
	list(&sql, b.columns, func(i int, _ *catalog.Column) string { return parameter(i + 1) })
	sql.WriteString(")")
	if b.policy.Put == policies.Insert {
		return sql.String()
	}
	sql.WriteString(" on conflict (")
	list(&sql, b.columns[:b.keys], func(_ int, c *catalog.Column) string { return c.SQL() })
	sql.WriteString(") do ")
	switch columns := b.merged(); {
	case len(columns) > 0:
		sql.WriteString("update set ")
		list(&sql, columns, func(_ int, c *catalog.Column) string { return c.SQL() + " = " + b.stored(c, "excluded."+c.SQL()) })
	case b.unchanged() != nil:
		sql.WriteString("update set " + b.unchanged().SQL() + " = t." + b.unchanged().SQL())
	default:
		sql.WriteString("nothing")
	}
	for i, g := range b.guards {
		sql.WriteString([]string{" where ", " and "}[min(i, 1)] + g.sql)
	}
	return sql.String()
}

// merged are the columns of an existing row that a PUT sets.
func (b *builder) merged() []*catalog.Column {
	columns := b.columns[b.keys:]
	if b.policy.Put == policies.Replace {
		columns = nil
		for i := range b.table.Columns {
			c := &b.table.Columns[i]
			if at := b.indexOf(c); !c.Generated && (at < 0 && !c.Identity || at >= b.keys) {
				columns = append(columns, c)
			}
		}
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c *catalog.Column) bool {
		return slices.Contains(b.initial, c) || b.indexOf(c) < 0 && slices.Contains(b.policy.Immutable, c.Name)
	})
	if c := b.counter(); c != nil && !slices.Contains(columns, c) {
		columns = append(columns, c)
	}
	if c := b.table.Column(b.policy.SoftDelete); c != nil && !slices.Contains(columns, c) {
		columns = append(columns, c) // the row is there again
	}
	if len(columns) == 0 && !b.columns[0].Identity {
		return b.columns[:1]
	}
	return columns
}

// unchanged is a column that can be set to what it is, where the key cannot: it
// is an identity, which Postgres sets only to its default. nil where the table
// has no other columns.
func (b *builder) unchanged() *catalog.Column {
	for i := range b.table.Columns {
		if c := &b.table.Columns[i]; !c.Generated && !c.Identity {
			return c
		}
	}
	return nil
}

func (b *builder) update() string {
	var sql strings.Builder
	sql.WriteString("update " + b.table.SQL() + " as t set ")
	list(&sql, b.columns[b.keys:], func(i int, c *catalog.Column) string {
		return c.SQL() + " = " + b.stored(c, parameter(b.keys+i+1))
	})
	if c := b.counter(); c != nil {
		if len(b.columns) > b.keys {
			sql.WriteString(", ")
		}
		sql.WriteString(c.SQL() + " = " + b.stored(c, ""))
	}
	sql.WriteString(b.where())
	return sql.String()
}

// softDelete keeps the moment of the first one.
func (b *builder) softDelete() string {
	column := b.table.Column(b.policy.SoftDelete)
	value := "coalesce(t." + column.SQL() + ", now())"
	switch column.Type.Name {
	case "bool":
		value = "true"
	case "timestamp":
		value = "coalesce(t." + column.SQL() + ", now() at time zone 'UTC')"
	}
	sql := "update " + b.table.SQL() + " as t set " + column.SQL() + " = " + value
	if c := b.counter(); c != nil {
		sql += ", " + c.SQL() + " = " + b.stored(c, "")
	}
	return sql + b.where()
}

func (b *builder) where() string {
	sql := " where " + b.key()
	for _, g := range b.guards {
		sql += " and " + g.sql
	}
	return sql
}

// key is the condition that t is the row.
func (w *write) key() string {
	var sql strings.Builder
	for i, c := range w.columns[:w.keys] {
		if i > 0 {
			sql.WriteString(" and ")
		}
		sql.WriteString("t." + c.SQL() + " = " + parameter(i+1))
	}
	return sql.String()
}

// told adds to an operation what is to be said of it: where it touched a row, its
// history; where it did not, why, if that may be of interest.
func (b *builder) told(sql string) string {
	asks := len(b.guards) > 0 || b.sent.Op != upload.Put && (b.table.RowSecurity || b.rejectMissing())
	returning, history := b.history()
	if !asks && history == "" {
		return sql
	}
	sql = "with touched as (" + sql + " returning 1" + returning + ")" + history + " select"
	if asks {
		sql += " " + b.untouched() + " where not exists (select from touched)"
	}
	return sql
}

// untouched asks, in the statement itself, why it touched no row: a guard says no
// to a row that the user sees, as it is after any writer that the operation waited
// for; the row is hidden from the user; or it is not there, which a DELETE is
// content with (a cascade or another device was faster). A row that could be
// updated and was not, by nobody's no, is one that a trigger has left alone.
func (b *builder) untouched() string {
	operation := b.param(strconv.AppendInt(nil, int64(b.operation), 10))
	row, key := b.row()
	rejectMissing := b.param(strconv.AppendBool(nil, b.rejectMissing()))
	refusal, stored := "case when t."+b.columns[0].SQL()+" is null then "+b.param([]byte(upload.Unauthorized)), "null"
	for _, g := range b.guards {
		refusal += " when (" + g.sql + ") is not true then " + b.param([]byte(g.code))
		if g.code == upload.Conflict {
			stored = "to_jsonb(t.*)"
		}
	}
	locking, otherwise := "true", dropped
	if b.sent.Op == upload.Delete && b.policy.SoftDelete == "" {
		locking, otherwise = "false", upload.Unauthorized
	}
	return "postern.explain_no_row(" + operation + ", " + row + ", " + rejectMissing + ", coalesce(postern.row_version(" + row + "), '(0,0)'), " +
		refusal + " end, " + b.param([]byte(otherwise)) + ", " + stored + ") from (select) one left join lateral postern.current_row(null::" +
		b.table.SQL() + ", " + key + ", " + locking + ") as t on true"
}

// row are the parameters by which schema postern's functions find the row: its
// table, and the names and values of its key.
func (b *builder) row() (row, key string) {
	names := make([]string, b.keys)
	for i, c := range b.columns[:b.keys] {
		names[i] = c.Name
	}
	table := b.param(strconv.AppendUint(nil, uint64(b.table.OID), 10))
	key = b.param(catalog.TextArray(names)) + ", " + b.param(catalog.TextArray(texts(b.values[:b.keys])))
	return table + ", " + key, key
}

func (b *builder) rejectMissing() bool { return b.policy.RejectMissing && b.sent.Op == upload.Patch }

func list(sql *strings.Builder, columns []*catalog.Column, text func(int, *catalog.Column) string) {
	for i, c := range columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(text(i, c))
	}
}

func parameter(n int) string { return "$" + strconv.Itoa(n) }
