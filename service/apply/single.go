package apply

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

// Single is one transaction that no client sends: the team replays it, or tries it
// out. It gets no receipt of its own.
type Single struct {
	Who         identity.Identity
	ClientID    string
	Transaction upload.Transaction
	Now         time.Time          // the now of expressions; the zero value is the present
	Before      []ledger.Statement // run first, as the login role, in the same database transaction
	AsLogin     bool               // as the login role, without what policies forbid or set
	NoRules     bool               // without what policies forbid or set, as Who

	rehearsal *rehearsal
}

// ApplySingle applies a transaction and commits it. The error is an
// *upload.Rejection if it is rejected, and otherwise says why it could not be tried.
// In both cases nothing has happened, except that a lost connection may hide a commit.
func (a *Applier) ApplySingle(ctx context.Context, logger *slog.Logger, s Single) error {
	if s.Now.IsZero() {
		s.Now = time.Now().Truncate(time.Microsecond)
	}
	t := &transaction{Entry: ledger.Entry{Transaction: s.Transaction}}
	r := &request{Applier: a, logger: logger, who: s.Who, clientID: s.ClientID, now: s.Now, single: &s}
	if err := r.prepare(ctx, []*transaction{t}); err != nil {
		return err
	}
	return (&loop{request: r, manner: manner{inTurn: true}}).sendSingle(ctx, t)
}

// sendSingle sends a transaction, in its second order if the first is rejected, and again
// with a current catalogue if that may help.
func (l *loop) sendSingle(ctx context.Context, t *transaction) error {
	for {
		switch {
		case t.failed != nil:
			return t.failed.err
		case t.Rejection != nil:
			return t.Rejection
		}
		failed := l.sendWithRetries(ctx, []*transaction{t})
		if failed == nil {
			return nil
		}
		out := classify(failed, l.snapshot)
		if dependsOnCatalogue(failed, out) && l.outdated() {
			if err := l.refresh(ctx, []*transaction{t}); err != nil {
				return err
			}
			continue
		}
		rejection := out.rejection
		if rejection == nil {
			return failed.err
		}
		complete(rejection, l.set, l.snapshot, t, failed)
		if len(t.orders) > 1 {
			t.orders, t.firstRejection = t.orders[1:], rejection
			continue
		}
		rejection = ofBothOrders(t.firstRejection, rejection)
		rejection.Reword()
		rejection.ClientHandling = clientHandles(l.set, rejection, t.Transaction)
		return rejection
	}
}

// Rehearse does all that ApplySingle does, on a connection that is inside an open
// database transaction, which the caller rolls back. What a rehearsal has written is
// visible to the next one in the same transaction. It reports what each operation did,
// in the order in which they were sent; nothing if there is an error, because then
// nothing was done.
func (a *Applier) Rehearse(ctx context.Context, logger *slog.Logger, conn *pgx.Conn, s Single) ([]Effect, error) {
	seesAll := false
	err := conn.QueryRow(ctx, `select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = session_user`).Scan(&seesAll)
	if err != nil {
		return nil, err
	}
	s.rehearsal = &rehearsal{conn: conn, seesAll: seesAll}
	err = a.ApplySingle(ctx, logger, s)
	if _, reset := conn.Exec(ctx, `select set_config('role', 'none', true)`); reset != nil && err == nil {
		err = reset
	}
	if err != nil {
		return nil, err
	}
	return s.rehearsal.effects(), nil
}
