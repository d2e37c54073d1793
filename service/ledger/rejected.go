package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"postern/service/identity"
	"postern/service/upload"
	"postern/service/value"
)

// A rejected write has one row, however often its client repeats it. A repeated
// write that was closed is opened again, unless its status is settled.
var rejectedSQL = `
with stored as (
  insert into postern.rejected_writes
         (digest, issuer, subject, client_id, device, transaction_id, transaction, tables, code, message, details, operation_index,
          requires_client_handling, rule, policy_sha256, identified, raw, status, has_content, bytes)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $18, decode($19, 'base64'), case when $13::boolean then 'held' else 'open' end,
          $20, postern.make_room($2, $3, $1, $21, ` + fmt.Sprint(MaxRecords, ", ", MaxRecordBytes) + `))
      on conflict (digest) do update
     set attempts = rejected_writes.attempts + 1, last_at = now(), code = excluded.code, message = excluded.message, details = excluded.details,
         operation_index = excluded.operation_index, requires_client_handling = excluded.requires_client_handling,
         rule = excluded.rule, policy_sha256 = excluded.policy_sha256,
         transaction = case when rejected_writes.has_content then rejected_writes.transaction else excluded.transaction end,
         tables = case when rejected_writes.has_content then rejected_writes.tables else excluded.tables end,
         bytes = case when rejected_writes.has_content then rejected_writes.bytes else excluded.bytes end,
         has_content = rejected_writes.has_content or excluded.has_content,
         status = case when ` + settled + ` then rejected_writes.status else excluded.status end,
         closed_at = case when ` + settled + ` then rejected_writes.closed_at end
  returning id, xmax = 0 as is_new),
author as (
  insert into postern.rejected_identities (id, role, claims) select id, $16, $17::json from stored
      on conflict (id) do update set role = excluded.role, claims = excluded.claims)`

// Closing a write makes its receipt, if one may stand for it. That receipt may be made at the
// same moment as this rejection, which does not see it. So the write stays closed;
// when the client repeats it, it is answered from the receipt. A held write that no receipt
// may stand for stays closed while its client is told to drop it.
const settled = closedByPeople + ` and (rejected_writes.identified or rejected_writes.requires_client_handling and not excluded.requires_client_handling)`

const closedByPeople = `rejected_writes.status in ('replayed', 'dismissed', 'expired')`

// JobKind is the kind of the webhook's jobs in River's queue.
const JobKind = "rejected_write"

const jobAttempts = "25" // River's default; with its growing pauses they last about three weeks

// The job has the form in which River's client inserts it.
const announceSQL = `,
job as (
  insert into postern.river_job (kind, args, max_attempts)
  select '` + JobKind + `', jsonb_build_object('id', id), ` + jobAttempts + ` from stored where is_new)`

// Rejected returns the statement that stores a rejected entry. Only when it is
// committed may the client be told to drop the transaction. It must run before the
// database transaction switches to the user's role. If the write is stored already,
// the statement counts another attempt. If the user's rejected writes have no room for
// another one, it fails with StateFull.
func (l *Ledger) Rejected(who identity.Identity, clientID, policySHA256 string, e Entry) (Statement, error) {
	transaction, err := EncodeTransaction(e.Transaction)
	if err != nil {
		return Statement{}, err
	}
	tables, hasContent := tableNames(e.Transaction), len(e.Transaction.Operations) > 0 || e.Transaction.Unreadable != nil
	if e.Unopened && len(transaction) > maxUnopenedBytes {
		if transaction, err = EncodeTransaction(upload.Transaction{ID: e.Transaction.ID}); err != nil {
			return Statement{}, err
		}
		tables, hasContent = shorten(tables), false
	}
	var details []byte // NULL if there are none: clients sync the column
	if e.Rejection.Details != nil {
		if details, err = json.Marshal(e.Rejection.Details); err != nil {
			return Statement{}, fmt.Errorf("encoding the details of a rejection: %w", err)
		}
	}
	var index, id []byte
	if e.Rejection.Operation >= 0 {
		index = strconv.AppendInt(nil, int64(e.Rejection.Operation), 10)
	}
	if e.Transaction.ID != "" {
		id = []byte(e.Transaction.ID)
	}
	var raw []byte
	if u := e.Transaction.Unreadable; u != nil {
		raw = base64.StdEncoding.AppendEncode(nil, u.Sent)
	}
	claims := []byte(who.Claims)
	if claims == nil {
		claims = []byte("{}")
	}
	s := Statement{
		SQL: rejectedSQL,
		Args: [][]byte{
			[]byte(e.Digest.bytea()), []byte(who.Issuer), []byte(who.Subject), []byte(clientID), []byte(device(who, clientID)), id,
			transaction, value.TextArray(tables),
			[]byte(e.Rejection.Code), []byte(replaceNUL(e.Rejection.Message)), details, index,
			strconv.AppendBool(nil, e.Rejection.ClientHandling), []byte(e.Rejection.Rule), []byte(policySHA256),
			[]byte(who.Role), claims, strconv.AppendBool(nil, e.Digest.Receipt), raw,
			strconv.AppendBool(nil, hasContent),
		},
	}
	size := 0
	for _, arg := range s.Args {
		size += len(arg)
	}
	s.Args = append(s.Args, strconv.AppendInt(nil, int64(size), 10))
	if l.Announce {
		s.SQL += announceSQL
	}
	s.SQL += ` select`
	return s, nil
}

// tableNames are the client's names of a transaction's tables, each once.
func tableNames(t upload.Transaction) (names []string) {
	known := map[string]bool{}
	for _, op := range t.Operations {
		if !known[op.Table] {
			known[op.Table] = true
			names = append(names, replaceNUL(op.Table))
		}
	}
	return names
}

// shorten keeps what names tell the team of a write without content: a hundred of them,
// cut as in logs.
func shorten(names []string) (short []string) {
	for _, name := range names[:min(len(names), 100)] {
		short = append(short, upload.Short(name))
	}
	return short
}

// replaceNUL replaces U+0000, which Postgres' type text cannot hold.
func replaceNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// StoreTooLarge stores what is known of an upload that exceeds a limit of the server: who
// sent it, its length in bytes or -1, and when. There is one record for each user and
// length, which counts the attempts.
func (l *Ledger) StoreTooLarge(ctx context.Context, who identity.Identity, message string, length int) error {
	h := hasher{hash: sha256.New()}
	h.texts("too large", who.Issuer, who.Subject, strconv.Itoa(length))
	s, err := l.Rejected(who, "", "", Entry{
		Digest:    Digest{Sum: h.sum()},
		Rejection: &upload.Rejection{Code: upload.TooLarge, Message: message, Operation: -1, Details: map[string]int{"bytes": length}},
	})
	if err != nil {
		return err
	}
	conn, err := l.db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("storing an upload over a limit: %w", err)
	}
	defer conn.Release()
	if err := conn.Conn().PgConn().ExecParams(ctx, s.SQL, s.Args, nil, nil, nil).Read().Err; err != nil {
		l.CountFull(err)
		return fmt.Errorf("storing an upload over a limit: %w", err)
	}
	return nil
}
