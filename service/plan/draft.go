package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// draft makes a write of an operation: it finds the row, converts the values,
// applies what the policy sets and evaluates the rules that need only what was
// sent.
func (p *Planner) draft(ctx context.Context, shared *policies.TransactionInput, index int, op *upload.Operation) (*write, *upload.Rejection, error) {
	d := &drafter{Planner: p, write: &write{index: index, sent: op, who: &p.Who, shared: shared}}
	d.in = d.input()
	rejection, err := d.run(ctx)
	return d.write, d.ofOperation(rejection), err
}

// ofOperation completes a rejection of the write; nil stays nil.
func (d *drafter) ofOperation(rejection *upload.Rejection) *upload.Rejection {
	if rejection != nil {
		rejection.Operation = d.index
		rejection.Reword()
		rejection.ClientHandling = rejection.ClientHandling || d.policy != nil && d.policy.ClientHandling(rejection.Code)
	}
	return rejection
}

// drafter fills in a write, step by step.
type drafter struct {
	*Planner
	*write
	in    policies.Input
	owner []byte // the user's sub in the owner's column
}

func (d *drafter) run(ctx context.Context) (*upload.Rejection, error) {
	if rejection, err := d.locate(); rejection != nil || err != nil {
		return rejection, err
	}
	if err := d.readOwner(); err != nil {
		return nil, err
	}
	d.in.Policy = d.policy
	for _, step := range []func() *upload.Rejection{d.readData, d.boundTimes, d.readPrevious, d.setOwner, d.checkImmutable} {
		if rejection := step(); rejection != nil {
			return rejection, nil
		}
	}
	if err := d.assign(ctx); err != nil || d.waits {
		return nil, err
	}
	return d.judge(ctx)
}

// judge checks the write once all its values are known.
func (d *drafter) judge(ctx context.Context) (*upload.Rejection, error) {
	if rejection := d.checkConflict(); rejection != nil {
		return rejection, nil
	}
	new := d.known()
	d.in.SetNew(new)
	rejection, err := d.evaluateRules(ctx)
	if len(d.rules) > 0 { // otherwise nobody needs it any more
		d.new = new
	}
	return rejection, err
}

// locate finds the policy, the table and the key of the row. An error says that the
// database lacks what the policy names, which is not the fault of the write.
func (d *drafter) locate() (rejection *upload.Rejection, err error) {
	if d.policy, rejection = d.Set.Decide(*d.sent); rejection != nil {
		return rejection, nil
	}
	d.table = d.Tables.Table(d.policy.Schema, d.policy.Name)
	if d.table == nil && !d.policy.Named {
		return mismatch("there is no table %q", d.name()), nil
	}
	if err := d.policy.CheckColumns(d.table); err != nil {
		return nil, err
	}
	return d.readKey(), nil
}

// readOwner reads the user's sub as a value of the owner's column. If that cannot hold it,
// the policy is at fault.
func (d *drafter) readOwner() (err error) {
	if d.policy.Owner == "" {
		return nil
	}
	column := d.table.Column(d.policy.Owner)
	if d.owner, err = value.Convert(d.table, column, quoted(d.who.Subject)); err != nil {
		return &policies.RuleError{
			Rule:     "owner of " + d.table.Schema + "." + d.table.Name,
			Err:      fmt.Errorf("the sub of the user's token is no %s, which %s is: give the column another type, or set it from another claim", column.TypeName, column.Name),
			External: true,
		}
	}
	return nil
}

// readKey splits a client's id into the columns of the key. In the rows that a policy's
// test gives, a table that no policy names may have several.
func (d *drafter) readKey() *upload.Rejection {
	names, parts := d.policy.Key(d.table), []string{d.sent.ID}
	isSplit := len(d.policy.ID) > 1 || d.policy.Bare && len(names) > 1
	if isSplit {
		parts = strings.Split(d.sent.ID, d.policy.Separator)
	}
	capacity := len(names) + len(d.sent.Data) + len(d.policy.Assignments)
	if d.policy.Owner != "" {
		capacity++
	}
	d.columns, d.values = make([]*catalog.Column, 0, capacity), make([][]byte, 0, capacity)
	if len(names) != len(parts) {
		if isSplit {
			return invalid("the id of a row of %s is made of %s, with %q between them", d.name(), strings.Join(names, " and "), d.policy.Separator)
		}
		return d.misfit("the table must have a primary key of one column, or a policy with id: [columns]")
	}
	if d.updates() && (&builder{w: d.write}).settable() == nil {
		return d.misfit("the table has no column that a PUT could change")
	}
	if d.sent.Op == upload.Put && !d.updates() && d.policy.Put != policies.Insert && !d.table.HasUniqueIndex(names) {
		return d.misfit("the table has no unique index that tells whether a row exists: make its key not deferrable")
	}
	for i, name := range names {
		column := d.table.Column(name)
		if column == nil {
			return mismatch("table %s has no column %q", d.name(), d.policy.ClientName(name))
		}
		if rejection := d.set(column, quoted(parts[i])); rejection != nil {
			return rejection
		}
		if sized := column.Type.Name == "numeric" || column.Type.Name == "varchar"; sized && !value.Kept(column, d.values[i]) {
			return d.unfit(value.NewUnfit(d.table, column, quoted(parts[i]), "the row would get another id: send one that "+column.TypeName+" keeps unchanged"))
		}
	}
	d.keys = len(names)
	return nil
}

