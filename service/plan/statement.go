package plan

import (
	"slices"
	"strconv"
	"strings"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// builder renders the SQL of one write. Identifiers come from the catalogue,
// quoted; values are parameters. In the SQL, t is the stored row.
type builder struct {
	w       *write
	sql     string // once it is rendered
	args    [][]byte
	own     []own // see shape
	guards  []guard
	judges  bool     // see Checks
	history *history // nil if the write adds no rows to one
	tables  *catalog.Snapshot

	resolves []Resolution
	counts   counts
}

// operation is a write with its statement, unless what the policy sets is not known yet.
func (p *Planner) operation(w *write, texts texts) *Operation {
	o := p.withChecks(w, texts)
	if w.waits {
		return o
	}
	return p.render(o, w, texts)
}

// withChecks is a write with the queries of its rules and of what the policy sets.
func (p *Planner) withChecks(w *write, texts texts) *Operation {
	o := w.operation()
	if w.waits {
		o.Sets = newSets(p, w, texts)
	} else {
		o.Checks = newChecks(w, texts)
	}
	o.Args = w.values
	return o
}

// render adds the statement to an operation.
func (p *Planner) render(o *Operation, w *write, texts texts) *Operation {
	if w.changesNothing() { // only its rules matter, and whether the row exists
		b := &builder{w: w}
		o.SQL, o.Columns, o.counts = "select", nil, nothing
		if w.rejectsMissing() {
			o.SQL += " " + b.explainNoRow()
		}
		o.SQL, o.Args = texts.once(o.SQL), exact(b.args)
		return o
	}
	b := p.rendered(w, o.Checks)
	o.SQL, o.Args, o.counts, o.resolves = texts.once(b.sql), exact(b.args), b.counts, b.resolves
	return o
}

// rendered has rendered the statement of a write that changes something.
func (p *Planner) rendered(w *write, checks *Checks) *builder {
	b := &builder{w: w, judges: w.waits || checks != nil && checks.judges, args: w.values[:len(w.values):len(w.values)], tables: p.Tables, resolves: w.resolutions()}
	b.history = newHistory(b)
	addGuards(b)
	b.sql = b.withExplanation(b.change())
	return b
}

// operation is the operation of a write without its statement. It does not keep the
// write, which takes much memory.
func (w *write) operation() *Operation {
	return &Operation{
		Index: w.index, Table: w.table, Columns: w.columns,
		who: w.who, privilege: w.privilege(), named: w.policy.Named, touches: w.touchesStored(), keys: w.keys,
	}
}

// exact is a list without room for more, because a plan may have many of them.
func exact(args [][]byte) [][]byte { return append(make([][]byte, 0, len(args)), args...) }

// param adds a parameter.
func (b *builder) param(value []byte) string {
	b.args = append(b.args, value)
	return parameter(len(b.args))
}

// ownParam adds a parameter that differs between writes of one shape.
func (b *builder) ownParam(of func(*write) []byte) string {
	b.own = append(b.own, own{len(b.args), of})
	return b.param(of(b.w))
}

// addGuard adds a condition on the stored row.
func (b *builder) addGuard(code upload.Code, sql string) {
	b.guards = append(b.guards, guard{sql, code})
}

// change is the INSERT, UPDATE or DELETE.
func (b *builder) change() string {
	switch {
	case b.w.updates():
		return b.updateByPut()
	case b.w.sent.Op == upload.Put:
		return b.insert()
	case b.w.sent.Op == upload.Patch:
		return b.update()
	case b.w.hardDeletes():
		return "delete from " + b.w.table.SQL() + " as t" + b.where()
	}
	return b.softDelete()
}

// insert merges by default: columns that were not sent keep the stored row's
// values. An existing row is always updated, if only by its own key, so that
// row-level security judges the write.
func (b *builder) insert() string {
	w := b.w
	var sql strings.Builder
	sql.WriteString("insert into " + w.table.SQL() + " as t (" + columnList(w.columns, (*catalog.Column).SQL) + ")")
	if slices.ContainsFunc(w.columns, func(c *catalog.Column) bool { return c.Identity }) {
		sql.WriteString(" overriding system value")
	}
	values := make([]string, len(w.columns))
	for i := range values {
		values[i] = w.assignment(i)
	}
	sql.WriteString(" values (" + strings.Join(values, ", ") + ")")
	if w.policy.Put == policies.Insert {
		return sql.String()
	}
	sql.WriteString(" on conflict (" + columnList(w.key(), (*catalog.Column).SQL) + ") do ")
	switch merged := b.merged(); {
	case len(merged) > 0:
		sql.WriteString("update set " + columnList(merged, func(c *catalog.Column) string { return c.SQL() + " = " + newValue(b, c, b.inStored(c)) }))
	case b.settable() != nil:
		sql.WriteString("update set " + b.settable().SQL() + " = t." + b.settable().SQL())
	default:
		sql.WriteString("nothing")
	}
	return sql.String() + b.guarded(" where ")
}

// inStored is the SQL of what a PUT sends for a column of a row that exists.
func (b *builder) inStored(c *catalog.Column) string {
	if value, ok := b.w.inStored[c]; ok {
		return b.w.carried(c, b.param(value))
	}
	return "excluded." + c.SQL()
}

// updateByPut is the UPDATE of a PUT that may not insert. It sets what insert sets in a
// row that exists.
func (b *builder) updateByPut() string {
	w := b.w
	values := make([]string, len(w.columns))
	for i, c := range w.columns {
		values[i] = "coalesce(" + w.assignment(i) + ", " + w.table.Null(c) + ") as " + c.SQL()
	}
	sets := columnList(b.merged(), func(c *catalog.Column) string {
		if w.indexOf(c) < 0 && !w.setsInStored(c) && c != w.versionColumn() {
			return c.SQL() + " = default"
		}
		return c.SQL() + " = " + newValue(b, c, b.inStored(c))
	})
	if sets == "" {
		sets = b.settable().SQL() + " = t." + b.settable().SQL()
	}
	return "update " + w.table.SQL() + " as t set " + sets + " from (select " + strings.Join(values, ", ") + ") as excluded" + b.where()
}

// assignment is the parameter of a column.
func (w *write) assignment(i int) string { return w.carried(w.columns[i], parameter(i+1)) }

// carried is the SQL of a parameter for a column. If its text depends on the type, it carries the
// type: Postgres refuses the statement (42804) if the column has become a text, for
// example, since the catalogue was read. An assignment alone would store any text.
func (w *write) carried(c *catalog.Column, parameter string) string {
	if !value.Respells(c.Type) || !c.Type.Known {
		return parameter
	}
	return "coalesce(" + parameter + "::pg_catalog." + c.Type.Name + ", " + w.table.Null(c) + ")"
}

// merged are the columns of an existing row that a PUT sets.
func (b *builder) merged() []*catalog.Column {
	w := b.w
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
	columns = slices.DeleteFunc(slices.Clone(columns), func(c *catalog.Column) bool {
		return slices.Contains(w.initial, c) || w.indexOf(c) < 0 && slices.Contains(w.policy.Immutable, c.Name)
	})
	if c := w.versionColumn(); c != nil && !slices.Contains(columns, c) {
		columns = append(columns, c)
	}
	for i := range w.table.Columns {
		if c := &w.table.Columns[i]; w.setsInStored(c) && !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	if c := w.table.Column(w.policy.SoftDelete); c != nil {
		at := slices.Index(columns, c)
		switch {
		case at >= 0 && w.protectsDeleted():
			columns = slices.Delete(columns, at, at+1) // the guard has seen that it is not set
		case at < 0 && !w.protectsDeleted():
			columns = append(columns, c) // the team restores the row
		}
	}
	if len(columns) == 0 && !w.columns[0].Identity {
		return w.columns[:1]
	}
	return columns
}

// settable is a column that an UPDATE can set to its own value, for a key that is
// an identity, which Postgres sets to its default alone. It is nil if the table has
// no other columns.
func (b *builder) settable() *catalog.Column {
	for i := range b.w.table.Columns {
		if c := &b.w.table.Columns[i]; !c.Generated && !c.Identity {
			return c
		}
	}
	return nil
}

func (b *builder) update() string {
	w := b.w
	var sets []string
	for i, c := range w.columns[w.keys:] {
		sets = append(sets, c.SQL()+" = "+newValue(b, c, w.assignment(w.keys+i)))
	}
	if c := w.versionColumn(); c != nil {
		sets = append(sets, c.SQL()+" = "+newValue(b, c, ""))
	}
	return "update " + w.table.SQL() + " as t set " + strings.Join(sets, ", ") + b.where()
}

// softDelete sets the column of the policy.
func (b *builder) softDelete() string {
	column := b.w.table.Column(b.w.policy.SoftDelete)
	value := "now()"
	switch column.Type.Name {
	case "bool":
		value = "true"
	case "timestamp":
		value = "now() at time zone 'UTC'"
	}
	sql := "update " + b.w.table.SQL() + " as t set " + column.SQL() + " = " + value
	if c := b.w.versionColumn(); c != nil {
		sql += ", " + c.SQL() + " = " + newValue(b, c, "")
	}
	return sql + b.where()
}

func (b *builder) where() string { return " where " + b.w.isRow() + b.guarded(" and ") }

// guarded are the guards as conditions, after a first word.
func (b *builder) guarded(word string) (sql string) {
	for _, g := range b.guards {
		sql += word + g.sql
		word = " and "
	}
	return sql
}

// withExplanation adds the history of a touched row, and the explanation of a row
// that was not touched, if somebody needs them.
func (b *builder) withExplanation(sql string) string {
	explains := b.explains()
	h := b.history
	resolved, selected := b.resolved()
	switch {
	case h != nil:
		sql = "with " + h.before + "touched as (" + sql + " returning 1" + h.returning + resolved + ")" + h.insert + " select"
	case explains, resolved != "":
		sql = "with touched as (" + sql + " returning 1" + resolved + ") select"
	default:
		return sql
	}
	switch {
	case explains:
		b.counts = unexplained
		sql += " " + b.explainNoRow() + " where not exists (select from touched)"
		if selected != "" {
			sql += " union all select"
		}
	case selected == "":
		sql += " from touched"
	}
	return sql + selected
}

// explainNoRow asks, in the statement itself, why it touched no row. A guard fails
// for the row as it is after any writer that the operation waited for; or the user
// may not see the row; or it does not exist, which a DELETE accepts (a cascade or
// another device was faster). If no guard failed, a trigger suppressed the change.
func (b *builder) explainNoRow() string {
	w := b.w
	operation := b.ownParam(func(w *write) []byte { return strconv.AppendInt(nil, int64(w.index), 10) })
	table, key := b.rowParams()
	row := table + ", " + key
	rejectMissing := b.param(strconv.AppendBool(nil, w.rejectsMissing()))
	refusal, stored := "case when t."+w.columns[0].SQL()+" is null then "+b.param([]byte(upload.Unauthorized)), "null"
	for _, g := range b.guards {
		refusal += " when (" + g.sql + ") is not true then " + b.param([]byte(g.code))
		if g.code == upload.Conflict {
			stored = "to_jsonb(t.*)"
		}
	}
	locking, otherwise := "true", Dropped
	if w.hardDeletes() {
		locking, otherwise = "false", upload.Unauthorized
	}
	reason, deleted := b.param([]byte(otherwise)), ""
	if w.sent.Op != upload.Put && w.protectsDeleted() {
		deleted = ", " + b.param([]byte(w.policy.SoftDelete))
	}
	return "postern.explain_no_row(" + operation + ", " + row + ", " + rejectMissing + ", coalesce(postern.row_version(" + row + "), '(0,0)'), " +
		refusal + " end, " + reason + ", " + stored + deleted + ") from (select) one left join lateral postern.current_row(null::" +
		w.table.SQL() + ", " + key + ", " + locking + ") as t on true"
}

// rowParams are the parameters by which the functions of schema postern find the row.
func (b *builder) rowParams() (table, key string) {
	table = b.param(strconv.AppendUint(nil, uint64(b.w.table.OID), 10))
	return table, b.keyParams()
}

// keyParams are the names and the values of the row's key.
func (b *builder) keyParams() string {
	names := make([]string, b.w.keys)
	for i, c := range b.w.key() {
		names[i] = c.Name
	}
	return b.param(value.TextArray(names)) + ", " + b.ownParam(func(w *write) []byte { return value.TextArray(asTexts(w.keyValues())) })
}

func columnList(columns []*catalog.Column, text func(*catalog.Column) string) string {
	var sql strings.Builder
	for i, c := range columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(text(c))
	}
	return sql.String()
}

func parameter(n int) string { return "$" + strconv.Itoa(n) }

func asTexts(values [][]byte) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = string(value)
	}
	return out
}
