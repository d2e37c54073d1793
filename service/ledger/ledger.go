// Package ledger is what Postern itself stores in Postgres, in schema postern: a
// receipt for each transaction that has its final answer, and each rejected write.
//
// Receipts make each transaction take effect exactly once. Rejected writes keep
// what a client drops because Postern told it to. The application's users can
// read one of the tables, rejected_writes, and there only their own rows.
// README.md describes the states of a rejected write.
//
// The package does not decide what is rejected, and it does not touch the
// application's tables.
package ledger

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQLSTATEs that the functions of schema postern raise. Neither the SQL standard
// nor Postgres uses class PN.
const (
	// StateDeclined is raised by postern.explain_no_row: the operation is rejected.
	// The message is the code of the rejection.
	StateDeclined = "PN006"
	StateOutdated = "PN007" // postern.expect_tables: a table has changed since the catalogue was read
	StateClosed   = "PN004" // a replay found its record neither open nor held
	StateFull     = "PN008" // a rejected write has no room, see MaxRecords
	StateUnseen   = "PN009" // an operation would change a row that its rules have not read
)

// The room for the rejected writes of one user. If it is full of open and held ones, the
// user's next rejected write is not stored, so it is answered as retryable. Users can
// fill no more than an eighth of the 500 MB of a free database, and a device that was
// offline for weeks still has room.
//
// Statements that run at the same time do not see each other's records. So a user may
// exceed the room by one request for each connection that the user has at once.
const (
	MaxRecords     = 10_000
	MaxRecordBytes = 64 << 20

	// maxUnopenedBytes bounds the content of a write whose tables no policy opens. It
	// is larger than almost all transactions that a team forgot to open a table for.
	maxUnopenedBytes = 64 << 10
)

// Ledger reads earlier answers, stores rejected writes, and deletes what is old.
// It is safe for concurrent use.
type Ledger struct {
	Retention time.Duration // how long a closed rejected write is kept; 0 keeps it for ever
	Announce  bool          // whether each new rejected write adds a job for the webhook

	db     *pgxpool.Pool
	used   chan struct{}
	full   atomic.Int64           // rejected writes that found no room
	counts atomic.Pointer[Counts] // as of the last pruning
}

// New returns a ledger that uses db. It must connect as Postern's login role or as
// the owner of schema postern.
func New(db *pgxpool.Pool) *Ledger { return &Ledger{db: db, used: make(chan struct{}, 1)} }

// Unstored is how many rejected writes have found no room since the start.
func (l *Ledger) Unstored() int64 { return l.full.Load() }

// CountFull reports whether a rejected write was not stored because there is no room, and
// counts it.
func (l *Ledger) CountFull(err error) bool {
	var pg *pgconn.PgError
	full := errors.As(err, &pg) && pg.Code == StateFull
	if full {
		l.full.Add(1)
	}
	return full
}

// Statement is SQL with parameters in Postgres' text form.
type Statement struct {
	SQL  string
	Args [][]byte
}
