// Package replay lets the team apply a rejected write after all, and shows the rows
// that it is about. It is not on the path of clients' writes.
package replay

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
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// ErrClosed says that a rejected write is neither open nor held any more.
var ErrClosed = errors.New("it is closed: it was replayed or dismissed, or its client has sent it with success")

// ErrNoContent says that a rejected write has no content that could be applied.
var ErrNoContent = errors.New("it cannot be replayed")

// ErrCannotRead says that a connection does not see every row of a table.
var ErrCannotRead = errors.New("this connection may not read every row of it")

// Request is what the team wants to do with a rejected write.
type Request struct {
	Record  ledger.Record
	Who     identity.Identity // its author, perhaps in another role
	By      ledger.By
	Edits   []Edit // applied instead of what was sent
	NoRules bool   // without what policies forbid or set; row-level security and constraints still apply
}

// Replay applies a rejected write once through the applier's policies, and closes its
// record in the same database transaction.
//
// The error is an *upload.Rejection if the write is rejected again, ErrClosed if there is
// nothing to do, ErrNoContent if the record has no content, and ErrEdit if an edit is
// impossible. Otherwise it says why the write could not be tried. In all these cases
// nothing has happened, but a rejection is noted in the record. After a lost connection
// the replay is tried again, and may find that it was done: then the error is ErrClosed,
// and the record is replayed.
func Replay(ctx context.Context, a *apply.Applier, logger *slog.Logger, r Request) error {
	single, err := r.single()
	if err != nil {
		return err
	}
	err = closedOr(a.ApplySingle(ctx, logger, single))
	var rejection *upload.Rejection
	if errors.As(err, &rejection) {
		if err := a.Ledger.Note(ctx, r.Record.ID, "replay failed", ledger.By{Who: r.By.Who, Note: string(rejection.Code)}); err != nil {
			return err
		}
	}
	return err
}

// DryRun does what Replay does and rolls it back. It returns what each operation did, and
// has the same errors.
func DryRun(ctx context.Context, a *apply.Applier, logger *slog.Logger, r Request) ([]apply.Effect, error) {
	single, err := r.single()
	if err != nil {
		return nil, err
	}
	tx, err := a.DB.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning a dry run: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	effects, err := a.Rehearse(ctx, logger, tx.Conn(), single)
	return effects, closedOr(err)
}

func (r Request) single() (apply.Single, error) {
	switch {
	case r.Record.Code == upload.TooLarge:
		return apply.Single{}, fmt.Errorf("%w: it was over a limit of the server, so its content is not stored: raise the limit, and its device sends it again", ErrNoContent)
	case r.Record.Raw != nil:
		return apply.Single{}, fmt.Errorf("%w: %s. Its bytes are in postern rejected show: make the change by other means, and dismiss it", ErrNoContent, r.Record.Message)
	case !r.Record.HasContent:
		return apply.Single{}, fmt.Errorf("%w: no policy opens its tables and it is large, so its content is not stored: dismiss it", ErrNoContent)
	}
	digest, transaction, err := r.Record.Decoded()
	if err != nil {
		return apply.Single{}, err
	}
	var edited []byte
	if len(r.Edits) > 0 {
		if transaction, err = edit(transaction, r.Edits); err != nil {
			return apply.Single{}, err
		}
		if edited, err = ledger.EncodeTransaction(transaction); err != nil {
			return apply.Single{}, err
		}
	}
	return apply.Single{
		Who: r.Who, ClientID: r.Record.ClientID, Transaction: transaction, NoRules: r.NoRules,
		Before: ledger.Replaying(r.Record, digest, r.By, edited),
	}, nil
}

// closedOr is ErrClosed if the record was not open.
func closedOr(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == ledger.StateClosed {
		return ErrClosed
	}
	return err
}

// storedRow is the row that an operation means as it is now, as a JSON object of the
// database's columns; nil if there is none. It is read as a user who may not see every
// row, or with the connection's own rights if who is nil. The error is ErrCannotRead if
// those do not show every row, and an *upload.Rejection if the operation names no row.
func storedRow(ctx context.Context, db *pgxpool.Pool, set *policies.Set, tables *catalog.Snapshot, op upload.Operation, who *identity.Identity) (*catalog.Table, jsontext.Value, error) {
	op.Data = nil
	p := &plan.Planner{Set: set, Tables: tables}
	query, rejection := p.StoredRow(op)
	if rejection != nil {
		return nil, nil, rejection
	}
	fail := func(err error) (*catalog.Table, jsontext.Value, error) {
		return query.Table, nil, fmt.Errorf("reading a row of %s: %w", query.Table, err)
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return fail(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if who != nil {
		_, err = tx.Exec(ctx, `select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)`, string(who.Claims), who.Role)
	} else {
		// With row_security off, Postgres raises an error instead of hiding rows.
		_, err = tx.Exec(ctx, `set local row_security = off`)
	}
	if err != nil {
		return fail(err)
	}
	result := tx.Conn().PgConn().ExecParams(ctx, query.SQL, query.Args, nil, nil, nil).Read()
	var pg *pgconn.PgError
	switch {
	case errors.As(result.Err, &pg) && pg.Code == "42501":
		return query.Table, nil, ErrCannotRead
	case result.Err != nil:
		return fail(result.Err)
	case len(result.Rows) == 0:
		return query.Table, nil, nil
	}
	return query.Table, result.Rows[0][0], nil
}
