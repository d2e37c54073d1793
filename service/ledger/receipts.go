package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"postern/service/upload"
	"postern/service/value"
)

// ReceiptConstraint is the constraint that the second receipt of one transaction
// violates.
const ReceiptConstraint = "receipts_pkey"

// Entry is one transaction of a request, with the outcome it is about to get.
type Entry struct {
	Digest      Digest
	Transaction upload.Transaction
	Rejection   *upload.Rejection // nil if it is applied
}

// getsReceipt reports whether the entry's answer is final. If the client keeps the
// transaction until its app has decided, the answer may still change.
func (e Entry) getsReceipt() bool {
	return e.Digest.Receipt && (e.Rejection == nil || !e.Rejection.ClientHandling)
}

// Receipts returns one statement that inserts the receipts of a request's entries.
// ok is false if there is nothing to insert or check.
//
// The statement must run in the database transaction that applies the entries,
// before it switches to the user's role. If a transaction arrives twice at once, the
// second waits here for the first, and then violates ReceiptConstraint. The digests
// are sorted, so that two requests never wait for each other.
//
// An entry that its client keeps gets no receipt. If it has one already, because the
// team has replayed or dismissed it, the statement violates ReceiptConstraint, too.
func Receipts(entries []Entry) (s Statement, ok bool) {
	var digests, outcomes, kept []string
	final := make([]Entry, 0, len(entries))
	for _, e := range entries {
		switch {
		case e.getsReceipt():
			final = append(final, e)
		case e.Digest.Receipt:
			kept = append(kept, e.Digest.bytea())
		}
	}
	slices.SortFunc(final, func(a, b Entry) int { return bytes.Compare(a.Digest.Sum[:], b.Digest.Sum[:]) })
	for _, e := range final {
		outcome := "applied"
		if e.Rejection != nil {
			outcome = "rejected"
		}
		digests, outcomes = append(digests, e.Digest.bytea()), append(outcomes, outcome)
	}
	s = Statement{
		SQL:  `insert into postern.receipts (digest, outcome) select * from unnest($1::bytea[], $2::text[])`,
		Args: [][]byte{value.TextArray(digests), value.TextArray(outcomes)},
	}
	if len(kept) > 0 {
		s.SQL += ` union all select digest, outcome from postern.receipts where digest = any($3::bytea[])`
		s.Args = append(s.Args, value.TextArray(kept))
	}
	return s, len(final)+len(kept) > 0
}

// A repeated rejected write counts another attempt.
const answersSQL = `
with repeated as (
  update postern.rejected_writes set attempts = attempts + 1, last_at = now()
   where digest = any($1) and exists (select from postern.receipts r where r.digest = rejected_writes.digest and r.outcome = 'rejected')
  returning *)
select r.digest, r.outcome, w.code, w.message, w.details::text, w.operation_index
  from postern.receipts r left join repeated w using (digest)
 where r.digest = any($1)`

// Answers returns the results of those entries that have a receipt. A transaction
// that was applied has status success. One that was rejected gets its first
// rejection again.
func (l *Ledger) Answers(ctx context.Context, entries []Entry) (map[Digest]upload.Result, error) {
	digests := make([][]byte, 0, len(entries))
	for _, e := range entries {
		digests = append(digests, e.Digest.Sum[:])
	}
	rows, err := l.db.Query(ctx, answersSQL, digests)
	if err != nil {
		return nil, fmt.Errorf("reading receipts: %w", err)
	}
	var (
		answers                = map[Digest]upload.Result{}
		digest                 []byte
		outcome                string
		code, message, details *string
		index                  *int
	)
	_, err = pgx.ForEachRow(rows, []any{&digest, &outcome, &code, &message, &details, &index}, func() error {
		key := Digest{Sum: [sha256.Size]byte(digest), Receipt: true}
		switch {
		case outcome == "applied":
			answers[key] = upload.Result{Status: upload.Success}
			return nil
		case code == nil:
			return errors.New("a receipt has outcome rejected, but its rejected write does not exist")
		}
		rejection := &upload.Rejection{Code: upload.Code(*code), Message: *message, Operation: -1}
		if index != nil {
			rejection.Operation = *index
		}
		if *details != "null" {
			rejection.Details = jsontext.Value(*details)
		}
		answers[key] = upload.Rejected(rejection)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading receipts: %w", err)
	}
	return answers, nil
}
