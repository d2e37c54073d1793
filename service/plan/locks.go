package plan

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
	"postern/service/value"
)

// Rows that rules need are locked before the operations, table by table and in the
// order of their keys, so that two requests that need the same rows do not lock them
// crosswise. A row that does not exist cannot be locked. If another request inserts it
// meanwhile, the guard of the operation finds that out, and the request is sent again.
// What a quota counts is locked by its key.

// maxKeys bounds the keys of the parts of a quota that a request locks. Postgres has room
// for some thousands of all requests (max_locks_per_transaction). If a request has more,
// the quota is locked as a whole.
const maxKeys = 2000

// Locks are the statements that lock what the operations of a request need.
type Locks struct {
	Keys []Statement // of quotas, and of what rules over whole transactions read; at most one
	Rows []Statement // one for each table and key
}

// LocksOf returns the locks of keys and rows that rules need, and of rows of contended
// tables (by their OIDs) that the operations touch. No rows are locked ahead if only one
// operation needs a row: it locks the row itself. whole are rules over whole transactions,
// which need keys, too. An error says that ctx has ended.
func LocksOf(ctx context.Context, orders []*Order, whole []*TransactionChecks, contended map[uint32]bool) (Locks, error) {
	l := locker{contended: contended, whole: map[string]bool{}, quotas: map[string]map[string]bool{}, updated: map[string]*lockedRows{}, deleted: map[string]*lockedRows{}}
	for _, order := range orders {
		if !order.Checked && !slices.ContainsFunc(order.Tables, func(u TableUse) bool { return contended[u.Table.OID] }) {
			continue
		}
		for o, err := range order.withoutStatements(ctx) {
			if err != nil {
				return Locks{}, err
			}
			l.add(o)
		}
	}
	for _, c := range whole {
		for _, r := range c.rules {
			maps.Copy(l.whole, r.keys)
		}
	}
	return Locks{l.lockKeys(), l.lockRows()}, nil
}

// locker collects what operations need.
type locker struct {
	contended        map[uint32]bool
	whole            map[string]bool            // keys that rules over whole transactions need
	quotas           map[string]map[string]bool // the parts of each lookup, see quota
	updated, deleted map[string]*lockedRows     // by table and key; those in deleted, their user may not update
	operations       int                        // that need a row
}

func (l *locker) add(o *Operation) {
	c, touches := o.locking(), l.contended[o.Table.OID] && o.touches
	if c == nil && !touches {
		return
	}
	l.operations++
	var row rowKey
	if c != nil {
		row = c.w.rowKey()
		l.addKeys(c)
	} else {
		row = o.rowKey()
	}
	if c != nil && c.lock != nil || touches && o.privilege == "delete" {
		row.addTo(l.deleted)
	}
	if c != nil && c.before != nil && c.locks || touches && slices.Contains(o.Table.Grants[o.who.Role], "update") {
		row.addTo(l.updated)
	}
}

func (l *locker) addKeys(c *Checks) {
	for _, q := range c.quotas {
		if l.quotas[q.lookup] == nil {
			l.quotas[q.lookup] = map[string]bool{}
		}
		l.quotas[q.lookup][q.part] = true
	}
}

func (l *locker) lockKeys() []Statement {
	shared := map[string]bool{} // by key; false if it is locked alone
	for lookup, parts := range l.quotas {
		shared[lookup] = !parts[""] && len(parts) <= maxKeys
		for part := range parts {
			if part != "" && len(parts) <= maxKeys {
				shared[part] = false
			}
		}
	}
	for key := range l.whole {
		shared[key] = false
	}
	if len(shared) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(shared))
	how := make([]string, len(keys))
	for i, key := range keys {
		how[i] = strconv.FormatBool(shared[key])
	}
	return []Statement{{
		SQL: "select case when shared then pg_advisory_xact_lock_shared(hashtextextended(key, 0)) else pg_advisory_xact_lock(hashtextextended(key, 0)) end" +
			" from unnest($1::text[], $2::boolean[]) as lock (key, shared)",
		Args: [][]byte{value.TextArray(keys), value.TextArray(how)},
	}}
}

func (l *locker) lockRows() (statements []Statement) {
	if l.operations < 2 {
		return nil
	}
	for _, table := range slices.Sorted(maps.Keys(l.updated)) {
		statements = append(statements, lockUpdated(l.updated[table]))
	}
	for _, table := range slices.Sorted(maps.Keys(l.deleted)) {
		statements = append(statements, lockDeleted(l.deleted[table]))
	}
	return statements
}

