// Package ledger is what Postern itself remembers in Postgres, in a schema of
// its own: a receipt for every transaction it has answered for good, and every
// write it rejected.
//
// Receipts make each transaction take effect exactly once; rejected writes make
// sure that nothing a client drops on our word is lost. Neither table can be
// read by the application's users.
package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/catalog"
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

// Entry is one transaction of a request that is about to be answered for good:
// applied, or rejected.
type Entry struct {
	Digest      Digest
	Transaction upload.Transaction
	Rejection   *upload.Rejection // nil where it is applied
}

// final says that the entry's answer will stand, whatever comes later. A
// transaction that the client keeps until its app has decided is not answered
// for good.
func (e Entry) final() bool {
	return e.Digest.Receipt && (e.Rejection == nil || !e.Rejection.ClientHandling)
}

// Statement is SQL with parameters in Postgres' text form.
type Statement struct {
	SQL  string
	Args [][]byte
}

// Receipts inserts the receipts of a request's entries in one statement; ok is
// false where none of them gets one. It must run in the database transaction
// that applies the entries, before the user's role is taken: of two arrivals of
// the same transaction one waits here for the other, and fails on
// ReceiptConstraint. Sorted, so that two requests never wait for each other.
func Receipts(entries []Entry) (s Statement, ok bool) {
	var digests, outcomes []string
	final := make([]Entry, 0, len(entries))
	for _, e := range entries {
		if e.final() {
			final = append(final, e)
		}
	}
	slices.SortFunc(final, func(a, b Entry) int { return bytes.Compare(a.Digest.Sum[:], b.Digest.Sum[:]) })
	for _, e := range final {
		outcome := "applied"
		if e.Rejection != nil {
			outcome = "rejected"
		}
		digests, outcomes = append(digests, hexBytes(e.Digest)), append(outcomes, outcome)
	}
	return Statement{
		SQL:  `insert into postern.receipts (digest, outcome) select * from unnest($1::bytea[], $2::text[])`,
		Args: [][]byte{catalog.TextArray(digests), catalog.TextArray(outcomes)},
	}, len(final) > 0
}

// Rejected is the statement that makes a rejected entry durable, the only ground
// on which a client may be told to drop a transaction. It too comes before the
// user's role is taken. A repetition counts another attempt in the row it has.
func Rejected(who identity.Identity, clientID, policySHA256 string, e Entry) (Statement, error) {
	transaction, err := marshal(e.Transaction)
	if err != nil {
		return Statement{}, err
	}
	details, err := json.Marshal(e.Rejection.Details)
	if err != nil {
		return Statement{}, fmt.Errorf("marshalling the details of a rejection: %w", err)
	}
	var index []byte
	if e.Rejection.Operation >= 0 {
		index = strconv.AppendInt(nil, int64(e.Rejection.Operation), 10)
	}
	return Statement{
		SQL: `
insert into postern.rejected_writes
       (digest, issuer, subject, client_id, transaction, code, message, details, operation_index, requires_client_handling, policy_sha256)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (digest) do update
   set attempts = rejected_writes.attempts + 1, last_at = now(), code = excluded.code, message = excluded.message, details = excluded.details,
       operation_index = excluded.operation_index, requires_client_handling = excluded.requires_client_handling, policy_sha256 = excluded.policy_sha256`,
		Args: [][]byte{
			[]byte(hexBytes(e.Digest)), []byte(who.Issuer), []byte(who.Subject), []byte(clientID), transaction,
			[]byte(e.Rejection.Code), []byte(e.Rejection.Message), details, index,
			strconv.AppendBool(nil, e.Rejection.ClientHandling), []byte(policySHA256),
		},
	}, nil
}

// hexBytes is Postgres' text form of a digest.
func hexBytes(d Digest) string { return `\x` + hex.EncodeToString(d.Sum[:]) }

// Ledger reads what was answered before, and forgets what is old.
type Ledger struct {
	db   *pgxpool.Pool
	used chan struct{}
}

// New is a ledger in db's database, connected as Postern's login role.
func New(db *pgxpool.Pool) *Ledger { return &Ledger{db: db, used: make(chan struct{}, 1)} }

// Answers are the results of those of the entries that have a receipt: success
// where it was applied, else the first rejection, of which another attempt is
// counted.
func (l *Ledger) Answers(ctx context.Context, entries []Entry) (map[Digest]upload.Result, error) {
	digests := make([][]byte, 0, len(entries))
	for _, e := range entries {
		digests = append(digests, e.Digest.Sum[:])
	}
	rows, err := l.db.Query(ctx, `
with repeated as (
  update postern.rejected_writes set attempts = attempts + 1, last_at = now()
   where digest = any($1) and exists (select from postern.receipts r where r.digest = rejected_writes.digest and r.outcome = 'rejected')
  returning *)
select r.digest, r.outcome, w.code, w.message, w.details::text, w.operation_index
  from postern.receipts r left join repeated w using (digest)
 where r.digest = any($1)`, digests)
	if err != nil {
		return nil, fmt.Errorf("reading receipts: %w", err)
	}
	var (
		answers               = map[Digest]upload.Result{}
		digest                []byte
		outcome               string
		code, message, detail *string
		index                 *int
	)
	_, err = pgx.ForEachRow(rows, []any{&digest, &outcome, &code, &message, &detail, &index}, func() error {
		key := Digest{Sum: [sha256.Size]byte(digest), Receipt: true}
		switch {
		case outcome == "applied":
			answers[key] = upload.Result{Status: upload.Success}
			return nil
		case code == nil:
			return errors.New("a receipt says rejected, and the rejected write is gone")
		}
		rejection := &upload.Rejection{Code: upload.Code(*code), Message: *message, Operation: -1}
		if index != nil {
			rejection.Operation = *index
		}
		if *detail != "null" {
			rejection.Details = jsontext.Value(*detail)
		}
		answers[key] = upload.Rejected(rejection)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading receipts: %w", err)
	}
	return answers, nil
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
