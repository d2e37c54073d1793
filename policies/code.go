package policies

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/identity"
	"postern/service/upload"
)

// CodeRule is a rule in Go, for what YAML cannot say: queries that depend on each
// other, writes that follow from a write.
type CodeRule struct {
	Name   string
	Tables []string // the client's names; transactions that write one of them are the rule's
	// Decide may refuse the transaction by returning a *upload.Rejection (see
	// Refuse), change its operations or append to them, and read and write through
	// DB. Any other error means that the rule failed: everything is undone, and the
	// client tries again. It may run more than once for one transaction, of which
	// one run at most is committed.
	Decide func(ctx context.Context, tx *Tx) error
}

// Tx is a transaction on its way into the database, as a rule in Go sees it.
type Tx struct {
	Who        identity.Identity
	Now        time.Time
	Operations []upload.Operation // what will be written; those of the client, to change or to add to
	DB         DB                 // the database transaction it will be part of, as the user
}

// DB runs SQL in an open database transaction. A query sees what the earlier
// transactions of the request have written, and not yet this one's operations.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Refuse is the error of a rule that says no, because of an operation by its
// index; -1 is because of the transaction as a whole.
func Refuse(code upload.Code, message string, operation int) error {
	return &upload.Rejection{Code: code, Message: message, Operation: operation}
}

// Code are the rules in Go that a transaction is to be asked about.
func (s *Set) Code(t upload.Transaction) (rules []CodeRule) {
	for _, r := range s.code {
		if slices.ContainsFunc(t.Operations, func(op upload.Operation) bool { return slices.Contains(r.Tables, op.Table) }) {
			rules = append(rules, r)
		}
	}
	return rules
}
