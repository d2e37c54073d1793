package apply

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"postern/service/catalog"
	"postern/service/upload"
)

// lockSteps lock the rows that rules need, table by table and in the order of
// their keys, so that two requests which need the same rows do not lock them
// crosswise. A row that is not there yet cannot be locked, but its key can, by all
// who would make it here, and so can what is counted.
func (s *sender) lockSteps(transactions []*transaction) (steps []step) {
	var (
		locked, deleted = map[string]rows{}, map[string]rows{} // by table and columns of the key
		keys            []string
		verified        int
	)
	add := func(to map[string]rows, v *verification) {
		of := fmt.Sprintf("%010d", v.table.OID)
		for _, c := range v.key {
			of += " " + c.SQL()
		}
		if to[of] == nil {
			to[of] = rows{}
		}
		to[of][v.name] = v
	}
	for _, t := range transactions {
		for _, statement := range t.plan {
			v := statement.verify
			if t.Rejection != nil || v == nil {
				continue
			}
			verified++
			keys = append(keys, v.counts...)
			if v.lock != nil {
				add(deleted, v)
			}
			if v.before == nil || !v.locks {
				continue
			}
			if add(locked, v); v.in.Op == upload.Put {
				keys = append(keys, "postern "+v.name)
			}
		}
	}
	if len(keys) > 0 {
		slices.Sort(keys)
		steps = append(steps, step{kind: reading, transaction: -1, operation: -1, args: [][]byte{catalog.TextArray(slices.Compact(keys))},
			sql: "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest($1::text[]) as key"})
	}
	if verified < 2 || s.isolated {
		return steps // each locks its row itself
	}
	for _, of := range slices.Sorted(maps.Keys(locked)) {
		steps = append(steps, lockStep(locked[of].list()))
	}
	for _, of := range slices.Sorted(maps.Keys(deleted)) {
		steps = append(steps, lockDeleted(deleted[of].list()))
	}
	return steps
}

// rows are those of a table that are to be locked, by name.
type rows map[string]*verification

func (r rows) list() (list []*verification) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		list = append(list, r[name])
	}
	return list
}

// lockStep compares each column of the key for itself, whose type then need not be
// named: the role may not know the name. Where keys have several columns, rows that
// mix those of two may be locked, too.
func lockStep(rows []*verification) step {
	table := rows[0].table
	conditions, names := make([]string, len(rows[0].key)), make([]string, len(rows[0].key))
	for i, c := range rows[0].key {
		names[i] = "t." + c.SQL()
		conditions[i] = names[i] + " = any(" + parameter(i+1) + ")"
	}
	return step{kind: reading, transaction: -1, operation: -1, lockAhead: true, args: keyArrays(rows),
		sql: "select from " + table.SQL() + " as t where " + strings.Join(conditions, " and ") + " order by " + strings.Join(names, ", ") + " for update of t"}
}

// lockDeleted locks rows that are to be deleted, after those of them that the user
// may lock, in whose order others lock them. Each operation does it once more, as a
// row may only come to be there.
func lockDeleted(rows []*verification) step {
	table := rows[0].table
	columns, arrays := make([]string, len(rows[0].key)), make([]string, len(rows[0].key))
	names, texts := slices.Clone(columns), slices.Clone(columns)
	for i, c := range rows[0].key {
		columns[i], arrays[i] = c.Name, "coalesce("+parameter(i+3)+", array["+table.Null(c)+"])"
		names[i] = "k" + strconv.Itoa(i)
		texts[i] = names[i] + "::text"
	}
	list := strings.Join(names, ", ")
	return step{kind: reading, transaction: -1, operation: -1, lockAhead: true,
		args: append([][]byte{strconv.AppendUint(nil, uint64(table.OID), 10), catalog.TextArray(columns)}, keyArrays(rows)...),
		sql:  "select postern.lock_row($1, $2, array[" + strings.Join(texts, ", ") + "]) from (select * from unnest(" + strings.Join(arrays, ", ") + ") as key (" + list + ") order by " + list + " offset 0) as key"}
}

// keyArrays are the values of each column of the rows' key.
func keyArrays(rows []*verification) (arrays [][]byte) {
	for i := range rows[0].key {
		values := make([]string, len(rows))
		for j, v := range rows {
			values[j] = string(v.values[i])
		}
		arrays = append(arrays, catalog.TextArray(values))
	}
	return arrays
}
