package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

// ErrClosed says that a rejected write is neither open nor held any more.
var ErrClosed = errors.New("it is closed: somebody has replayed or dismissed it, or its client came through with it")

// Replay applies a rejected write after all, once, as who, through the Applier's
// policies, and closes its record in the same database transaction. A dry run
// does all of it and undoes it.
//
// The error is an *upload.Rejection where it would be rejected again, ErrClosed
// where there is nothing to do, and else what kept it from being tried. In all
// these cases nothing has happened. A connection that breaks is tried again, and
// may turn out to have done it: then the error is ErrClosed and the record is
// replayed.
func (a *Applier) Replay(ctx context.Context, logger *slog.Logger, who identity.Identity, record ledger.Record, by ledger.By, dryRun bool) error {
	digest, decoded, err := record.Decoded()
	if err != nil {
		return err
	}
	t := &transaction{Entry: ledger.Entry{Digest: digest, Transaction: decoded}, logger: logger}
	s := &sender{Applier: a, who: who, clientID: record.ClientID, replay: &replay{record, digest, by, dryRun}}
	return s.once(ctx, t)
}

// Explain does all that Apply does with one transaction and undoes it, so that a
// policies.Trace of ctx is told what each rule says. The error is an
// *upload.Rejection where it would be rejected, and else what kept it from being
// tried.
func (a *Applier) Explain(ctx context.Context, logger *slog.Logger, who identity.Identity, t upload.Transaction) error {
	s := &sender{Applier: a, who: who, replay: &replay{dryRun: true}}
	return s.once(ctx, &transaction{Entry: ledger.Entry{Transaction: t}, logger: logger})
}

// once sends one transaction, and says what became of it.
func (s *sender) once(ctx context.Context, t *transaction) error {
	if err := s.prepare(ctx, []*transaction{t}); err != nil {
		return err
	}
	switch {
	case t.failed != nil:
		return t.failed
	case t.Rejection != nil:
		return t.Rejection
	}
	failed := s.sendInEitherOrder(ctx, t)
	if failed == nil {
		return nil
	}
	var pg *pgconn.PgError
	switch errors.As(failed.err, &pg); {
	case pg != nil && pg.Code == ledger.StateDryRun:
		return nil
	case pg != nil && pg.Code == ledger.StateClosed:
		return ErrClosed
	}
	if out := classify(failed); out.rejection != nil {
		s.complete(out.rejection, t.plan, failed)
		out.rejection.ClientHandling = s.directed(out.rejection, t.Transaction)
		return out.rejection
	}
	return failed.err
}

// sendInEitherOrder sends a transaction in its second order where the first one
// is rejected.
func (s *sender) sendInEitherOrder(ctx context.Context, t *transaction) *failure {
	first := s.sendPatiently(ctx, []*transaction{t})
	if first == nil || t.other == nil || classify(first).rejection == nil {
		return first
	}
	t.plan = t.other
	if second := s.sendPatiently(ctx, []*transaction{t}); second == nil || classify(second).rejection == nil {
		return second
	}
	return first
}

// replay is what a sender does for a rejected write instead of what it does for
// a client.
type replay struct {
	record ledger.Record
	digest ledger.Digest
	by     ledger.By
	dryRun bool
}

// start comes in the place of the receipts.
func (r *replay) start() []ledger.Statement {
	if r.record.ID == "" {
		return nil // nothing that was rejected, but what is to be explained
	}
	return ledger.Replaying(r.record, r.digest, r.by)
}

// end comes last, before the commit.
func (r *replay) end(steps []step) []step {
	if r == nil || !r.dryRun {
		return steps
	}
	undo := ledger.DryRun()
	return append(steps, step{kind: record, transaction: -1, operation: -1, sql: undo.SQL, args: undo.Args})
}

// mayHold says whether there may be held writes that what is sent now closes.
// What the team replays is not what a device has come to.
func (s *sender) mayHold() bool {
	if s.replay != nil {
		return false
	}
	return s.set.HasClientHandling() || s.Ledger.MayHold()
}

// ErrCannotRead says that a connection does not see every row of a table.
var ErrCannotRead = errors.New("this connection may not read every row of it")

// StoredRow is the row that an operation means as it is now, as a JSON object of
// the database's columns; nil where there is none. It is read with the
// connection's own rights: ErrCannotRead where those do not show every row.
func StoredRow(ctx context.Context, db *pgxpool.Pool, set *policies.Set, tables *catalog.Snapshot, op upload.Operation) (table *catalog.Table, row jsontext.Value, err error) {
	w := &write{sent: op}
	if rejection := w.locate(set, tables); rejection != nil {
		return nil, nil, rejection
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("reading a row of %s: %w", w.table, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// Rather an error than no row.
	if _, err := tx.Exec(ctx, `set local row_security = off`); err != nil {
		return nil, nil, fmt.Errorf("reading a row of %s: %w", w.table, err)
	}
	result := tx.Conn().PgConn().ExecParams(ctx, "select to_json(t.*) from "+w.table.SQL()+" as t where "+w.key(), w.values[:w.keys], nil, nil, nil).Read()
	var pg *pgconn.PgError
	if errors.As(result.Err, &pg) && pg.Code == "42501" {
		return w.table, nil, ErrCannotRead
	}
	if result.Err != nil {
		return w.table, nil, fmt.Errorf("reading a row of %s: %w", w.table, result.Err)
	}
	if len(result.Rows) == 1 {
		row = result.Rows[0][0]
	}
	return w.table, row, nil
}
