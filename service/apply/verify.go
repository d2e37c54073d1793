package apply

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// verification is what the rules of an operation need of the database: they are
// asked after the operation was made, and before it is committed. So they see the
// row as it really was and really will be, with what the earlier operations of
// the transaction, defaults and triggers have made of it.
type verification struct {
	in     policies.Input
	rules  []*policies.Rule
	table  *catalog.Table
	policy *policies.Table

	lock          *query            // where before cannot lock the row alone
	before, after *query            // nil where no rule looks at them
	lookups       []*query          // of all rules
	key           []*catalog.Column // its values are the arguments of before
	locks         bool              // its user may lock the row
	sent          policies.Row      // the new row as far as it was sent or set
}

// query is a step that reads.
type query struct {
	sql     string
	args    [][]byte
	columns []*catalog.Column // of the result; nil where it is one JSON object
	name    string            // of a lookup
	rule    *policies.Rule    // whose lookup it is

	row   [][]byte // the first one, once read
	found bool
}

func newVerification(w *write) *verification {
	if len(w.rules) == 0 {
		return nil
	}
	v := &verification{in: w.in, rules: w.rules, table: w.table, policy: w.policy, key: w.columns[:w.keys], sent: w.in.New}
	var before, after []string
	stored := w.sent.Op == upload.Delete // whether the rules depend on the row as it was
	ahead := w.sent.Op == upload.Patch   // and on the row as it will be: a PATCH may find none
	for _, rule := range w.rules {
		old, new := rule.Columns(w.table)
		before, after = append(before, old...), append(after, new...)
		stored, ahead = stored || rule.LooksAtOld(), ahead || rule.LooksAtNew()
		for _, l := range rule.Lookups {
			q, reads := w.lookup(l)
			q.rule = rule
			v.lookups = append(v.lookups, q)
			stored = stored || reads
		}
	}
	if stored {
		v.readBefore(w, before)
	}
	if ahead && w.sent.Op != upload.Delete {
		v.after = w.read(after)
	}
	return v
}

// readBefore has the row locked and read.
func (v *verification) readBefore(w *write, columns []string) {
	v.before = w.read(columns)
	v.locks = slices.Contains(w.table.Grants[w.who.Role], "update")
	switch {
	case w.sent.Op == upload.Delete && w.policy.SoftDelete == "":
		b := &builder{write: w}
		row, _ := b.row()
		v.lock = &query{sql: "select postern.lock(" + row + ")", args: b.args}
	case v.locks:
		v.before.sql += " for update of t"
	}
}

// read selects columns of the row, in the one form that no setting changes.
func (w *write) read(names []string) *query {
	q := &query{args: w.values[:w.keys:w.keys]}
	var sql strings.Builder
	sql.WriteString("select ")
	for i := range w.table.Columns {
		if c := &w.table.Columns[i]; slices.Contains(names, c.Name) {
			q.columns = append(q.columns, c)
		}
	}
	list(&sql, q.columns, func(_ int, c *catalog.Column) string { return "to_jsonb(t." + c.SQL() + ")" })
	sql.WriteString(" from " + w.table.SQL() + " as t where " + w.key())
	q.sql = sql.String()
	return q
}

var numbered = regexp.MustCompile(`\$([0-9]+)`)

// lookup fills in a lookup's parameters: values where they are known, else the
// stored row's, which it then reads.
func (w *write) lookup(l policies.Lookup) (q *query, reads bool) {
	q = &query{name: l.Name}
	param := func(value []byte) string {
		q.args = append(q.args, value)
		return parameter(len(q.args))
	}
	sql := numbered.ReplaceAllStringFunc(l.SQL, func(found string) string {
		n, _ := strconv.Atoi(found[1:]) // digits, by the pattern
		if n < 1 || n > len(l.Parameters) {
			return found
		}
		p := l.Parameters[n-1]
		switch {
		case p.From == "id":
			return param([]byte(w.sent.ID))
		case p.From == "auth" && p.Column == "role":
			return param([]byte(w.who.Role))
		case p.From == "auth":
			return param([]byte(w.who.Subject))
		}
		column := w.table.Column(p.Column)
		if at := w.indexOf(column); p.From == "new" && at >= 0 {
			return param(w.values[at])
		}
		reads = true
		conditions := make([]string, w.keys)
		for i, c := range w.columns[:w.keys] {
			conditions[i] = "t." + c.SQL() + " = " + param(w.values[i])
		}
		return "(select t." + column.SQL() + " from " + w.table.SQL() + " as t where " + strings.Join(conditions, " and ") + ")"
	})
	q.sql = "select to_jsonb(q) from (" + sql + ") as q limit 1"
	return q, reads
}

