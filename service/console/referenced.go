package console

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/policytest"
	"postern/service/replay"
	"postern/service/upload"
)

const maxReferenced = 100 // rows of a copied test that foreign keys refer to

// tableRow is some columns of a table's row.
type tableRow struct {
	table  *catalog.Table
	values map[string]jsontext.Value
}

// referenced reads the rows that foreign keys refer to, from what a transaction sends, meets
// and writes, and from one to the next, as its user sees them. A copied test needs them: on
// its empty database, the same write fails without its parents.
func (c *Console) referenced(ctx context.Context, whole *policies.Set, tables *catalog.Snapshot, done policytest.Tried) (rows []policytest.Row, err error) {
	set, seen := whole.WithoutRules(), map[policytest.Row]bool{}
	for queue := begin(set, tables, done); len(queue) > 0 && len(rows) < maxReferenced; queue = queue[1:] {
		for _, key := range queue[0].table.ForeignKeys {
			parent := tables.TableByOID(key.References)
			at := refersTo(set, parent, key, queue[0].values)
			if at.ID == "" || seen[at] {
				continue
			}
			seen[at] = true
			read, err := replay.Compare(ctx, c.Applier.DB, set, tables, upload.Operation{Op: upload.Patch, Table: at.Table, ID: at.ID}, &done.Who)
			if err != nil && !errors.Is(err, replay.ErrCannotRead) {
				return nil, err
			}
			if values := columnValues(read.Now); values != nil {
				rows = append(rows, policytest.Row{Table: at.Table, ID: at.ID, Values: string(read.Now)})
				queue = append(queue, tableRow{parent, values})
			}
		}
	}
	return rows, nil
}

// begin are the rows of the transaction itself, by the database's names.
func begin(set *policies.Set, tables *catalog.Snapshot, done policytest.Tried) (list []tableRow) {
	add := func(operation int, values func(*policies.Table) map[string]jsontext.Value) {
		policy, _ := set.Decide(done.Transaction.Operations[operation])
		if policy == nil {
			return
		}
		if table := tables.Table(policy.Schema, policy.Name); table != nil {
			list = append(list, tableRow{table, values(policy)})
		}
	}
	for i, op := range done.Transaction.Operations {
		add(i, func(policy *policies.Table) map[string]jsontext.Value {
			sent := map[string]jsontext.Value{}
			for _, m := range op.Data {
				if name, ok := policy.Column(m.Name); ok {
					sent[name] = m.Value
				}
			}
			return sent
		})
		add(i, func(*policies.Table) map[string]jsontext.Value { return columnValues(done.Before[i]) })
	}
	for _, e := range done.Explanation.Effects {
		add(e.Operation, func(*policies.Table) map[string]jsontext.Value { return columnValues(e.After) })
	}
	return list
}

// refersTo is the row that a foreign key names, without its values. It has no ID if the key
// is null, or if clients do not know the row by it.
func refersTo(set *policies.Set, parent *catalog.Table, key catalog.ForeignKey, values map[string]jsontext.Value) (at policytest.Row) {
	if parent == nil || len(key.Columns) != 1 {
		return at
	}
	name, policy := set.ClientTable(parent)
	if policy == nil || !slices.Equal(policy.Key(parent), key.Targets) {
		return at
	}
	switch value := values[key.Columns[0]]; value.Kind() {
	case '"':
		var id string
		if json.Unmarshal(value, &id) == nil {
			return policytest.Row{Table: name, ID: id}
		}
	case '0':
		return policytest.Row{Table: name, ID: string(value)}
	}
	return at
}

// columnValues are a row's; nil if there is none.
func columnValues(row jsontext.Value) (values map[string]jsontext.Value) {
	if row.Kind() == '{' {
		_ = json.Unmarshal(row, &values) // Postgres made it
	}
	return values
}
