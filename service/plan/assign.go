package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/common/types"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// assigned is a column that the policy may set: in a new row, in a stored one or both.
type assigned struct {
	*policies.Assignment
	column            *catalog.Column
	forNew, forStored bool
}

// result is what an assignment came to.
type result struct {
	text []byte // for the column; nil is NULL
	sets bool   // otherwise the column keeps its value
}

// assign sets what the policy sets, unless the stored row or a lookup decides it. Then
// the write waits for these: see Sets.
func (d *drafter) assign(ctx context.Context) error {
	list := d.assignments()
	if len(list) == 0 {
		return nil
	}
	d.in.SetNew(d.wanted(nil))
	if d.waits = slices.ContainsFunc(list, d.needsStored); d.waits {
		return nil
	}
	results, err := d.evaluate(ctx, list)
	var failed *policies.RuleError
	if errors.As(err, &failed) && d.mayUpdate() && slices.ContainsFunc(list, func(a assigned) bool { return !a.forStored }) {
		d.waits = true // what is for a new row does not matter if there is one
		return nil
	}
	if err != nil {
		return err
	}
	d.setAll(list, results)
	return nil
}

// assignments lists what the policy may set.
func (d *drafter) assignments() (list []assigned) {
	if d.sent.Op == upload.Delete || d.sent.Op == upload.Patch && len(d.sent.Data) == 0 {
		return nil
	}
	for i := range d.policy.Assignments {
		a := &d.policy.Assignments[i]
		column := d.table.Column(a.Column)
		forNew := d.sent.Op == upload.Put && a.AppliesToRow(upload.Put, false)
		forStored := a.AppliesToRow(d.sent.Op, true) && !slices.Contains(d.policy.Immutable, a.Column)
		if (forNew || forStored) && !(a.IsDefault() && d.indexOf(column) >= 0) {
			list = append(list, assigned{a, column, forNew, forStored})
		}
	}
	return list
}

// mayUpdate reports whether the write is a PUT that may find its row.
func (d *drafter) mayUpdate() bool {
	return d.sent.Op == upload.Put && d.policy.Put != policies.Insert
}

// needsStored reports whether an assignment needs the stored row or a lookup. A row that
// is new has no old one, and null for each column that was not sent.
func (d *drafter) needsStored(a assigned) bool {
	if d.sent.Op == upload.Put && (!d.mayUpdate() || !a.forStored) {
		return len(a.Lookups) > 0
	}
	return a.NeedsStored(func(column string) bool { return d.indexOf(d.table.Column(column)) >= 0 })
}

// wanted is the row as the client wants it, before the policy sets anything: what it
// sent, on top of the stored row. In a new row, and in one that is replaced, the other
// columns are null, because the database's defaults are not known yet.
func (d *drafter) wanted(old policies.Row) policies.Row {
	row := policies.Row{}
	if old != nil && !(d.sent.Op == upload.Put && d.policy.Put == policies.Replace) {
		row = maps.Clone(old)
	}
	for i := range d.table.Columns {
		c := &d.table.Columns[i]
		if !d.policy.LooksAtNew(c.Name) {
			continue
		}
		if at := d.indexOf(c); at >= 0 && d.data[c.Name] == nil {
			if text, err := policies.FromText(c.Type, d.values[at]); err == nil {
				row[c.Name] = text
			}
		}
		if _, known := row[c.Name]; !known {
			row[c.Name] = types.NullValue
		}
	}
	maps.Copy(row, d.data)
	return row
}

// evaluate evaluates assignments.
func (d *drafter) evaluate(ctx context.Context, list []assigned) ([]result, error) {
	results := make([]result, len(list))
	for i, a := range list {
		if at := d.indexOf(a.column); at >= 0 && at < d.keys {
			return nil, a.Misfit(errors.New("the column is part of the row's id now, which the client chooses"))
		}
		json, sets, err := a.Value(ctx, &d.in)
		if err != nil {
			return nil, err
		}
		if results[i].sets = sets; sets {
			if results[i].text, err = value.Convert(d.table, a.column, json); err == nil && results[i].text == nil {
				err = d.forbidsNull(a)
			}
			if err != nil {
				return nil, a.Misfit(err)
			}
		}
	}
	return results, nil
}

// forbidsNull says that the policy sets a column to null that is NOT NULL, and that
// neither the client nor a trigger is the cause, or the remedy.
func (d *drafter) forbidsNull(a assigned) error {
	if !a.column.NotNull || d.mayBeTriggered() || a.LooksAtForbiddenNull(d.table, &d.in) {
		return nil
	}
	return fmt.Errorf("%s.%s cannot hold null", d.table, a.Column)
}

// setAll sets the columns that are in the list of assignments.
func (d *drafter) setAll(list []assigned, results []result) {
	for i, a := range list {
		if results[i].sets {
			d.setAssigned(a, results[i].text)
		} else {
			d.keep(a)
		}
	}
}

// setAssigned sets a column to what the policy says, in a new row, a stored one or both.
// In the other one it is what the client sent.
func (d *drafter) setAssigned(a assigned, text []byte) {
	at, immutable := d.indexOf(a.column), slices.Contains(d.policy.Immutable, a.Column)
	if d.sent.Op == upload.Put && !a.forNew {
		d.setInStored(a.column, text)
		return
	}
	if d.sent.Op == upload.Put && !a.forStored && at >= 0 && !immutable {
		d.setInStored(a.column, d.values[at])
	} else {
		d.assigned = append(d.assigned, a.column)
		if !a.forStored {
			d.initial = append(d.initial, a.column)
		}
	}
	d.put(a.column, text)
}

// put is the only value of a column.
func (d *drafter) put(column *catalog.Column, text []byte) {
	if at := d.indexOf(column); at >= 0 {
		d.remove(at)
	}
	d.columns, d.values = append(d.columns, column), append(d.values, text)
}

// keep has a column keep its value, whatever the client sent: the stored one, or in a new
// row the database's default.
func (d *drafter) keep(a assigned) {
	at := d.indexOf(a.column)
	if a.forStored && d.sent.Op == upload.Put {
		d.initial = append(d.initial, a.column)
	} else if at >= 0 && d.sent.Op == upload.Put && !slices.Contains(d.policy.Immutable, a.Column) {
		d.setInStored(a.column, d.values[at])
	}
	if at >= 0 && (a.forNew || d.sent.Op == upload.Patch) {
		d.remove(at)
	}
}