// readData takes the columns that were sent. Generated and identity columns are
// left out: the database makes them, and a client that has synced the row sends
// them back.
func (d *drafter) readData() *upload.Rejection {
	if d.sent.Op == upload.Delete {
		return nil
	}
	if d.policy.LooksAtData() {
		d.data = make(policies.Row, len(d.sent.Data))
		d.in.SetData(d.data)
	}
	for _, member := range d.sent.Data {
		name, ok := d.policy.Column(member.Name)
		column := d.policy.Find(d.table, member.Name)
		switch {
		case column == nil && d.policy.IgnoreUnknown:
			continue
		case !ok:
			return mismatch("clients know column %q of table %s as %q: send it under that name", member.Name, d.name(), d.policy.ClientName(member.Name))
		case column == nil:
			return mismatch("table %s has no column %q", d.name(), upload.Short(member.Name))
		case column.Generated, column.Identity && d.indexOf(column) < 0:
			d.omits = true
			continue
		case column.Name == d.policy.SoftDelete && d.protectsDeleted():
			if rejection := d.checkNotDeleted(column, member.Value); rejection != nil {
				return rejection
			}
			continue
		case d.policy.Writable != nil && !slices.Contains(d.policy.Writable, name) && d.indexOf(column) < 0:
			return &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("%s cannot be written by clients: leave it out", d.column(column))}
		}
		sent, rejection := d.countEpoch(column, member.Value)
		if rejection == nil {
			rejection = d.receive(column, sent)
		}
		if rejection != nil {
			return rejection
		}
	}
	return nil
}

// checkNotDeleted accepts what the column of a soft delete holds in every row that is
// not deleted, which a client that has synced the row may send back.
func (d *drafter) checkNotDeleted(column *catalog.Column, sent jsontext.Value) *upload.Rejection {
	sent, rejection := d.countEpoch(column, sent)
	if rejection != nil {
		return rejection
	}
	text, err := value.Convert(d.table, column, sent)
	switch {
	case err != nil:
		return d.unfit(err)
	case text == nil, string(text) == "f", string(text) == "false":
		return nil
	}
	return &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("%s is set by a DELETE alone: leave it out, and send a DELETE", d.column(column))}
}

// countEpoch turns a number into a date if the policy says that the column has an
// epoch.
func (d *drafter) countEpoch(column *catalog.Column, sent jsontext.Value) (jsontext.Value, *upload.Rejection) {
	unit, ok := d.policy.Epoch[column.Name]
	if !ok {
		return sent, nil
	}
	moment, err := unit.Timestamp(sent)
	if err != nil {
		return nil, d.unfit(value.NewUnfit(d.table, column, sent, err.Error()))
	}
	return moment, nil
}

// receive takes one column that the client sent.
func (d *drafter) receive(column *catalog.Column, sent jsontext.Value) *upload.Rejection {
	at := d.indexOf(column)
	if at >= d.keys {
		return invalid("two of the columns sent are %s: send it once", d.column(column))
	}
	if at < 0 {
		if rejection := d.set(column, sent); rejection != nil {
			return rejection
		}
		at = len(d.columns) - 1
	} else if text, err := value.Convert(d.table, column, sent); err != nil {
		return d.unfit(err)
	} else if string(text) != string(d.values[at]) {
		return invalid("%s is part of the row's id: leave it out, or send the id's value", d.column(column))
	}
	if d.data == nil {
		return nil
	}
	seen, err := policies.FromText(column.Type, d.values[at])
	if err != nil {
		seen, err = policies.FromSent(column.Type, sent)
	}
	if err != nil { // CEL cannot hold it, so an expression that uses it fails
		seen = types.NewErr("%s.%s: %w", d.table, column.Name, err)
	}
	d.data[column.Name] = seen
	return nil
}

