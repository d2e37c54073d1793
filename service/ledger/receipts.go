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

	"postern/service/catalog"
	"postern/service/upload"
)

// ReceiptConstraint is the constraint that a second arrival violates.
const ReceiptConstraint = "receipts_pkey"

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
