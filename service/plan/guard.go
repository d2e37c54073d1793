package plan

import (
	"slices"
	"strconv"

	"postern/policies"
	"postern/service/ledger"
	"postern/service/upload"
)

// guard is a condition on the stored row t. If it fails, the operation does not
// touch the row.
type guard struct {
	sql  string      // rendered once, with its parameters
	code upload.Code // of the rejection, or Dropped, or tryAgain; empty if the condition itself fails
}

const (
	// Dropped is the code of a guard that drops the operation silently.
	Dropped upload.Code = "DROPPED"
	// tryAgain is the code of a guard after which the database transaction has to be
	// tried again.
	tryAgain upload.Code = "AGAIN"
)

// addGuards adds the conditions of ownership, of soft deletion, of immutable columns,
// of the conflict strategy, and that the row is the one that the history and rules have seen.
func addGuards(b *builder) {
	w := b.w
	if w.sent.Op == upload.Put && w.policy.Put == policies.Insert {
		return // it never touches a stored row
	}
	if w.policy.Owner != "" {
		owner := w.table.Column(w.policy.Owner)
		b.addGuard(upload.Unauthorized, "t."+owner.SQL()+" "+owner.Equals()+" "+b.ownParam(func(w *write) []byte { return []byte(w.who.Subject) }))
	}
	if w.sent.Op == upload.Put && w.protectsDeleted() {
		b.addGuard(upload.RowDeleted, w.notDeleted())
	}
	if w.sent.Op == upload.Put {
		for _, name := range w.policy.Immutable {
			if at := w.indexOf(w.table.Column(name)); at >= w.keys && !w.isAssigned(w.columns[at]) {
				b.addGuard(upload.ImmutableColumn, equals(b, w.columns[at], w.values[at]))
			}
		}
	}
	addConflictGuards(b)
	if b.history != nil && b.history.before != "" {
		b.addGuard(tryAgain, wasSeen)
	}
	if b.judges {
		b.addSeenGuard()
	}
}

// addSeenGuard adds the condition that rules have seen the row. It is the last guard. If
// only this one could keep the operation from its row, the condition itself fails, because
// an explanation takes a third of the statement's time. Postgres evaluates it for the
// operation's row alone: it checks the key first, which costs less.
func (b *builder) addSeenGuard() {
	w, seen := b.w, "current_setting('postern.seen', true) = "+b.ownParam((*write).seen)
	if b.explains() || w.sent.Op == upload.Put && w.mayBeTriggered() { // a trigger may be the reason, too
		b.addGuard(tryAgain, seen)
		return
	}
	b.addGuard("", "case when "+seen+" then true else "+raise(ledger.StateUnseen, "the rules have not seen the row")+" is null end")
}

// raise is SQL that fails.
func raise(state, reason string) string {
	return "postern.raise_error('" + state + "', '" + reason + "')"
}

// RejectHidden is a statement that fails if a PUT would change a row that its user may not
// change, and so its rules, or what the policy sets, cannot see. It is for a PUT that has
// failed because they have not seen it: either the row is hidden, or another transaction has
// just inserted it. A row that is gone, after the statement has waited, was not hidden.
func (o *Operation) RejectHidden() (s Statement, ok bool) {
	var w *write
	switch {
	case o.Sets != nil:
		w = o.Sets.w
	case o.Checks != nil && o.Checks.judges:
		w = o.Checks.w
	}
	if w == nil || w.sent.Op != upload.Put || w.policy.Put == policies.Insert {
		return Statement{}, false
	}
	b := &builder{w: w}
	operation := b.param(strconv.AppendInt(nil, int64(w.index), 10))
	table, key := b.rowParams()
	row := table + ", " + key
	s.SQL = "select postern.explain_no_row(" + operation + ", " + row + ", false, postern.row_version(" + row + "), null, '" + string(upload.Unauthorized) + "', null)" +
		" where not exists (select from postern.current_row(null::" + w.table.SQL() + ", " + key + ", true))"
	s.Args = b.args
	return s, true
}

// explains reports whether the statement has to say why it touched no row.
func (b *builder) explains() bool {
	return slices.ContainsFunc(b.guards, func(g guard) bool { return g.code != "" }) ||
		b.w.rejectsMissing() || b.w.sent.Op != upload.Put && b.w.table.RowSecurity
}
