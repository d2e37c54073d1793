// Package ledger is what Postern itself remembers in Postgres, in a schema of
// its own: a receipt for every transaction it has answered for good, and every
// write it rejected.
//
// Receipts make each transaction take effect exactly once; rejected writes make
// sure that nothing a client drops on our word is lost. Neither table can be
// read by the application's users.
package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/identity"
	"postern/service/upload"
)

// SQLSTATEs raised by postern.untouched, in a class that neither the SQL
// standard nor Postgres uses. Their detail is the operation's index.
const (
	StateHidden    = "PN001" // the row exists and the user may not touch it
	StateMissing   = "PN002" // the row does not exist, and the policy rejects that
	StateCannotSay = "PN003" // the schema's owner may not look
)

// ReceiptConstraint is the constraint that a second arrival violates.
const ReceiptConstraint = "receipts_pkey"

// Digest identifies a transaction of a device's queue.
type Digest struct {
	Sum     [sha256.Size]byte
	Receipt bool // the transaction is identifiable, so a receipt may stand for it
}

// DigestOf covers who sent the transaction, from which device, its ids and its
// whole content: the same ids with other content, as a restored backup sends
// them, are another transaction. Where the client sends no id of its device the
// token's session stands for it. A transaction with neither op ids nor an id of
// its own cannot be told from a later one that says the same, so it gets no
// receipt.
func DigestOf(who identity.Identity, clientID string, t upload.Transaction) Digest {
	device := clientID
	if device == "" {
		device = who.SessionID
	}
	h := sha256.New()
	write(h, "1", who.Issuer, who.Subject, device, t.ID)
	identified := t.ID != ""
	for _, op := range t.Operations {
		identified = identified || op.OpID != ""
		write(h, op.OpID, string(op.Op), op.Table, op.ID, op.Metadata)
		writeMembers(h, op.Data)
		writeMembers(h, op.Previous)
	}
	return Digest{Sum: [sha256.Size]byte(h.Sum(nil)), Receipt: identified}
}

// write hashes each text with its length, so that no two lists hash alike.
func write(h hash.Hash, texts ...string) {
	for _, text := range texts {
		_ = binary.Write(h, binary.BigEndian, uint64(len(text)))
		_, _ = h.Write([]byte(text))
	}
}

func writeMembers(h hash.Hash, members []upload.Member) {
	_ = binary.Write(h, binary.BigEndian, uint64(len(members)))
	for _, m := range members {
		value := m.Value.Clone()
		_ = value.Compact()
		write(h, m.Name, string(value))
	}
}

// Ledger writes and reads the tables of schema postern.
type Ledger struct {
	db *pgxpool.Pool
}

// New is a ledger in db's database, connected as Postern's login role.
func New(db *pgxpool.Pool) *Ledger { return &Ledger{db: db} }

// QueueReceipt adds the receipt of a transaction to the batch that applies it.
// It must come first, before the user's role is taken: the loser of a race of
// two arrivals waits here, and fails on ReceiptConstraint.
func QueueReceipt(b *pgx.Batch, d Digest) {
	b.Queue(`insert into postern.receipts (digest, outcome) values ($1, 'applied')`, d.Sum[:])
}

// Rejected is a write as it was turned down.
type Rejected struct {
	Digest       Digest
	Who          identity.Identity
	ClientID     string
	Transaction  upload.Transaction
	Rejection    *upload.Rejection
	PolicySHA256 string
}

