package plan

import (
	"context"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/upload"
)

// A rule over a whole transaction may look at rows as they will be. Its lookups run after
// the writes, in the same pipeline. If it has each, it is evaluated for each value that
// columns have in the written rows: as they were, and as they will be. Some of these values
// only Postgres knows, such as the expense_id of an item that a PATCH changes or a DELETE
// removes. So Postgres keeps the values, in a setting of the database transaction:
//
//	before the writes  the values of stored rows, which are locked; their keys are, too,
//	                   because another device may be about to insert such a row
//	after the writes   the values that were sent and those of rows as they will be, too;
//	                   their locks are taken, in order
//	then               each lookup, for all values in one query
//
// Requests that write rows with the same value wait for each other at that lock, and the
// lookups after it see what the others have committed. A request takes these locks after all
// its writes, so that who holds one waits for nobody but holders of others.

// TransactionChecks are the rules over a whole transaction that look at rows as they will
// be.
type TransactionChecks struct {
	in         *policies.TransactionInput
	rules      []*wholeRule
	operations int
}

// wholeRule is one of these rules.
type wholeRule struct {
	*policies.Rule
	setting []byte          // which keeps the values
	written []*written      // while writes are added
	keys    map[string]bool // of rows, for LocksOf
	before  []Statement     // lock and keep what is stored
	values  *Query          // keeps and locks all values, and returns them; nil without each
	lookups []wholeLookup
}

// wholeLookup is a lookup of such a rule, for all values of each in one query.
type wholeLookup struct {
	*Query
	ofEach bool // it depends on the value; otherwise its rows are the same for all
}

// maxWholeRows and one for each operation are the rows that a lookup may have for all values
// together.
const maxWholeRows = 10_000

// wholeDrafts are the rules while the writes of a transaction are drafted; nil if there are
// none.
type wholeDrafts struct {
	planner *Planner
	checks  *TransactionChecks
	err     error // a rule failed to evaluate, or the database lacks what it needs
}

// newWholeDrafts finds the rules that look at rows, and their columns.
func (p *Planner) newWholeDrafts(ctx context.Context, shared *policies.TransactionInput) *wholeDrafts {
	rules, err := p.Set.AfterWrites(ctx, shared)
	if len(rules) == 0 && err == nil {
		return nil
	}
	d := &wholeDrafts{p, &TransactionChecks{in: shared}, err}
	for i, rule := range rules {
		r := &wholeRule{Rule: rule, setting: []byte("postern.each" + strconv.Itoa(i)), keys: map[string]bool{}}
		if err := r.find(p); err != nil && d.err == nil {
			d.err = err
		}
		d.checks.rules = append(d.checks.rules, r)
	}
	return d
}

func (d *wholeDrafts) add(w *write) {
	if d == nil {
		return
	}
	d.checks.operations++
	for _, r := range d.checks.rules {
		for _, found := range r.written {
			found.add(w, r.keys)
		}
	}
}

// finish makes the checks; nil if no rule looks at rows.
func (d *wholeDrafts) finish() (*TransactionChecks, error) {
	if d == nil {
		return nil, nil
	}
	if d.err != nil {
		return nil, d.err
	}
	c := d.checks
	c.rules = slices.DeleteFunc(c.rules, func(r *wholeRule) bool { return len(r.Each) > 0 && !r.collect(d.planner) })
	if len(c.rules) == 0 {
		return nil, nil
	}
	for _, r := range c.rules {
		for _, l := range r.Lookups {
			r.lookups = append(r.lookups, r.lookup(d.planner, l, r.setting, c.maxRows()))
		}
	}
	return c, nil
}

func (c *TransactionChecks) maxRows() int { return maxWholeRows + c.operations }

// Drop drops rules and returns those that there were. c may be nil.
func (c *TransactionChecks) Drop(isDropped func(*policies.Rule) bool) (dropped []*policies.Rule) {
	if c == nil {
		return nil
	}
	c.rules = slices.DeleteFunc(c.rules, func(r *wholeRule) bool {
		if isDropped(r.Rule) {
			dropped = append(dropped, r.Rule)
			return true
		}
		return false
	})
	return dropped
}

// Before are the statements that run before the writes, in order.
func (c *TransactionChecks) Before() (statements []Statement) {
	for _, r := range c.rules {
		statements = append(statements, r.before...)
	}
	return statements
}

// After are the queries that run after the writes, in order.
func (c *TransactionChecks) After() (queries []*Query) {
	for _, r := range c.rules {
		if r.values != nil {
			queries = append(queries, r.values)
		}
		for _, l := range r.lookups {
			queries = append(queries, l.Query)
		}
	}
	return queries
}

