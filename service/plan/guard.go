package plan

import (
	"fmt"

	"postern/policies"
	"postern/service/upload"
	"postern/service/value"
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

func (b *builder) addGuard(code upload.Code, sql string) {
	b.guards = append(b.guards, guard{sql, code})
}

// addGuards adds the conditions of ownership, of immutable columns, of the conflict
// strategy, and that the row is the one that rules have seen.
func (b *builder) addGuards() {
	w := b.w
	if w.sent.Op == upload.Put && w.policy.Put == policies.Insert {
		return // it never touches a stored row
	}
	if w.policy.Owner != "" {
		b.addGuard(upload.Unauthorized, "t."+w.table.Column(w.policy.Owner).SQL()+" = "+b.param([]byte(w.who.Subject)))
	}
	if w.sent.Op == upload.Put {
		for _, name := range w.policy.Immutable {
			if at := w.indexOf(w.table.Column(name)); at >= w.keys && !w.isAssigned(w.columns[at]) {
				b.addGuard(upload.ImmutableColumn, b.equals(w.columns[at], w.values[at]))
			}
		}
	}
	b.addConflictGuards()
	if w.judgesOld() {
		b.addGuard(tryAgain, "current_setting('postern.seen', true) = "+b.param(w.seen()))
	}
}

// seen is what the setting postern.seen holds once rules have read the row.
func (w *write) seen() []byte {
	columns := make([]string, w.keys)
	for i, c := range w.key() {
		columns[i] = c.Name
	}
	return fmt.Appendf(nil, "%d %s %s", w.table.OID, value.TextArray(columns), value.TextArray(texts(w.keyValues())))
}
