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
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
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

// Statement is SQL with parameters in Postgres' text form.
type Statement struct {
	SQL  string
	Args [][]byte
}
