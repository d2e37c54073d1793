package policies

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/identity"
	"postern/service/upload"
)

// CodeRule is a rule in Go, for what YAML cannot express: queries that depend on each
// other, and writes that follow from a write. Rules in Go run after the YAML rules
// over what was sent, and before anything is written.
type CodeRule struct {
	Name   string
	Tables []string // by the client's names; the rule checks every transaction that writes to one of them
	// Decide may change the transaction's operations, append to them, and read and
	// write through DB. It rejects the transaction by returning NewRejection. With
	// any other error the rule has failed: everything is rolled back, the client
	// retries, and the error is logged, so it must not quote rows. Decide may run several times for one transaction; at most one of these
	// runs is committed.
	Decide func(ctx context.Context, tx *Tx) error
}

// Tx is a transaction before it is written, as a rule in Go sees it.
type Tx struct {
	Who        identity.Identity
	Now        time.Time          // of the first operation; expressions see a microsecond more for each one after it
	Operations []upload.Operation // what will be written; the client's, to change or to append to
	DB         DB                 // the database transaction that will write them, as the user
}

// DB runs SQL in an open database transaction. A query sees what earlier transactions
// of the request have written, but not yet this transaction's operations.
//
// Its results have pgx's types, so that pgx.Tx and pgx.Conn are a DB as they are and
// rules can use pgx.CollectRows. Nothing else in this package knows a database.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// NewRejection returns the error by which a rule in Go rejects a transaction.
// operation is the index of the operation that caused it, or -1 for the transaction
// as a whole.
func NewRejection(code upload.Code, message string, operation int) error {
	return &upload.Rejection{Code: code, Message: message, Operation: operation}
}
