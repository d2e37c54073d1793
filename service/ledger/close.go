package ledger

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// By is who handles rejected writes, and the note they leave.
type By struct {
	Who, Note string
}

// Own limits an author to their own rejected writes. The zero value is the team, and
// limits nothing.
type Own struct {
	Issuer, Subject string
}

// Closing also makes a receipt. The client of a held write still sends it, and is
// then answered from the receipt: rejected, so it drops the transaction.
const closeSQL = `
with closed as (
  update postern.rejected_writes set status = $2, closed_at = now()
   where id = any($1::uuid[]) and status in ('open', 'held') and ($5::text = '' or issuer = $5 and subject = $6)
  returning id, digest, identified),
noted as (
  insert into postern.rejected_actions (record, action, who, note) select id, $2, $3, $4 from closed),
receipt as (
  insert into postern.receipts (digest, outcome) select digest, 'rejected' from closed where identified order by digest
      on conflict do nothing)
select id::text from closed`

// Close gives those of the rejected writes that are open or held the status as,
// Dismissed or Expired. It returns their ids. If two calls close the same one, only
// one of them returns its id.
func (l *Ledger) Close(ctx context.Context, ids []string, as Status, by By, own Own) ([]string, error) {
	rows, err := l.db.Query(ctx, closeSQL, ids, string(as), by.Who, by.Note, own.Issuer, own.Subject)
	if err != nil {
		return nil, fmt.Errorf("closing rejected writes: %w", err)
	}
	closed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("closing rejected writes: %w", err)
	}
	return closed, nil
}

// Dismiss closes an author's own rejected write and returns its status: Dismissed, or
// the status it was closed with before. The error is ErrNoRecord if the id does not
// exist or belongs to another author, because an author must not tell these apart.
func (l *Ledger) Dismiss(ctx context.Context, id string, own Own) (Status, error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return "", ErrNoRecord
	}
	if _, err := l.Close(ctx, []string{key.String()}, Dismissed, By{Who: "its author"}, own); err != nil {
		return "", err
	}
	r, err := l.Record(ctx, key.String())
	if err == nil && (r.Issuer != own.Issuer || r.Subject != own.Subject) {
		err = ErrNoRecord
	}
	return r.Status, err
}

// Replaying returns the statements that close a record as replayed. They must run in
// the database transaction that applies it, before it switches to the user's role.
// They fail with StateClosed if the record is neither open nor held, or if the
// transaction was applied, so only one of two replays takes effect. The receipt has
// outcome applied: if the client sends the transaction again, the answer is success.
// edited is the transaction if it is not the record's own, see EncodeTransaction.
func Replaying(r Record, d Digest, by By, edited []byte) []Statement {
	var statements []Statement
	if d.Receipt {
		statements = append(statements, Statement{
			SQL: `
with receipt as (
  insert into postern.receipts (digest, outcome) values ($1, 'applied')
      on conflict (digest) do update set outcome = 'applied' where receipts.outcome = 'rejected'
  returning digest)
select postern.raise_error($2, 'the transaction was applied') where not exists (select from receipt)`,
			Args: [][]byte{[]byte(d.bytea()), []byte(StateClosed)},
		})
	}
	return append(statements, Statement{
		SQL: `
with closed as (
  update postern.rejected_writes set status = 'replayed', closed_at = now() where id = $1 and status in ('open', 'held') returning id),
noted as (
  insert into postern.rejected_actions (record, action, who, note, transaction) select id, 'replayed', $2, $3, $5 from closed returning record)
select postern.raise_error($4, 'the rejected write is neither open nor held') where not exists (select from noted)`,
		Args: [][]byte{[]byte(r.ID), []byte(by.Who), []byte(by.Note), []byte(StateClosed), edited},
	})
}

// IsClosed reports whether the record of a transaction was replayed, dismissed or expired.
func (l *Ledger) IsClosed(ctx context.Context, d Digest) (closed bool, err error) {
	err = l.db.QueryRow(ctx, `select exists (select from postern.rejected_writes where digest = $1 and `+closedByPeople+`)`, d.Sum[:]).Scan(&closed)
	if err != nil {
		return false, fmt.Errorf("reading the status of a rejected write: %w", err)
	}
	return closed, nil
}

// Note adds an action to a rejected write without closing it.
func (l *Ledger) Note(ctx context.Context, id, action string, by By) error {
	_, err := l.db.Exec(ctx, `insert into postern.rejected_actions (record, action, who, note) values ($1::uuid, $2, $3, $4)`, id, action, by.Who, by.Note)
	if err != nil {
		return fmt.Errorf("adding an action to a rejected write: %w", err)
	}
	return nil
}
