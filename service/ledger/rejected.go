package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/upload"
)

// A rejected write has one row however often its client repeats it, and opens
// again where it comes again after it was closed. It does not where the receipt
// that closed it was made at the same moment as this one: the client is told the
// next time.
const rejectedSQL = `
with kept as (
  insert into postern.rejected_writes
         (digest, issuer, subject, client_id, device, transaction_id, transaction, tables, code, message, details, operation_index,
          requires_client_handling, rule, policy_sha256, status)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, case when $13::boolean then 'held' else 'open' end)
      on conflict (digest) do update
     set attempts = rejected_writes.attempts + 1, last_at = now(), code = excluded.code, message = excluded.message, details = excluded.details,
         operation_index = excluded.operation_index, requires_client_handling = excluded.requires_client_handling,
         rule = excluded.rule, policy_sha256 = excluded.policy_sha256,
         status = case when ` + settled + ` then rejected_writes.status else excluded.status end,
         closed_at = case when ` + settled + ` then rejected_writes.closed_at end
  returning id, xmax = 0 as fresh),
sender as (
  insert into postern.rejected_identities (id, role, claims) select id, $16, $17::json from kept
      on conflict (id) do update set role = excluded.role, claims = excluded.claims)`

const settled = `rejected_writes.status in ('replayed', 'dismissed', 'expired') and rejected_writes.transaction_id is not null`

// The jobs of the webhook, in River's queue.
const (
	JobKind     = "rejected_write"
	jobAttempts = "25" // River's own bound: about three weeks of longer and longer pauses
)

// A job as the queue's own client inserts it.
const announceSQL = `,
job as (
  insert into postern.river_job (kind, args, max_attempts)
  select '` + JobKind + `', jsonb_build_object('id', id), ` + jobAttempts + ` from kept where fresh)`

// Rejected is the statement that makes a rejected entry durable, the only ground
// on which a client may be told to drop a transaction. It too comes before the
// user's role is taken. A repetition counts another attempt in the row it has.
func (l *Ledger) Rejected(who identity.Identity, clientID, policySHA256 string, e Entry) (Statement, error) {
	transaction, err := marshal(e.Transaction)
	if err != nil {
		return Statement{}, err
	}
	details, err := json.Marshal(e.Rejection.Details)
	if err != nil {
		return Statement{}, fmt.Errorf("marshalling the details of a rejection: %w", err)
	}
	var index, id []byte
	if e.Rejection.Operation >= 0 {
		index = strconv.AppendInt(nil, int64(e.Rejection.Operation), 10)
	}
	if e.Transaction.ID != "" {
		id = []byte(e.Transaction.ID)
	}
	claims := []byte(who.Claims)
	if claims == nil {
		claims = []byte("{}")
	}
	s := Statement{
		SQL: rejectedSQL,
		Args: [][]byte{
			[]byte(hexBytes(e.Digest)), []byte(who.Issuer), []byte(who.Subject), []byte(clientID), []byte(device(who, clientID)), id,
			transaction, catalog.TextArray(tables(e.Transaction)),
			[]byte(e.Rejection.Code), []byte(text(e.Rejection.Message)), details, index,
			strconv.AppendBool(nil, e.Rejection.ClientHandling), []byte(e.Rejection.Rule), []byte(policySHA256),
			[]byte(who.Role), claims,
		},
	}
	if l.Announce {
		s.SQL += announceSQL
	}
	s.SQL += ` select`
	return s, nil
}

// tables are the client's names of the tables of a transaction, each once.
func tables(t upload.Transaction) (names []string) {
	for _, op := range t.Operations {
		if name := text(op.Table); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// text is what a client sent, or words that quote it, as Postgres can keep it: it
// has no text with U+0000.
func text(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// MayHold says that the database may have held writes left of policies that no
// longer hold any. It learns of them within the hour.
func (l *Ledger) MayHold() bool { return l.held.Load() }

// CloseHeld is the statement that closes held writes by what their device does
// next: resolved where the transaction itself is applied, released where the
// device has come to a later one, as a queue keeps its order. It runs in the
// database transaction of those entries. ok is false where they say nothing.
//
// Where a client names neither its device nor a session nobody can tell whose
// queue has moved on, and such a write stays held until it is applied or
// dismissed.
func CloseHeld(who identity.Identity, clientID string, entries []Entry) (s Statement, ok bool) {
	var (
		applied []string
		latest  []byte // the highest transaction id; NULL where no queue is known
		highest int64
	)
	for _, e := range entries {
		if e.Rejection == nil {
			applied = append(applied, hexBytes(e.Digest))
		}
		id, err := strconv.ParseInt(e.Transaction.ID, 10, 64)
		if err == nil && device(who, clientID) != "" && (latest == nil || id > highest) {
			highest, latest = id, []byte(e.Transaction.ID)
		}
	}
	return Statement{
		SQL: `
with closed as (
  update postern.rejected_writes
     set status = case when digest = any($3::bytea[]) then 'resolved' else 'released' end, closed_at = now()
   where status = 'held' and issuer = $1 and subject = $2
     and (digest = any($3::bytea[]) or device = $4 and transaction_id < $5::bigint)
  returning id, status)
insert into postern.rejected_actions (record, action, who) select id, status, 'postern' from closed`,
		Args: [][]byte{[]byte(who.Issuer), []byte(who.Subject), catalog.TextArray(applied), []byte(device(who, clientID)), latest},
	}, len(applied) > 0 || latest != nil
}
