package ledger

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// By is who does something about rejected writes, and what they have to say.
type By struct {
	Who, Note string
}

// Own limits what an author can reach to what is theirs. The zero value is the
// team, who reaches everything.
type Own struct {
	Issuer, Subject string
}

// A held write gets a receipt, so that its client, which still sends it, is told
// that it is rejected and may drop it.
const closeSQL = `
with closed as (
  update postern.rejected_writes set status = $2, closed_at = now()
   where id = any($1::uuid[]) and status in ('open', 'held') and ($5::text = '' or issuer = $5 and subject = $6)
  returning id, digest, transaction_id),
noted as (
  insert into postern.rejected_actions (record, action, who, note) select id, $2, $3, $4 from closed),
told as (
  insert into postern.receipts (digest, outcome) select digest, 'rejected' from closed where transaction_id is not null order by digest
      on conflict do nothing)
select id::text from closed`

// Close ends the life of those that are open or held, with status Dismissed or
// Expired, and returns the ids of those it was. Of two that close the same one,
// one does.
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

// Dismiss closes an author's own rejected write, and returns what it then is:
// Dismissed, or what it was closed as before. ErrNoRecord where there is none of
// that id or it is somebody else's, which must look the same.
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

// Replaying are the statements that close a record as replayed. They belong into
// the database transaction that applies it, before the role is taken. They fail
// with StateClosed where it is not open or held any more, so that of two replays
// one takes effect. Its digest gets a receipt that says applied, so that its
// client, should it come with it again, is told so.
func Replaying(r Record, d Digest, by By) []Statement {
	var statements []Statement
	if d.Receipt {
		statements = append(statements, Statement{
			SQL:  `insert into postern.receipts (digest, outcome) values ($1, 'applied') on conflict (digest) do update set outcome = 'applied'`,
			Args: [][]byte{[]byte(hexBytes(d))},
		})
	}
	return append(statements, Statement{
		SQL: `
with closed as (
  update postern.rejected_writes set status = 'replayed', closed_at = now() where id = $1 and status in ('open', 'held') returning id),
noted as (
  insert into postern.rejected_actions (record, action, who, note) select id, 'replayed', $2, $3 from closed returning record)
select postern.raise_error($4, 'the rejected write is not open') where not exists (select from noted)`,
		Args: [][]byte{[]byte(r.ID), []byte(by.Who), []byte(by.Note), []byte(StateClosed)},
	})
}

// DryRun is the statement that undoes everything before it, after all went well.
func DryRun() Statement {
	return Statement{SQL: `select postern.raise_error($1, 'a dry run')`, Args: [][]byte{[]byte(StateDryRun)}}
}

// Note records what was done about a rejected write without closing it.
func (l *Ledger) Note(ctx context.Context, id, action string, by By) error {
	_, err := l.db.Exec(ctx, `insert into postern.rejected_actions (record, action, who, note) values ($1::uuid, $2, $3, $4)`, id, action, by.Who, by.Note)
	if err != nil {
		return fmt.Errorf("recording what was done about a rejected write: %w", err)
	}
	return nil
}
