package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// write is one operation whose table, columns and values are known.
type write struct {
	sent      upload.Operation
	operation int
	who       identity.Identity
	policy    *policies.Table
	table     *catalog.Table
	columns   []*catalog.Column // the key's first
	values    [][]byte          // in the order of columns; nil is NULL
	keys      int               // how many of them are the key
	previous  map[*catalog.Column][]byte
	assigned  []*catalog.Column // those that the policy set and the client did not send
	initial   []*catalog.Column // those of them that only a new row gets
	counted   []byte            // the version that a PATCH counts up to, where it says so

	in    policies.Input
	rules []*policies.Rule // those that need the stored row
}

func (w *write) build(ctx context.Context, set *policies.Set, tables *catalog.Snapshot) (*upload.Rejection, error) {
	if rejection := w.locate(set, tables); rejection != nil {
		return rejection, nil
	}
	if err := w.policy.CheckColumns(w.table); err != nil {
		return nil, err
	}
	for _, step := range []func() *upload.Rejection{w.readData, w.readPrevious, w.own} {
		if rejection := step(); rejection != nil {
			return rejection, nil
		}
	}
	if rejection, err := w.assign(ctx); rejection != nil || err != nil {
		return rejection, err
	}
	if rejection := w.checkConflict(); rejection != nil {
		return rejection, nil
	}
	return w.decide(ctx)
}

// locate finds the row that is meant.
func (w *write) locate(set *policies.Set, tables *catalog.Snapshot) (rejection *upload.Rejection) {
	if w.policy, rejection = set.Decide(w.sent); rejection != nil {
		return rejection
	}
	if w.table = tables.Table(w.policy.Schema, w.policy.Name); w.table == nil {
		return mismatch("there is no table %q", w.policy.Schema+"."+w.policy.Name)
	}
	return w.readKey()
}

// readKey splits a client's id into the columns of the key.
func (w *write) readKey() *upload.Rejection {
	names, parts := w.policy.Key(w.table), []string{w.sent.ID}
	if len(w.policy.ID) > 1 {
		parts = strings.Split(w.sent.ID, w.policy.Separator)
	}
	room := len(names) + len(w.sent.Data) + len(w.policy.Assignments) + 1
	w.columns, w.values = make([]*catalog.Column, 0, room), make([][]byte, 0, room)
	if len(names) != len(parts) {
		if len(w.policy.ID) > 1 {
			return invalid("the id of a row of %s is made of %s, with %q between them", w.table, strings.Join(names, " and "), w.policy.Separator)
		}
		return mismatch("table %s must have a primary key of one column, or a policy that says what a client's id is made of", w.table)
	}
	if w.sent.Op == upload.Put && w.policy.Put != policies.Insert && !w.table.Arbiter(names) {
		return mismatch("table %s has no unique index that tells whether a row exists: make its key not deferrable", w.table)
	}
	for i, name := range names {
		column := w.table.Column(name)
		if column == nil {
			return mismatch("table %s has no column %q", w.table, name)
		}
		if rejection := w.set(column, quoted(parts[i])); rejection != nil {
			return rejection
		}
		if sized := column.Type.Name == "numeric" || column.Type.Name == "varchar"; sized && !kept(column, w.values[i]) {
			return unfit(w.table.Unfit(column, quoted(parts[i]), "the row would get another id: send one that "+column.TypeName+" keeps as it is"))
		}
	}
	w.keys = len(names)
	return nil
}

func (w *write) readData() *upload.Rejection {
	if w.sent.Op == upload.Delete {
		return nil
	}
	w.in.SetData(make(policies.Row, len(w.sent.Data)))
	for _, member := range w.sent.Data {
		name, ok := w.policy.Column(member.Name)
		column := w.policy.Find(w.table, member.Name)
		switch {
		case column == nil && w.policy.IgnoreUnknown:
			continue
		case !ok:
			return mismatch("clients know column %q of table %s as %q: send it under that name", member.Name, w.table, w.policy.ClientName(member.Name))
		case column == nil:
			return mismatch("table %s has no column %q", w.table, name)
		case column.Generated, column.Identity && w.indexOf(column) < 0:
			continue // the database makes it; a client that has synced the row sends it back
		case w.policy.Writable != nil && !slices.Contains(w.policy.Writable, name) && w.indexOf(column) < 0:
			return &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("%s.%s is not a column that clients may write", w.table, name)}
		}
		value, rejection := w.moment(column, member.Value)
		if rejection == nil {
			rejection = w.receive(column, value)
		}
		if rejection != nil {
			return rejection
		}
	}
	return nil
}

