// Package ledger is what Postern itself remembers in Postgres, in a schema of
// its own: a receipt for every transaction it has answered for good, and every
// write it rejected.
//
// Receipts make each transaction take effect exactly once; rejected writes make
// sure that nothing a client drops on our word is lost. Of these tables the
// application's users can read one, rejected_writes, and there their own rows.
// README.md tells the life of a rejected write.
package ledger

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// StateDeclined is the SQLSTATE, in a class that neither the SQL standard nor
// Postgres uses, with which postern.untouched says that the row may not be touched
// as it is. The message is the code of the rejection.
const StateDeclined = "PN006"

// SQLSTATEs raised by postern.raise_error, which undoes a replay.
const (
	StateClosed = "PN004" // the rejected write is not open any more
	StateDryRun = "PN005" // everything went well
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
	h := sha256.New()
	write(h, "1", who.Issuer, who.Subject, device(who, clientID), t.ID)
	identified := t.ID != ""
	for _, op := range t.Operations {
		identified = identified || op.OpID != ""
		write(h, op.OpID, string(op.Op), op.Table, op.ID, op.Metadata)
		writeMembers(h, op.Data)
		writeMembers(h, op.Previous)
	}
	return Digest{Sum: [sha256.Size]byte(h.Sum(nil)), Receipt: identified}
}

// device names the queue that a transaction comes from; empty where nothing does.
func device(who identity.Identity, clientID string) string { return cmp.Or(clientID, who.SessionID) }

// write hashes each text with its length, so that no two lists hash alike.
func write(h hash.Hash, texts ...string) {
	for _, text := range texts {
		writeLength(h, len(text))
		_, _ = io.WriteString(h, text)
	}
}

func writeLength(h hash.Hash, n int) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(n))
	_, _ = h.Write(length[:])
}

func writeMembers(h hash.Hash, members []upload.Member) {
	writeLength(h, len(members))
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
//
// A transaction that the client keeps gets none, and fails on one that is there:
// meanwhile somebody has replayed it, or dismissed it for good.
func Receipts(entries []Entry) (s Statement, ok bool) {
	var digests, outcomes, kept []string
	final := make([]Entry, 0, len(entries))
	for _, e := range entries {
		switch {
		case e.final():
			final = append(final, e)
		case e.Digest.Receipt:
			kept = append(kept, hexBytes(e.Digest))
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
	s = Statement{
		SQL:  `insert into postern.receipts (digest, outcome) select * from unnest($1::bytea[], $2::text[])`,
		Args: [][]byte{catalog.TextArray(digests), catalog.TextArray(outcomes)},
	}
	if len(kept) > 0 {
		s.SQL += ` union all select digest, outcome from postern.receipts where digest = any($3::bytea[])`
		s.Args = append(s.Args, catalog.TextArray(kept))
	}
	return s, len(final)+len(kept) > 0
}

// hexBytes is Postgres' text form of a digest.
func hexBytes(d Digest) string { return `\x` + hex.EncodeToString(d.Sum[:]) }

// Ledger reads what was answered before, keeps the rejected writes, and forgets
// what is old. It is safe for concurrent use.
type Ledger struct {
	Retention time.Duration // how long a closed rejected write is kept; 0 is for ever
	Announce  bool          // each new rejected write makes a job for the webhook

	db   *pgxpool.Pool
	used chan struct{}
	held atomic.Bool // at the last tidying up there were held ones
}

// New is a ledger in db's database, connected as Postern's login role or as the
// owner of schema postern.
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