// check asks the rules, once everything was read.
func (v *verification) check(ctx context.Context) (*upload.Rejection, error) {
	var err error
	if v.before != nil {
		if v.in.Old, err = v.before.result(); err != nil {
			return nil, err
		}
	}
	if v.after != nil {
		if v.in.New, err = v.after.result(); err != nil {
			return nil, err
		}
		if v.in.New == nil && v.in.Op == upload.Put {
			v.in.New = v.unseen()
		}
	}
	found := map[*policies.Rule]map[string]policies.Row{}
	for _, l := range v.lookups {
		if found[l.rule] == nil {
			found[l.rule] = map[string]policies.Row{}
		}
		if found[l.rule][l.name], err = l.result(); err != nil {
			return nil, err
		}
	}
	return v.ask(ctx, found)
}

// unseen is a row that its own writer may not see, as tables are that are only
// inserted into: what was sent of it, and null for the rest.
func (v *verification) unseen() policies.Row {
	row := maps.Clone(v.sent)
	for _, c := range v.after.columns {
		if _, ok := row[c.Name]; !ok {
			row[c.Name] = types.NullValue
		}
	}
	return row
}

// lockSteps lock the rows that rules need, table by table and in the order of
// their keys, so that two requests which need the same rows do not lock them
// crosswise. A row that is not there yet cannot be locked, but its key can, by all
// who would make it here.
func lockSteps(transactions []*transaction) (steps []step) {
	rows := map[*catalog.Table]map[string]*verification{}
	var keys []string
	for _, t := range transactions {
		for _, statement := range t.plan {
			v := statement.verify
			if t.Rejection != nil || v == nil || v.before == nil || !v.locks {
				continue
			}
			if rows[v.table] == nil {
				rows[v.table] = map[string]*verification{}
			}
			key := string(catalog.TextArray(texts(v.before.args)))
			rows[v.table][key] = v
			if v.in.Op == upload.Put {
				keys = append(keys, fmt.Sprintf("postern %d %s", v.table.OID, key))
			}
		}
	}
	if len(keys) > 0 {
		slices.Sort(keys)
		steps = append(steps, step{kind: reading, transaction: -1, operation: -1, args: [][]byte{catalog.TextArray(slices.Compact(keys))},
			sql: "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest($1::text[]) as key"})
	}
	tables := slices.SortedFunc(maps.Keys(rows), func(a, b *catalog.Table) int { return cmp.Compare(a.OID, b.OID) })
	for _, table := range tables {
		if len(rows) > 1 || len(rows[table]) > 1 {
			steps = append(steps, lockStep(table, slices.Collect(maps.Values(rows[table]))))
		}
	}
	return steps
}

func lockStep(table *catalog.Table, rows []*verification) step {
	key := rows[0].key
	arrays, names := make([]string, len(key)), make([]string, len(key))
	s := step{kind: reading, transaction: -1, operation: -1}
	for i, c := range key {
		values := make([]string, len(rows))
		for j, v := range rows {
			values[j] = string(v.before.args[i])
		}
		s.args = append(s.args, catalog.TextArray(values))
		arrays[i], names[i] = parameter(i+1)+"::"+c.TypeName+"[]", "t."+c.SQL()
	}
	keys := strings.Join(names, ", ")
	s.sql = "select from " + table.SQL() + " as t where (" + keys + ") in (select * from unnest(" + strings.Join(arrays, ", ") + ")) order by " + keys + " for update of t"
	return s
}

func texts(values [][]byte) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = string(value)
	}
	return out
}

// ask asks the rules about the rows in the input, each with its own lookups. There
// is nothing to ask where the operation touched no row, or one that its user may
// not see.
func (v *verification) ask(ctx context.Context, lookups map[*policies.Rule]map[string]policies.Row) (*upload.Rejection, error) {
	if v.in.Op == upload.Delete && v.in.Old == nil || v.in.Op != upload.Delete && v.in.New == nil {
		return nil, nil
	}
	for _, rule := range v.rules {
		v.in.Lookups = lookups[rule]
		rejection, err := rule.Check(ctx, &v.in)
		if rejection != nil {
			rejection.ClientHandling = rejection.ClientHandling || v.policy.Directed(rejection.Code)
		}
		if rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// result is the row as expressions see it; nil where there is none.
func (q *query) result() (policies.Row, error) {
	if !q.found {
		return nil, nil
	}
	if q.name != "" {
		return policies.RowFromJSON(q.row[0])
	}
	row := make(policies.Row, len(q.columns))
	for i, c := range q.columns {
		value, err := policies.FromJSON(c.Type, jsontext.Value(q.row[i]))
		if err != nil {
			return nil, fmt.Errorf("reading column %s for a rule: %w", c.Name, err)
		}
		row[c.Name] = value
	}
	return row, nil
}