// moment counts an epoch into a date, where the policy says so.
func (w *write) moment(column *catalog.Column, value jsontext.Value) (jsontext.Value, *upload.Rejection) {
	unit, ok := w.policy.Epoch[column.Name]
	if !ok {
		return value, nil
	}
	moment, err := unit.Moment(value)
	if err != nil {
		return nil, unfit(w.table.Unfit(column, value, err.Error()))
	}
	return moment, nil
}

// receive takes a column that the client sent.
func (w *write) receive(column *catalog.Column, value jsontext.Value) *upload.Rejection {
	at := w.indexOf(column)
	if at >= w.keys {
		return invalid("two of the columns sent are %s.%s", w.table, column.Name)
	}
	if at < 0 {
		if rejection := w.set(column, value); rejection != nil {
			return rejection
		}
		at = len(w.columns) - 1
	} else if text, err := w.table.Convert(column, value); err != nil {
		return unfit(err)
	} else if string(text) != string(w.values[at]) {
		return invalid("%s.%s is part of the row's id and cannot be set to anything else", w.table, column.Name)
	}
	if !w.policy.HasExpressions() {
		return nil
	}
	seen, err := policies.FromText(column.Type, w.values[at])
	if err != nil {
		seen, err = policies.FromSent(column.Type, value)
	}
	if err != nil { // beyond what CEL can hold, so that looking at it fails
		seen = types.NewErr("%s.%s: %w", w.table, column.Name, err)
	}
	w.in.Data()[column.Name] = seen
	return nil
}

func (w *write) readPrevious() *upload.Rejection {
	if len(w.sent.Previous) == 0 || w.policy.Conflict.Strategy == policies.NoStrategy && len(w.policy.Immutable) == 0 {
		return nil
	}
	w.previous = make(map[*catalog.Column][]byte, len(w.sent.Previous))
	for _, member := range w.sent.Previous {
		column := w.policy.Find(w.table, member.Name)
		if column == nil || column.Generated {
			continue
		}
		value, rejection := w.moment(column, member.Value)
		if rejection != nil {
			return rejection
		}
		text, err := w.table.Convert(column, value)
		if err != nil {
			return unfit(err)
		}
		w.previous[column] = text
	}
	return nil
}

// own sets the owner of a new row, and keeps everybody from giving one away.
func (w *write) own() *upload.Rejection {
	if w.policy.Owner != "" && w.sent.Op != upload.Delete {
		column := w.table.Column(w.policy.Owner)
		subject, err := w.table.Convert(column, quoted(w.who.Subject))
		if err != nil {
			return unfit(err)
		}
		switch at := w.indexOf(column); {
		case at >= 0 && string(w.values[at]) != string(subject):
			return &upload.Rejection{Code: upload.Unauthorized, Message: fmt.Sprintf("%s.%s is the owner, and can only be who writes", w.table, column.Name)}
		case at >= w.keys && w.sent.Op == upload.Patch:
			w.remove(at)
		case at < 0 && w.sent.Op == upload.Put:
			w.columns, w.values = append(w.columns, column), append(w.values, subject)
		}
	}
	if w.sent.Op != upload.Patch {
		return nil
	}
	for _, name := range w.policy.Immutable {
		column := w.table.Column(name)
		at := w.indexOf(column)
		if at < w.keys {
			continue
		}
		if previous, ok := w.previous[column]; !ok || string(previous) != string(w.values[at]) {
			return &upload.Rejection{Code: upload.ImmutableColumn, Message: fmt.Sprintf("%s.%s keeps its first value", w.table, name)}
		}
		w.remove(at)
	}
	return nil
}

