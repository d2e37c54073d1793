package plan

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// assign sets what the policy sets.
func (d *drafter) assign(ctx context.Context) (*upload.Rejection, error) {
	d.in.SetNew(d.known())
	for i := range d.policy.Assignments {
		a := &d.policy.Assignments[i]
		column := d.table.Column(a.Column)
		at := d.indexOf(column)
		forNew := d.sent.Op == upload.Put && a.AppliesToRow(upload.Put, false)
		forStored := a.AppliesToRow(d.sent.Op, true) && !slices.Contains(d.policy.Immutable, a.Column)
		if !forNew && !forStored || a.IsDefault() && at >= 0 || d.sent.Op == upload.Patch && len(d.sent.Data) == 0 {
			continue
		}
		value, err := a.Value(ctx, &d.in)
		if err != nil {
			return nil, err
		}
		if at >= 0 && at < d.keys {
			return invalid("%s is part of the row's id, and the policy cannot set it", d.column(column)), nil
		}
		if rejection := d.setAssigned(column, value, forNew || d.sent.Op == upload.Patch, forStored); rejection != nil {
			return rejection, nil
		}
	}
	if len(d.policy.Assignments) > 0 {
		d.in.SetNew(d.known())
	}
	return nil, nil
}

// setAssigned sets a column to what the policy says, in a new row, a stored one or both.
// In the other one it is what the client sent.
func (d *drafter) setAssigned(column *catalog.Column, sent jsontext.Value, forNew, forStored bool) *upload.Rejection {
	at, immutable := d.indexOf(column), slices.Contains(d.policy.Immutable, column.Name)
	switch {
	case forNew && !forStored && at >= 0 && !immutable:
		d.setInStored(column, d.values[at])
	case !forNew:
		text, err := value.Convert(d.table, column, sent)
		if err != nil {
			return d.unfit(err)
		}
		d.setInStored(column, text)
		return nil
	default:
		d.assigned = append(d.assigned, column)
		if !forStored {
			d.initial = append(d.initial, column)
		}
	}
	if at >= 0 {
		d.remove(at)
	}
	return d.set(column, sent)
}
