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
	"time"

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
)

// Ledger reads earlier answers, stores rejected writes, and deletes what is old.
// It is safe for concurrent use.
type Ledger struct {
	Retention time.Duration // how long a closed rejected write is kept; 0 keeps it for ever
	Announce  bool          // whether each new rejected write adds a job for the webhook

	db   *pgxpool.Pool
	used chan struct{}
}

// New returns a ledger that uses db. It must connect as Postern's login role or as
// the owner of schema postern.
func New(db *pgxpool.Pool) *Ledger { return &Ledger{db: db, used: make(chan struct{}, 1)} }

// Statement is SQL with parameters in Postgres' text form.
type Statement struct {
	SQL  string
	Args [][]byte
}