// assign sets what the policy sets.
func (w *write) assign(ctx context.Context) (*upload.Rejection, error) {
	w.in.SetNew(w.known())
	for i := range w.policy.Assignments {
		a := &w.policy.Assignments[i]
		column := w.table.Column(a.Column)
		at := w.indexOf(column)
		keeps := slices.Contains(w.policy.Immutable, a.Column)
		if !a.AppliesTo(w.sent.Op, at >= 0) || w.sent.Op == upload.Patch && (keeps || len(w.sent.Data) == 0) {
			continue
		}
		value, err := a.Value(ctx, &w.in)
		if err != nil {
			return nil, err
		}
		if at >= w.keys {
			w.remove(at)
		} else if at >= 0 {
			return invalid("%s.%s is part of the row's id and cannot be set by the policy", w.table, column.Name), nil
		}
		w.assigned = append(w.assigned, column)
		if w.sent.Op == upload.Put && (keeps || a.IsDefault() && w.policy.Put != policies.Replace) {
			w.initial = append(w.initial, column)
		}
		if rejection := w.set(column, value); rejection != nil {
			return rejection, nil
		}
	}
	w.in.SetNew(w.known())
	return nil, nil
}

// decide asks the rules that what was sent is enough for, and keeps the others
// for when the stored row is known.
func (w *write) decide(ctx context.Context) (*upload.Rejection, error) {
	known := func(column string) bool {
		_, ok := w.in.New()[column]
		return w.sent.Op == upload.Delete || ok && !w.depends(column)
	}
	for _, rule := range w.policy.Rules {
		switch {
		case !rule.AppliesTo(w.sent.Op):
			continue
		case rule.NeedsStored(known):
			if !rule.LooksAtForbiddenNull(w.table, &w.in) {
				if skips, err := rule.Skips(ctx, &w.in, known); skips || err != nil {
					if err != nil {
						return nil, err
					}
					continue
				}
			}
			w.rules = append(w.rules, rule)
			continue
		case rule.LooksAtForbiddenNull(w.table, &w.in):
			w.rules = append(w.rules, rule) // for the database to reject, unless a trigger fills it in
			continue
		}
		if rejection, err := rule.Check(ctx, &w.in); rejection != nil || err != nil {
			return rejection, err
		}
	}
	return nil, nil
}

// empty reports whether a PATCH changes nothing.
func (w *write) empty() bool { return len(w.columns) == w.keys && w.counted == nil }

// isAssigned reports whether the policy set a column.
func (w *write) isAssigned(column *catalog.Column) bool { return slices.Contains(w.assigned, column) }

// seen names the row for postern.seen, the setting that says which row rules have
// seen.
func (w *write) seen() []byte {
	columns := make([]string, w.keys)
	for i, c := range w.keyColumns() {
		columns[i] = c.Name
	}
	return fmt.Appendf(nil, "%d %s %s", w.table.OID, catalog.TextArray(columns), catalog.TextArray(texts(w.values[:w.keys])))
}

func (w *write) indexOf(column *catalog.Column) int {
	return slices.Index(w.columns, column)
}

// set adds a column with its value.
func (w *write) set(column *catalog.Column, value jsontext.Value) *upload.Rejection {
	text, err := w.table.Convert(column, value)
	if err != nil {
		return unfit(err)
	}
	w.columns, w.values = append(w.columns, column), append(w.values, text)
	return nil
}

func (w *write) remove(at int) {
	w.columns, w.values = slices.Delete(w.columns, at, at+1), slices.Delete(w.values, at, at+1)
}

func quoted(text string) jsontext.Value {
	value, err := jsontext.AppendQuote(nil, text)
	if err != nil { // not UTF-8, which the decoder has refused
		return jsontext.Value(`""`)
	}
	return value
}

func mismatch(format string, args ...any) *upload.Rejection {
	return &upload.Rejection{Code: upload.SchemaMismatch, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *upload.Rejection {
	return &upload.Rejection{Code: upload.InvalidData, Message: fmt.Sprintf(format, args...)}
}

func unfit(err error) *upload.Rejection {
	rejection := &upload.Rejection{Code: upload.InvalidData, Message: err.Error()}
	var u *catalog.Unfit
	if errors.As(err, &u) {
		rejection.Details = map[string]any{"table": u.Table, "column": u.Column, "type": u.Type, "value": u.Value}
	}
	return rejection
}
