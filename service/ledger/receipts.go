package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"postern/service/identity"
	"postern/service/upload"
)

// ReceiptConstraint is the constraint that the second receipt of one transaction
// violates.
const ReceiptConstraint = "receipts_pkey"

// Entry is one transaction of a request, with the outcome it is about to get.
type Entry struct {
	Digest      Digest
	Transaction upload.Transaction
	Rejection   *upload.Rejection // nil if it is applied
	Unopened    bool              // no policy opens any of its tables
	Adds        bool              // it has another effect if it is applied twice, and no receipt may stand for it

	// once is the receipt's key if Digest.Receipt is false. It is random, so only the
	// same request finds the receipt again: when it does not know whether it has
	// committed, and tries once more.
	once [sha256.Size]byte
}

// NewEntry is the entry of a transaction of a request, see DigestOf.
func NewEntry(who identity.Identity, clientID string, t upload.Transaction) Entry {
	e := Entry{Digest: DigestOf(who, clientID, t), Transaction: t}
	if !e.Digest.Receipt {
		_, _ = rand.Read(e.once[:]) // never fails
	}
	return e
}

// Receipt is the key of the entry's receipt.
func (e Entry) Receipt() Digest {
	if e.Digest.Receipt {
		return e.Digest
	}
	return Digest{Sum: e.once, Receipt: true}
}

// getsReceipt reports whether the entry's answer is final. If the client keeps the
// transaction until its app has decided, the answer may still change.
func (e Entry) getsReceipt() bool {
	return e.Rejection == nil || e.Digest.Receipt && !e.Rejection.ClientHandling
}

// Settle returns one statement that makes the receipts of a request's entries and
// closes the rejected writes that the request settles: those of transactions that are
// applied, and held ones that their device has left behind. ok is false if the entries
// can settle nothing.
//
// The statement must run in the database transaction that applies the entries, before
// it switches to the user's role. If a transaction arrives twice at once, the second
// waits here for the first, and then violates ReceiptConstraint. Receipts are made in
// the order of their digests, so that two requests never wait for each other.
//
// An entry that its client keeps gets no receipt. If it has one already, because the
// team has replayed or dismissed it, the statement violates ReceiptConstraint, too.
//
// An entry that adds to a number, and that no receipt may stand for, does not close an open
// record of the same content: another device may have sent that one. It closes a held one,
// because each device that sent it keeps it.
//
// If a request names neither a client id nor a session, its queue is not known. Then
// its held writes are not released, only resolved or dismissed.
func Settle(who identity.Identity, clientID string, entries []*Entry) (s Statement, ok bool) {
	var (
		digests, outcomes, undecided, applied, adding list

		latest  []byte // the highest transaction id; NULL if the queue is not known
		highest int64
	)
	slices.SortFunc(entries, func(a, b *Entry) int { return bytes.Compare(a.Digest.Sum[:], b.Digest.Sum[:]) })
	for _, e := range entries {
		outcome := "rejected"
		if e.Rejection == nil {
			outcome = "applied"
			applied.digest(e.Digest)
			if e.Adds {
				adding.digest(e.Digest)
			}
		}
		switch {
		case e.getsReceipt():
			digests.digest(e.Receipt())
			outcomes.text(outcome)
		case e.Digest.Receipt:
			undecided.digest(e.Digest)
		}
		id, err := strconv.ParseInt(e.Transaction.ID, 10, 64)
		if err == nil && device(who, clientID) != "" && (latest == nil || id > highest) {
			highest, latest = id, []byte(e.Transaction.ID)
		}
	}
	args := [][]byte{
		digests.array(), outcomes.array(), undecided.array(), applied.array(),
		[]byte(who.Issuer), []byte(who.Subject), []byte(device(who, clientID)), latest,
	}
	switch {
	case adding.count > 0:
		return Statement{SQL: settleAddingSQL, Args: append(args, adding.array())}, true
	case digests.count == 1:
		args[0], args[1] = digests.only(), outcomes.only()
		return Statement{SQL: SettleOneSQL, Args: args}, true
	}
	return Statement{SQL: SettleSQL, Args: args}, len(entries) > 0
}

// WhenParsedAnew is the statement for a connection without named statements, on which
// Postgres parses and plans it each time. That takes longer than to call the function,
// which finds out itself whether it has something to do.
func WhenParsedAnew(settle Statement) Statement {
	switch settle.SQL {
	case SettleOneSQL:
		settle.SQL = insertOne + settleAlways
	case SettleSQL:
		settle.SQL = insertMany + settleAlways
	}
	return settle
}

// The statements of Settle, for several receipts and for one. They call the function
// only if it has something to do, which is rare: a call takes longer than finding out.
// The one for increments, which chooses among the digests, is apart: Postgres would plan
// it anew each time.
const (
	SettleSQL = insertMany + settle + `$4` + settleIf + openAny

	SettleOneSQL = insertOne + settle + `$4` + settleIf + statusOf + `($4::bytea[])[1]) in ('open', 'held')`

	settleAddingSQL = insertMany + settle + `array(select a from unnest($4::bytea[]) as a where a <> all($9::bytea[]) or ` +
		statusOf + `a) = 'held')` + settleIf + openAny

	settleAlways = ` select postern.settle($3, $4, $5, $6, $7, $8)`

	insertOne  = `with receipts as (insert into postern.receipts (digest, outcome) values ($1, $2))`
	insertMany = `with receipts as (insert into postern.receipts (digest, outcome) select * from unnest($1::bytea[], $2::text[]))`

	settle = `
select postern.settle($3, `

	settleIf = `, $5, $6, $7, $8)
 where $3::bytea[] <> '{}'
    or exists (select from postern.rejected_writes w
                where w.status = 'held' and w.issuer = $5 and w.subject = $6 and w.device = $7 and w.transaction_id < $8)
    or `

	openAny = `exists (select from unnest($4::bytea[]) as applied where ` + statusOf + `applied) in ('open', 'held'))`

	// Each digest is looked up in the index. With digest = any($4), Postgres expects ten
	// rows, and reads all of a table that has a few thousand.
	statusOf = `(select w.status from postern.rejected_writes w where w.digest = `
)

// list is an array in Postgres' text form, of elements that need no escapes.
type list struct {
	elements []byte // with quotes and commas
	count    int
}

func (l *list) text(element string) {
	l.next()
	l.elements = append(append(l.elements, element...), '"')
}

func (l *list) digest(d Digest) {
	l.next()
	l.elements = append(hex.AppendEncode(append(l.elements, `\\x`...), d.Sum[:]), '"')
}

// next begins an element.
func (l *list) next() {
	if l.count++; l.count > 1 {
		l.elements = append(l.elements, ',')
	}
	l.elements = append(l.elements, '"')
}

func (l *list) array() []byte { return slices.Concat([]byte("{"), l.elements, []byte("}")) }

// only returns the only element, as it is outside of an array.
func (l *list) only() []byte {
	return bytes.TrimPrefix(l.elements[1:len(l.elements)-1], []byte(`\`))
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

// Answers returns the results of those entries that have a receipt, by its key. A transaction
// that was applied has status success. One that was rejected gets its first
// rejection again.
func (l *Ledger) Answers(ctx context.Context, entries []Entry) (map[Digest]upload.Result, error) {
	digests := make([][]byte, 0, len(entries))
	for _, e := range entries {
		key := e.Receipt()
		digests = append(digests, key.Sum[:])
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
		if details != nil {
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