// Record makes the rejection durable and is the only ground on which a client
// may be told to drop a transaction. A repetition counts another attempt in the
// row it already has. When the transaction was answered before, that answer
// stands: success if it was applied, else the first rejection.
func (l *Ledger) Record(ctx context.Context, r Rejected) (upload.Result, error) {
	transaction, err := marshal(r.Transaction)
	if err != nil {
		return upload.Result{}, err
	}
	details, err := json.Marshal(r.Rejection.Details)
	if err != nil {
		return upload.Result{}, fmt.Errorf("marshalling the details of a rejection: %w", err)
	}
	var index *int
	if r.Rejection.Operation >= 0 {
		index = &r.Rejection.Operation
	}
	final := r.Digest.Receipt && !r.Rejection.ClientHandling
	var b pgx.Batch
	if final {
		b.Queue(`insert into postern.receipts (digest, outcome) values ($1, 'rejected') on conflict do nothing`, r.Digest.Sum[:])
	}
	b.Queue(`
insert into postern.rejected_writes
       (digest, issuer, subject, client_id, transaction, code, message, details, operation_index, requires_client_handling, policy_sha256)
select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
 where not exists (select from postern.receipts where digest = $1 and outcome = 'applied')
    on conflict (digest) do update set attempts = rejected_writes.attempts + 1, last_at = now()`,
		r.Digest.Sum[:], r.Who.Issuer, r.Who.Subject, r.ClientID, string(transaction), string(r.Rejection.Code), r.Rejection.Message,
		string(details), index, r.Rejection.ClientHandling, r.PolicySHA256)
	if err := l.db.SendBatch(ctx, &b).Close(); err != nil {
		return upload.Result{}, fmt.Errorf("recording a rejected write: %w", err)
	}
	if final {
		return l.Answer(ctx, r.Digest)
	}
	return upload.Rejected(r.Rejection), nil
}

// Answer is what became of a transaction that has a receipt.
func (l *Ledger) Answer(ctx context.Context, d Digest) (upload.Result, error) {
	var (
		outcome             string
		code, message, data *string
		index               *int
	)
	err := l.db.QueryRow(ctx, `
select r.outcome, w.code, w.message, w.details::text, w.operation_index
  from postern.receipts r left join postern.rejected_writes w on w.digest = r.digest and r.outcome = 'rejected'
 where r.digest = $1`, d.Sum[:]).Scan(&outcome, &code, &message, &data, &index)
	switch {
	case err != nil:
		return upload.Result{}, fmt.Errorf("reading a receipt: %w", err)
	case outcome == "applied":
		return upload.Result{Status: upload.Success}, nil
	case code == nil:
		return upload.Result{}, errors.New("reading a receipt: it says rejected, and the rejected write is gone")
	}
	rejection := &upload.Rejection{Code: upload.Code(*code), Message: *message, Operation: -1}
	if index != nil {
		rejection.Operation = *index
	}
	if *data != "null" {
		rejection.Details = jsontext.Value(*data)
	}
	return upload.Rejected(rejection), nil
}

// marshal spells a transaction in the write API's form, with every value as the
// client spelled it.
func marshal(t upload.Transaction) ([]byte, error) {
	type operation struct {
		OpID     jsontext.Value `json:"op_id,omitzero"`
		ID       string         `json:"id"`
		Op       upload.Op      `json:"op"`
		Table    string         `json:"table"`
		Data     jsontext.Value `json:"op_data,omitzero"`
		Previous jsontext.Value `json:"previous_values,omitzero"`
		Metadata string         `json:"metadata,omitempty"`
	}
	out := struct {
		ID   jsontext.Value `json:"transaction_id,omitzero"`
		Crud []operation    `json:"crud"`
	}{ID: number(t.ID)}
	for _, op := range t.Operations {
		data, err := object(op.Data)
		if err != nil {
			return nil, err
		}
		previous, err := object(op.Previous)
		if err != nil {
			return nil, err
		}
		out.Crud = append(out.Crud, operation{number(op.OpID), op.ID, op.Op, op.Table, data, previous, op.Metadata})
	}
	return json.Marshal(out)
}

// number is nil, which is left out, where the client sent none.
func number(decimal string) jsontext.Value {
	if decimal == "" {
		return nil
	}
	return jsontext.Value(decimal)
}

func object(members []upload.Member) (jsontext.Value, error) {
	if members == nil {
		return nil, nil
	}
	value := jsontext.Value{'{'}
	for i, m := range members {
		if i > 0 {
			value = append(value, ',')
		}
		name, err := jsontext.AppendQuote(nil, m.Name)
		if err != nil {
			return nil, fmt.Errorf("marshalling column name: %w", err)
		}
		value = append(append(append(value, name...), ':'), m.Value...)
	}
	return append(value, '}'), nil
}