// lookup makes the query of a lookup: a list of its rows, each with the value that it is for.
func (r *wholeRule) lookup(p *Planner, l *policies.Lookup, setting []byte, most int) wholeLookup {
	b, ofEach := &builder{}, false
	sql := l.SQL(func(from policies.Parameter) string {
		switch {
		case from.From == "each":
			ofEach = true
			return r.EachSQL("postern_each.value")
		case from.Column == "role":
			return b.param([]byte(p.Who.Role))
		}
		return b.param([]byte(p.Who.Subject))
	})
	each := "(select '')"
	if ofEach {
		each = "unnest(current_setting(" + b.param(setting) + ")::text[])"
	}
	sql = "select jsonb_agg(jsonb_build_array(found.value, found.data)) from (select postern_each.value, found.data from " + each + " as postern_each (value), lateral (" +
		sql + ") as found (data) limit " + b.param([]byte(strconv.Itoa(most+1))) + "::bigint) as found"
	return wholeLookup{&Query{rule: r.Rule, lookup: l, Statement: Statement{SQL: sql, Args: b.args}}, ofEach}
}

// Evaluate evaluates the rules with what the queries found, for one value after the other.
// An error says that a rule could not be evaluated.
func (c *TransactionChecks) Evaluate(ctx context.Context, answers Answers) (*upload.Rejection, error) {
	for _, r := range c.rules {
		if rejection, err := c.evaluate(ctx, r, answers); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

func (c *TransactionChecks) evaluate(ctx context.Context, r *wholeRule, answers Answers) (*upload.Rejection, error) {
	values := []string{""}
	if r.values != nil {
		if err := json.Unmarshal(answers[r.values][0], &values); err != nil {
			return nil, err
		}
	}
	found := make([]foundRows, len(r.lookups))
	for i, l := range r.lookups {
		var err error
		if found[i], err = l.found(answers, c.maxRows()); err != nil {
			return nil, err
		}
	}
	for _, value := range values {
		in := &policies.Input{Operation: -1, TransactionInput: c.in, Lookups: map[string]policies.Row{}, Lists: map[string]ref.Val{}, Shared: map[string]policies.Row{}}
		if r.values != nil {
			var err error
			if in.Each, err = r.EachValue(value); err != nil {
				return nil, err
			}
		}
		for i := range found {
			if err := found[i].give(in, value); err != nil {
				return nil, err
			}
		}
		if rejection, err := r.Check(ctx, in); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// foundRows is what a lookup found.
type foundRows struct {
	wholeLookup
	rows   map[string][]jsontext.Value // by value, because rows of expressions take more memory; under "" if they are the same for all
	same   *givenRows                  // those, once they are made
	excess bool                        // there are more
}

// givenRows are the rows of a value as expressions see them.
type givenRows struct {
	first policies.Row
	list  ref.Val
}

func (l wholeLookup) found(answers Answers, most int) (foundRows, error) {
	f := foundRows{wholeLookup: l, rows: map[string][]jsontext.Value{}}
	answer := answers[l.Query][0]
	if answer == nil { // there are no rows
		return f, nil
	}
	var pairs [][2]jsontext.Value
	if err := json.Unmarshal(answer, &pairs); err != nil {
		return f, err
	}
	f.excess = len(pairs) > most
	for _, pair := range pairs {
		var value string
		if err := json.Unmarshal(pair[0], &value); err != nil {
			return f, err
		}
		f.rows[value] = append(f.rows[value], pair[1])
	}
	return f, nil
}

// give gives the rows of a value to a rule's input.
func (f *foundRows) give(in *policies.Input, value string) error {
	if !f.ofEach {
		value = ""
	}
	name, rows := f.lookup.Name, f.rows[value]
	if f.excess || len(rows) > policies.MaxRows {
		in.Excess = name
	}
	given := f.same
	if given == nil {
		var err error
		if given, err = f.make(rows); err != nil {
			return err
		}
	}
	if !f.ofEach {
		f.same = given
	}
	switch {
	case f.lookup.Rows:
		in.Lists[name] = given.list
	case f.lookup.Shared:
		in.Shared[name] = given.first
	default:
		in.Lookups[name] = given.first
	}
	return nil
}

func (f *foundRows) make(all []jsontext.Value) (*givenRows, error) {
	if !f.lookup.Rows {
		all = all[:min(len(all), 1)]
	}
	rows := make([]policies.Row, len(all))
	for i, object := range all {
		var err error
		if rows[i], err = policies.RowFromJSON(object); err != nil {
			return nil, f.unreadable()
		}
	}
	given := &givenRows{}
	if f.lookup.Rows {
		given.list = policies.ListOf(rows)
	} else if len(rows) > 0 {
		given.first = rows[0]
	}
	return given, nil
}
