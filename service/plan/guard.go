package plan

import (
	"postern/policies"
	"postern/service/upload"
)

// guard is a condition on the stored row t. If it fails, the operation does not
// touch the row.
type guard struct {
	sql  string      // rendered once, with its parameters
	code upload.Code // of the rejection, or Dropped, or tryAgain
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
		b.addGuard(upload.Unauthorized, "t."+owner.SQL()+" "+owner.Equals()+" "+b.param([]byte(w.who.Subject)))
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
	if w.judgesOld() {
		b.addGuard(tryAgain, "current_setting('postern.seen', true) = "+b.param(w.seen()))
	}
}
