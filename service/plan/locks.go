package plan

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// Rows that rules need are locked before the operations, table by table and in the
// order of their keys, so that two requests that need the same rows do not lock them
// crosswise. A row that does not exist cannot be locked. Its key can, by everybody
// who would insert it through Postern, and so can what a quota counts.

// LockKeys locks the keys of rows to be inserted, and of quotas. ok is false if there
// are none.
func LockKeys(orders []Order) (s Statement, ok bool) {
	shared := map[string]bool{} // by key; false if it is locked alone
	for _, c := range checksOf(orders) {
		for _, q := range c.quotas {
			if _, locked := shared[q.lookup]; q.part == "" || !locked {
				shared[q.lookup] = q.part != ""
			}
			if q.part != "" {
				shared[q.part] = false
			}
		}
		if c.before != nil && c.locks && c.w.sent.Op == upload.Put {
			shared["postern "+string(c.w.seen())] = false
		}
	}
	if len(shared) == 0 {
		return Statement{}, false
	}
	keys := slices.Sorted(maps.Keys(shared))
	how := make([]string, len(keys))
	for i, key := range keys {
		how[i] = strconv.FormatBool(shared[key])
	}
	return Statement{
		SQL: "select case when shared then pg_advisory_xact_lock_shared(hashtextextended(key, 0)) else pg_advisory_xact_lock(hashtextextended(key, 0)) end" +
			" from unnest($1::text[], $2::boolean[]) as lock (key, shared)",
		Args: [][]byte{value.TextArray(keys), value.TextArray(how)},
	}, true
}

// LockRows locks the rows that rules need, and the rows of contended tables (by their
// OIDs) that the operations touch, a statement for each table and key. There are none if
// only one operation needs a row: it locks the row itself.
func LockRows(orders []Order, contended map[uint32]bool) (statements []Statement) {
	updated, deleted, operations := map[string]lockedRows{}, map[string]lockedRows{}, 0
	for _, o := range slices.Concat(orders...) {
		c, touches := o.Checks, contended[o.Table.OID] && o.touches
		if c == nil && !touches {
			continue
		}
		operations++
		row := o.rowKey()
		if c != nil {
			row = c.w.rowKey()
		}
		if c != nil && c.lock != nil || touches && o.privilege == "delete" {
			row.addTo(deleted)
		}
		if c != nil && c.before != nil && c.locks || touches && slices.Contains(o.Table.Grants[o.who.Role], "update") {
			row.addTo(updated)
		}
	}
	if operations < 2 {
		return nil
	}
	for _, table := range slices.Sorted(maps.Keys(updated)) {
		statements = append(statements, lockUpdated(updated[table].inOrder()))
	}
	for _, table := range slices.Sorted(maps.Keys(deleted)) {
		statements = append(statements, lockDeleted(deleted[table].inOrder()))
	}
	return statements
}

func checksOf(orders []Order) (all []*Checks) {
	for _, order := range orders {
		for _, o := range order {
			if o.Checks != nil {
				all = append(all, o.Checks)
			}
		}
	}
	return all
}

// rowKey is the key of a row.
type rowKey struct {
	table   *catalog.Table
	columns []*catalog.Column
	values  [][]byte
}

func (w *write) rowKey() rowKey { return rowKey{w.table, w.key(), w.keyValues()} }

func (o *Operation) rowKey() rowKey {
	if !o.touches {
		return rowKey{}
	}
	return rowKey{o.Table, o.Columns[:o.keys], o.Args[:o.keys]}
}

// seen is what the setting postern.seen holds once rules have read the row.
func (k rowKey) seen() []byte {
	columns := make([]string, len(k.columns))
	for i, c := range k.columns {
		columns[i] = c.Name
	}
	return bytes.Join([][]byte{strconv.AppendUint(nil, uint64(k.table.OID), 10), value.TextArray(columns), value.TextArray(asTexts(k.values))}, []byte(" "))
}

// lockedRows are the rows of a table that are found by the same key columns.
type lockedRows map[string]rowKey

func (k rowKey) addTo(rows map[string]lockedRows) {
	table := fmt.Sprintf("%010d", k.table.OID)
	for _, c := range k.columns {
		table += " " + c.SQL()
	}
	if rows[table] == nil {
		rows[table] = lockedRows{}
	}
	rows[table][string(k.seen())] = k
}

func (r lockedRows) inOrder() (list []rowKey) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		list = append(list, r[name])
	}
	return list
}

// lockUpdated locks rows key by key. With "= any" Postgres would scan a table that was
// small when it planned the statement, and keep that plan while the table grows.
func lockUpdated(rows []rowKey) Statement {
	table, key := rows[0].table, rows[0].columns
	keys, names := sortedKeys(rows, 1)
	conditions := make([]string, len(key))
	for i, c := range key {
		conditions[i] = "t." + c.SQL() + " " + c.Equals() + " key." + names[i]
	}
	return Statement{
		SQL:  "select from " + keys + ", lateral (select from " + table.SQL() + " as t where " + strings.Join(conditions, " and ") + " for update of t) as t",
		Args: keyArrays(rows),
	}
}

// lockDeleted locks rows that their user may delete and not update. Each operation
// does it once more, because a row may have been inserted since.
func lockDeleted(rows []rowKey) Statement {
	table, key := rows[0].table, rows[0].columns
	keys, names := sortedKeys(rows, 3)
	columns, texts := make([]string, len(key)), make([]string, len(key))
	for i, c := range key {
		columns[i], texts[i] = c.Name, names[i]+"::text"
	}
	return Statement{
		SQL:  "select postern.lock_row($1, $2, array[" + strings.Join(texts, ", ") + "]) from " + keys,
		Args: append([][]byte{strconv.AppendUint(nil, uint64(table.OID), 10), value.TextArray(columns)}, keyArrays(rows)...),
	}
}

// sortedKeys is a subquery with the keys of rows in order, from parameters, of which
// first is the first. names are the key's columns in it. They get their types from the
// table's, whose names the role may not know.
func sortedKeys(rows []rowKey, first int) (subquery string, names []string) {
	arrays := make([]string, len(rows[0].columns))
	names = make([]string, len(arrays))
	for i, c := range rows[0].columns {
		arrays[i] = "coalesce(" + parameter(first+i) + ", array[" + rows[0].table.Null(c) + "])"
		names[i] = "k" + strconv.Itoa(i)
	}
	list := strings.Join(names, ", ")
	return "(select * from unnest(" + strings.Join(arrays, ", ") + ") as key (" + list + ") order by " + list + " offset 0) as key", names
}

// keyArrays are the values of each column of the rows' key.
func keyArrays(rows []rowKey) (arrays [][]byte) {
	for i := range rows[0].columns {
		values := make([]string, len(rows))
		for j, row := range rows {
			values[j] = string(row.values[i])
		}
		arrays = append(arrays, value.TextArray(values))
	}
	return arrays
}
