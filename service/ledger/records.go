package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"postern/service/identity"
	"postern/service/upload"
)

// Status is the state of a rejected write.
type Status string

// Open and Held wait for a decision. The other five are final.
const (
	Open      Status = "open"      // its client has dropped it
	Held      Status = "held"      // its client keeps it until its app has decided
	Replayed  Status = "replayed"  // the team applied it
	Dismissed Status = "dismissed" // the team or its author does not want it
	Expired   Status = "expired"   // the team closed it because of its age
	Resolved  Status = "resolved"  // it was held, and its client sent it again with success
	Released  Status = "released"  // it was held, and its client went on without it
)

// Statuses are all statuses.
var Statuses = []Status{Open, Held, Replayed, Dismissed, Expired, Resolved, Released}

// Record is a rejected write.
type Record struct {
	ID            string         `json:"id"`
	Status        Status         `json:"status"`
	Issuer        string         `json:"issuer"`
	Subject       string         `json:"subject"`
	ClientID      string         `json:"client_id,omitzero"`
	TransactionID *int64         `json:"transaction_id,omitzero"`
	Tables        []string       `json:"tables"` // the client's names
	Code          upload.Code    `json:"code"`
	Message       string         `json:"message"`
	Details       jsontext.Value `json:"details,omitzero"`
	Operation     *int           `json:"operation_index,omitzero"` // the operation that caused it; nil if no single one did
	Rule          string         `json:"rule,omitzero"`
	PolicySHA256  string         `json:"policy_sha256"`
	Attempts      int            `json:"attempts"` // how often its client has sent it
	FirstAt       time.Time      `json:"first_at"`
	LastAt        time.Time      `json:"last_at"`
	ClosedAt      *time.Time     `json:"closed_at,omitzero"`
	HasContent    bool           `json:"has_content"`  // false if Transaction has no operations, because it was too large to be stored
	Transaction   jsontext.Value `json:"transaction"`  // as it was sent, in the write API's form
	Raw           []byte         `json:"raw,omitzero"` // the bytes of a transaction that cannot be read; then Transaction has no values

	digest     []byte
	identified bool
}

// Decoded returns the record's transaction and its digest.
func (r Record) Decoded() (Digest, upload.Transaction, error) {
	t, err := DecodeTransaction(r.Transaction)
	if err != nil {
		return Digest{}, upload.Transaction{}, err
	}
	digest := Digest{Receipt: r.identified}
	copy(digest.Sum[:], r.digest)
	return digest, t, nil
}

// Filter selects rejected writes. An empty field selects all.
type Filter struct {
	Issuer, Subject string
	Table           string // the client's name of one of its tables
	Code            string
	Since, Before   time.Time // bounds of FirstAt; Before is exclusive
	Statuses        []Status
}

// Cursor is a position in the list of rejected writes, which is ordered by FirstAt.
// The zero value is the beginning.
type Cursor struct {
	at time.Time
	id uuid.UUID
}

// String is the cursor in the form that clients get.
func (c Cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.at.UnixMicro(), 10) + "." + c.id.String()))
}

// Cursor is the position after the record.
func (r Record) Cursor() Cursor { return Cursor{r.FirstAt, uuid.MustParse(r.ID)} }

// ParseCursor is the reverse of String.
func ParseCursor(s string) (Cursor, error) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	micros, id, _ := strings.Cut(string(text), ".")
	at, atErr := strconv.ParseInt(micros, 10, 64)
	key, idErr := uuid.Parse(id)
	if err := errors.Join(err, atErr, idErr); err != nil || at < 0 || at > maxMicros {
		return Cursor{}, errors.New("is not the next of an earlier page")
	}
	return Cursor{time.UnixMicro(at), key}, nil
}

const (
	maxMicros = 1 << 53 // in the year 2255
	pageBytes = 4 << 20 // bound on the transactions of a page; a single one may exceed it
)

const columns = `id::text, status, issuer, subject, client_id, transaction_id, tables, code, message, details::text, operation_index, rule, policy_sha256,
       attempts, first_at, last_at, closed_at, has_content, transaction::text, raw, digest, identified`

// where is the filter as SQL. It has a condition for each field that is set and no
// other, because conditions that are always true mislead Postgres' estimates.
func (f Filter) where() (sql string, args []any) {
	sql = " where true"
	add := func(condition string, value any) {
		args = append(args, value)
		sql += " and " + strings.ReplaceAll(condition, "$", "$"+strconv.Itoa(len(args)))
	}
	for _, equal := range [][2]string{{"issuer = $", f.Issuer}, {"subject = $", f.Subject}, {"$ = any(tables)", f.Table}, {"code = $", f.Code}} {
		if equal[1] != "" {
			add(equal[0], equal[1])
		}
	}
	if !f.Since.IsZero() {
		add("first_at >= $::timestamptz", f.Since)
	}
	if !f.Before.IsZero() {
		add("first_at < $::timestamptz", f.Before)
	}
	if len(f.Statuses) > 0 {
		statuses := make([]string, len(f.Statuses))
		for i, s := range f.Statuses {
			statuses[i] = string(s)
		}
		add("status = any($::text[])", statuses)
	}
	return sql, args
}

