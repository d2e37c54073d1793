package plan

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	"postern/service/catalog"
	"postern/service/value"
)

// written is what a transaction writes in a column of a rule's each.
type written struct {
	table         *catalog.Table
	column        *catalog.Column
	sent          map[string]bool
	before, after map[string]*lockedRows // rows whose values only Postgres knows
}

// add finds what a write writes in the column. The key of a row does not change, so that it
// is not read. keys receives the key of a row that may not be stored yet, for LocksOf.
func (f *written) add(w *write, keys map[string]bool) {
	if w.table != f.table || w.changesNothing() && !w.waits {
		return
	}
	at := w.indexOf(f.column)
	if at >= 0 && w.values[at] != nil {
		f.sent[string(w.values[at])] = true
	}
	if at >= 0 && at < w.keys {
		return
	}
	if w.touchesStored() {
		w.rowKey().addTo(f.before)
		hash := fnv.New32a()
		_, _ = hash.Write(w.seen())
		keys["postern each row "+strconv.FormatUint(uint64(hash.Sum32()%maxEachLocks), 10)] = true
	}
	if known := at >= 0 && !w.dependsOnStored(f.column.Name) && !w.mayBeTriggered(); !known && !w.hardDeletes() {
		w.rowKey().addTo(f.after)
	}
}

// find finds the columns of each.
func (r *wholeRule) find(p *Planner) error {
	for i := range r.Each {
		table, column, err := r.Each[i].Find(p.Tables)
		if err != nil {
			return err
		}
		r.written = append(r.written, &written{table, column, map[string]bool{}, map[string]*lockedRows{}, map[string]*lockedRows{}})
	}
	return nil
}

// collect makes the statements that keep the values of each. It is false if the transaction
// writes none of its tables.
func (r *wholeRule) collect(p *Planner) (touches bool) {
	before, after := &values{}, &values{}
	for _, found := range r.written {
		touches = touches || len(found.sent)+len(found.before)+len(found.after) > 0
		for _, name := range slices.Sorted(maps.Keys(found.before)) {
			rows, lock := found.before[name], " for update of t"
			if !slices.Contains(found.table.Grants[p.Who.Role], "update") {
				r.before, lock = append(r.before, lockDeleted(rows)), ""
			}
			before.stored(found.column, rows, lock)
		}
		after.sent(found.table, found.column, slices.Sorted(maps.Keys(found.sent)))
		for _, name := range slices.Sorted(maps.Keys(found.after)) {
			after.stored(found.column, found.after[name], "")
		}
	}
	if !touches {
		return false
	}
	r.written = nil
	if before.sql != "" {
		after.add("select unnest(current_setting(" + after.param(r.setting) + ")::text[])")
		r.before = append(r.before, Statement{SQL: "select set_config(" + before.param(r.setting) + ", " + before.array() + "::text, true)", Args: before.args})
	}
	r.values = &Query{rule: r.Rule, Statement: Statement{
		SQL: "select to_jsonb(list), set_config(" + after.param(r.setting) + ", list::text, true), (select count(pg_advisory_xact_lock(hashtextextended(" +
			after.param([]byte("postern each "+r.Name+" ")) + " || lock, 0))) from (select distinct hashtextextended(value, 0) & " + strconv.Itoa(maxEachLocks-1) + " as lock from unnest(list) as each (value) order by lock) as locks)" +
			" from (select " + after.array() + " as list) as each",
		Args: after.args,
	}}
	return true
}

// maxEachLocks is the number of locks for all values of a rule, and for all rows: a power of
// 2. Postgres has memory for some thousand locks of all its connections.
const maxEachLocks = 1024

// values are a union of queries for the values of each.
type values struct {
	builder
	sql string
}

func (v *values) add(query string) {
	if v.sql != "" {
		v.sql += " union "
	}
	v.sql += query
}

// array is the values in order, as an array of texts.
func (v *values) array() string {
	return `array(select value from (` + v.sql + `) as each (value) where value is not null order by value collate "C")`
}

// sent adds values that were sent, in the form that they have when they are stored.
func (v *values) sent(table *catalog.Table, column *catalog.Column, sent []string) {
	if len(sent) > 0 {
		v.add("select value::text from unnest(coalesce(" + v.param(value.TextArray(sent)) + ", array[" + table.Null(column) + "])) as sent (value)")
	}
}

// stored adds the values of stored rows, which lock locks.
func (v *values) stored(column *catalog.Column, rows *lockedRows, lock string) {
	keys, names := sortedKeys(rows, len(v.args)+1)
	v.args = append(v.args, rows.arrays()...)
	v.add("select t." + column.SQL() + "::text from " + keys + ", lateral (select t." + column.SQL() + " from " + rows.table.SQL() + " as t where " + isKey(rows.columns, names) + lock + ") as t")
}