// readPrevious converts the previous values, if something needs them.
func (d *drafter) readPrevious() *upload.Rejection {
	if len(d.sent.Previous) == 0 || d.policy.Conflict.Strategy == policies.NoStrategy && len(d.policy.Immutable) == 0 {
		return nil
	}
	d.previous = make(map[*catalog.Column][]byte, len(d.sent.Previous))
	for _, member := range d.sent.Previous {
		column := d.policy.Find(d.table, member.Name)
		if column == nil || column.Generated {
			continue
		}
		sent, rejection := d.countEpoch(column, member.Value)
		if rejection != nil {
			return rejection
		}
		text, err := value.Convert(d.table, column, sent)
		if err != nil {
			return d.unfit(err)
		}
		d.previous[column] = text
	}
	return nil
}

// setOwner makes the user the owner of a new row, and refuses another owner.
func (d *drafter) setOwner() *upload.Rejection {
	if d.policy.Owner == "" || d.sent.Op == upload.Delete {
		return nil
	}
	column := d.table.Column(d.policy.Owner)
	switch at := d.indexOf(column); {
	case at >= 0 && string(d.values[at]) != string(d.owner):
		return &upload.Rejection{Code: upload.Unauthorized, Words: d.policy.Words(policies.OwnerMessage), Message: fmt.Sprintf("%s is set from your token: leave it out or send your own id", d.column(column))}
	case at >= d.keys && d.sent.Op == upload.Patch:
		d.remove(at)
	case at < 0 && d.sent.Op == upload.Put:
		d.columns, d.values = append(d.columns, column), append(d.values, d.owner)
	}
	return nil
}

// checkImmutable refuses a PATCH of a column that keeps its first value. A PUT has
// a guard instead.
func (d *drafter) checkImmutable() *upload.Rejection {
	if d.sent.Op != upload.Patch {
		return nil
	}
	for _, name := range d.policy.Immutable {
		column := d.table.Column(name)
		at := d.indexOf(column)
		if at < d.keys {
			continue
		}
		if previous, ok := d.previous[column]; !ok || !equal(previous, d.values[at]) {
			return &upload.Rejection{Code: upload.ImmutableColumn, Words: d.policy.Words(policies.ImmutableMessage), Message: fmt.Sprintf("%s cannot change once it is set: leave it out", d.column(column))}
		}
		d.remove(at)
	}
	return nil
}

// equal reports whether two values are the same. NULL is not an empty text.
func equal(a, b []byte) bool { return (a == nil) == (b == nil) && string(a) == string(b) }

// evaluateRules evaluates the rules that need only what was sent, and keeps the
// others for when the stored row is known. A rule that reads a null in a NOT NULL
// column is kept, too: Postgres rejects the row in better words, unless a trigger
// fills it in.
func (d *drafter) evaluateRules(ctx context.Context) (*upload.Rejection, error) {
	known := func(column string) bool {
		_, ok := d.in.New()[column]
		return d.sent.Op == upload.Delete || ok && !d.dependsOnStored(column)
	}
	for _, rule := range d.policy.Rules {
		if !rule.AppliesTo(d.sent.Op) {
			continue
		}
		needsStored, null := rule.NeedsStored(known), rule.LooksAtForbiddenNull(d.table, &d.in)
		if needsStored && !null {
			skips, err := rule.Skips(ctx, &d.in, known)
			if err != nil {
				return nil, err
			}
			if skips {
				continue
			}
		}
		if needsStored || null || rule.DependsOnRow(d.sent.Op) && !rule.Passes(ctx, &d.in) {
			d.rules = append(d.rules, rule)
			continue
		}
		if rule.DependsOnRow(d.sent.Op) {
			continue
		}
		if rejection, err := rule.Check(ctx, &d.in); rejection != nil || err != nil {
			return rejection, err
		}
	}
	observingLast(d.rules)
	return nil, nil
}

// set adds a column with its value.
func (d *drafter) set(column *catalog.Column, sent jsontext.Value) *upload.Rejection {
	text, err := value.Convert(d.table, column, sent)
	if err != nil {
		return d.unfit(err)
	}
	d.columns, d.values = append(d.columns, column), append(d.values, text)
	return nil
}