// Records returns a page of the rejected writes that f selects, the oldest first,
// beginning after a cursor. A page has at most limit records and about 4 MiB. more is
// false on the last page.
func (l *Ledger) Records(ctx context.Context, f Filter, after Cursor, limit int) (page []Record, next Cursor, more bool, err error) {
	where, args := f.where()
	if after != (Cursor{}) {
		args = append(args, after.at, after.id.String())
		where += fmt.Sprintf(" and (first_at, id) > ($%d::timestamptz, $%d::uuid)", len(args)-1, len(args))
	}
	// One row more than the limit tells whether there are more.
	rows, err := l.db.Query(ctx, fmt.Sprintf(`select %s from postern.rejected_writes%s order by first_at, id limit %d`, columns, where, limit+1), args...)
	if err != nil {
		return nil, after, false, fmt.Errorf("reading rejected writes: %w", err)
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, after, false, fmt.Errorf("reading rejected writes: %w", err)
		}
		if size += len(r.Transaction) + len(r.Raw); len(page) == limit || len(page) > 0 && size > pageBytes {
			more = true
			break
		}
		page = append(page, r)
		next = r.Cursor()
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, after, false, fmt.Errorf("reading rejected writes: %w", err)
	}
	return page, next, more, nil
}

// Count returns how many rejected writes f selects.
func (l *Ledger) Count(ctx context.Context, f Filter) (n int, err error) {
	where, args := f.where()
	if err := l.db.QueryRow(ctx, `select count(*) from postern.rejected_writes`+where, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting rejected writes: %w", err)
	}
	return n, nil
}

// ErrNoRecord means that there is no rejected write with this id.
var ErrNoRecord = errors.New("there is no rejected write with this id")

// Record returns the rejected write with this id. The error is ErrNoRecord if there is
// none.
func (l *Ledger) Record(ctx context.Context, id string) (Record, error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %q", ErrNoRecord, id)
	}
	rows, err := l.db.Query(ctx, `select `+columns+` from postern.rejected_writes where id = $1::uuid`, key.String())
	if err != nil {
		return Record{}, fmt.Errorf("reading a rejected write: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRecord)
	if errors.Is(err, pgx.ErrNoRows) {
		return Record{}, fmt.Errorf("%w: %s", ErrNoRecord, key)
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading a rejected write: %w", err)
	}
	return r, nil
}

func scanRecord(row pgx.CollectableRow) (r Record, err error) {
	var (
		details     *string
		transaction string
	)
	err = row.Scan(&r.ID, &r.Status, &r.Issuer, &r.Subject, &r.ClientID, &r.TransactionID, &r.Tables, &r.Code, &r.Message, &details, &r.Operation,
		&r.Rule, &r.PolicySHA256, &r.Attempts, &r.FirstAt, &r.LastAt, &r.ClosedAt, &r.HasContent, &transaction, &r.Raw, &r.digest, &r.identified)
	if details != nil {
		r.Details = jsontext.Value(*details)
	}
	r.Transaction = jsontext.Value(transaction)
	return r, err
}

// ErrNoIdentity means that a rejected write has no row in rejected_identities.
var ErrNoIdentity = errors.New("its author's role and claims are not stored")

// Author returns the identity that sent a record, with the fields that a replay needs.
func (l *Ledger) Author(ctx context.Context, r Record) (identity.Identity, error) {
	who := identity.Identity{Issuer: r.Issuer, Subject: r.Subject}
	var claims string
	err := l.db.QueryRow(ctx, `select role, claims::text from postern.rejected_identities where id = $1::uuid`, r.ID).Scan(&who.Role, &claims)
	if errors.Is(err, pgx.ErrNoRows) {
		return who, ErrNoIdentity
	}
	if err != nil {
		return who, fmt.Errorf("reading the author of a rejected write: %w", err)
	}
	who.Claims = jsontext.Value(claims)
	return who, nil
}

// Action is one thing that was done about a rejected write.
type Action struct {
	Action string    `json:"action"` // the new status, or "replay failed"
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Note   string    `json:"note,omitzero"`

	Transaction jsontext.Value `json:"transaction,omitzero"` // what a replay applied, if it was edited
}

// Actions returns what was done about a record, the oldest first.
func (l *Ledger) Actions(ctx context.Context, id string) ([]Action, error) {
	rows, err := l.db.Query(ctx, `select action, who, at, note, transaction::text from postern.rejected_actions where record = $1::uuid order by id`, id)
	if err != nil {
		return nil, fmt.Errorf("reading the actions of a rejected write: %w", err)
	}
	actions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Action, err error) {
		var edited *string
		if err = row.Scan(&a.Action, &a.Who, &a.At, &a.Note, &edited); edited != nil {
			a.Transaction = jsontext.Value(*edited)
		}
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the actions of a rejected write: %w", err)
	}
	return actions, nil
}
