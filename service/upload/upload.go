// Package upload is what clients send and what they get back: transactions,
// operations and results, and their wire formats.
//
// It knows nothing of tokens, tables or policies: whoever decodes a body here
// knows what was asked, not whether it may happen.
//
// The wire format is PowerSync's published write API, see
// https://docs.powersync.com/handling-writes/write-path/build-your-own-write-endpoint.
package upload

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Op is what a client did to one row.
type Op string

// The three operations an upload queue records.
const (
	Put    Op = "PUT"    // INSERT or INSERT OR REPLACE on the device: the non-null columns
	Patch  Op = "PATCH"  // UPDATE on the device: the changed columns, null explicit
	Delete Op = "DELETE" // DELETE on the device: no columns
)

// Batch is one request: the transactions of one device in the order they were made.
type Batch struct {
	ClientID     string // the device's database (getClientId() in the SDKs); empty when not sent
	Transactions []Transaction
}

// Transaction is what a device committed locally in one step, and what must
// happen on the server in one step or not at all.
type Transaction struct {
	ID         string // decimal; empty when not sent. Unique and rising per device database, with gaps
	Operations []Operation
}

// Clone shares nothing with the transaction.
func (t Transaction) Clone() Transaction {
	members := func(list []Member) []Member {
		list = slices.Clone(list)
		for i := range list {
			list[i].Value = list[i].Value.Clone()
		}
		return list
	}
	t.Operations = slices.Clone(t.Operations)
	for i := range t.Operations {
		op := &t.Operations[i]
		op.Data, op.Previous = members(op.Data), members(op.Previous)
	}
	return t
}

// Operation is one write to one row.
type Operation struct {
	OpID     string // decimal, the operation's number in its device's queue; empty when not sent
	Op       Op
	Table    string // the client's name for the table
	ID       string // any text, the empty string included
	Data     []Member
	Previous []Member // the row before, as far as the client tracks it; nil when not sent
	Metadata string   // what the app attached to the write; empty when not sent
}

// Member is one column of an operation's row: its name and its value as the
// client spelled it, so that no digit is lost on the way to the column's type.
type Member struct {
	Name  string
	Value jsontext.Value
}

// Status says what became of a transaction.
type Status string

// The four statuses of the write API.
const (
	Success        Status = "success"         // it is committed, now or by an earlier request
	RetryableError Status = "retryable_error" // it is not; send it again
	FatalError     Status = "fatal_error"     // it never will be as it stands
	NotAttempted   Status = "not_attempted"   // an earlier transaction of the request ended it
)

// Code is the error code of a rejected write. Policies may add their own.
type Code string

// The codes of the write API, and those that Postern adds.
const (
	NotNullViolation    Code = "NOT_NULL_VIOLATION"
	UniqueViolation     Code = "UNIQUE_VIOLATION"
	ForeignKeyViolation Code = "FOREIGN_KEY_VIOLATION"
	CheckViolation      Code = "CHECK_VIOLATION"
	ConstraintViolation Code = "CONSTRAINT_VIOLATION"
	InvalidData         Code = "INVALID_DATA"
	SchemaMismatch      Code = "SCHEMA_MISMATCH"
	Unauthorized        Code = "UNAUTHORIZED"
	UnclassifiedError   Code = "UNCLASSIFIED_ERROR"   // the database refused it many times over, with an error of no known kind
	RejectedByDatabase  Code = "REJECTED_BY_DATABASE" // a trigger or function of the application raised an exception
	Conflict            Code = "CONFLICT"             // the row has changed since the client saw it
	ImmutableColumn     Code = "IMMUTABLE_COLUMN"     // the policy keeps a column's first value
	RowNotFound         Code = "ROW_NOT_FOUND"        // a PATCH of a row that does not exist, where the policy rejects those
)

// Rejection says why a transaction cannot be applied as it stands. It is an
// error, so that planning code can return it; its text is meant for the client.
type Rejection struct {
	Code           Code
	Message        string
	Details        any    // marshals to JSON; nil when there is nothing to add
	Operation      int    // index of the operation within the transaction; -1 when it is not one operation's fault
	ClientHandling bool   // the app decides: the client keeps the transaction until it has
	Rule           string // the policy's rule that said no; empty where it was none
}

func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Message }

// Result answers one transaction.
type Result struct {
	Status                 Status           `json:"status"`
	Message                string           `json:"message,omitempty"`
	RetryAfterMS           int              `json:"retry_after_ms,omitempty"` // milliseconds; with retryable_error
	RequiresClientHandling *bool            `json:"requires_client_handling,omitempty"`
	FailedOperation        *FailedOperation `json:"failed_operation,omitempty"`
}

// FailedOperation is the part of a fatal_error that names its cause.
type FailedOperation struct {
	ErrorCode      Code   `json:"error_code"`
	Message        string `json:"message,omitempty"`
	Details        any    `json:"details,omitempty"`
	OperationIndex *int   `json:"operation_index,omitempty"`
}

// Rejected is the result that carries r.
func Rejected(r *Rejection) Result {
	failed := &FailedOperation{ErrorCode: r.Code, Message: r.Message, Details: r.Details}
	if r.Operation >= 0 {
		failed.OperationIndex = &r.Operation
	}
	return Result{
		Status:                 FatalError,
		Message:                r.Message,
		RequiresClientHandling: &r.ClientHandling,
		FailedOperation:        failed,
	}
}