// locking are the checks whose locks come before the operations: of what the policy sets,
// or of rules.
func (o *Operation) locking() *Checks {
	if o.Sets != nil {
		return o.Sets.reads
	}
	return o.Checks
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

// seen is what the setting postern.seen holds once rules have read the row: no other row
// has the same.
func (k rowKey) seen() []byte {
	text := strconv.AppendUint(make([]byte, 0, 64), uint64(k.table.OID), 10)
	for i, c := range k.columns {
		text = append(strconv.AppendInt(append(text, ' '), int64(len(c.Name)), 10), ' ')
		text = append(strconv.AppendInt(append(append(text, c.Name...), ' '), int64(len(k.values[i])), 10), ' ')
		text = append(text, k.values[i]...)
	}
	return text
}

// lockedRows are the rows of a table that are found by the same key columns, each once. A
// row whose hash is another one's is not among them, and its operation locks it.
type lockedRows struct {
	table   *catalog.Table
	columns []*catalog.Column
	values  []value.TextList // of each column
	hashes  map[uint64]bool
}

func (k rowKey) addTo(rows map[string]*lockedRows) {
	var buffer [128]byte
	group := strconv.AppendUint(buffer[:0], 1e10+uint64(k.table.OID), 10) // as texts, OIDs have the order of numbers
	for _, c := range k.columns {
		group = append(append(group, ' '), c.Name...)
	}
	r := rows[string(group)]
	if r == nil {
		r = &lockedRows{k.table, k.columns, make([]value.TextList, len(k.columns)), map[uint64]bool{}}
		rows[string(group)] = r
	}
	hash := hashOf(k.table.OID, k.values...)
	if r.hashes[hash] {
		return
	}
	r.hashes[hash] = true
	for i, v := range k.values {
		r.values[i].Add(string(v))
	}
}

// arrays are the columns' values.
func (r *lockedRows) arrays() [][]byte {
	arrays := make([][]byte, len(r.values))
	for i := range r.values {
		arrays[i] = r.values[i].Array()
	}
	return arrays
}

// lockUpdated locks rows key by key. With "= any" Postgres would scan a table that was
// small when it planned the statement, and keep that plan while the table grows.
func lockUpdated(rows *lockedRows) Statement {
	table, key := rows.table, rows.columns
	keys, names := sortedKeys(rows, 1)
	return Statement{
		SQL:  "select from " + keys + ", lateral (select from " + table.SQL() + " as t where " + isKey(key, names) + " for update of t) as t",
		Args: rows.arrays(),
	}
}

// isKey is the condition that t is the row of a key, whose columns have names in sortedKeys.
func isKey(columns []*catalog.Column, names []string) string {
	conditions := make([]string, len(columns))
	for i, c := range columns {
		conditions[i] = "t." + c.SQL() + " " + c.Equals() + " key." + names[i]
	}
	return strings.Join(conditions, " and ")
}

// lockDeleted locks rows that their user may delete and not update. Each operation
// does it once more, because a row may have been inserted since.
func lockDeleted(rows *lockedRows) Statement {
	table, key := rows.table, rows.columns
	keys, names := sortedKeys(rows, 3)
	columns, texts := make([]string, len(key)), make([]string, len(key))
	for i, c := range key {
		columns[i], texts[i] = c.Name, names[i]+"::text"
	}
	return Statement{
		SQL:  "select postern.lock_row($1, $2, array[" + strings.Join(texts, ", ") + "]) from " + keys,
		Args: append([][]byte{strconv.AppendUint(nil, uint64(table.OID), 10), value.TextArray(columns)}, rows.arrays()...),
	}
}

// sortedKeys is a subquery with the keys of rows in order, from parameters, of which
// first is the first. names are the key's columns in it. They get their types from the
// table's, whose names the role may not know.
func sortedKeys(rows *lockedRows, first int) (subquery string, names []string) {
	arrays := make([]string, len(rows.columns))
	names = make([]string, len(arrays))
	for i, c := range rows.columns {
		arrays[i] = "coalesce(" + parameter(first+i) + ", array[" + rows.table.Null(c) + "])"
		names[i] = "k" + strconv.Itoa(i)
	}
	list := strings.Join(names, ", ")
	return "(select * from unnest(" + strings.Join(arrays, ", ") + ") as key (" + list + ") order by " + list + " offset 0) as key", names
}
