// Package upload is what clients send and what they get back: transactions,
// operations and results, and their wire format.
//
// It knows no tokens, tables or policies, and does not decide what may happen.
//
// The wire format is PowerSync's published write API:
// https://docs.powersync.com/handling-writes/write-path/build-your-own-write-endpoint.
// README.md has the older forms that are accepted, too.
package upload

import (
	"cmp"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Op is the kind of an operation.
type Op string

// The three kinds of operations in an upload queue.
const (
	Put    Op = "PUT"    // INSERT or INSERT OR REPLACE on the device; has the non-null columns
	Patch  Op = "PATCH"  // UPDATE on the device; has the changed columns, nulls included
	Delete Op = "DELETE" // DELETE on the device; has no columns
)

// Batch is one request: transactions of one device, in the order it committed them.
type Batch struct {
	UserID       string // the user whose writes these are, as the client knows it; empty if not sent
	ClientID     string // the id of the device's database, getClientId() in the SDKs; empty if not sent
	Transactions []Transaction
	// StatusOnly says that the client sent an older form, and reads nothing of the answer
	// but its HTTP status.
	StatusOnly bool
}

// Transaction is one transaction of a device's local database. It must take effect on
// the server as a whole or not at all.
type Transaction struct {
	ID         string // decimal; empty if not sent. It is unique in the device's database and rises, with gaps
	Operations []Operation
	Unreadable *Unreadable // nil if it can be read; otherwise the operations have no values
}

// Clone returns a deep copy.
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
	OpID     string // decimal, the operation's number in the upload queue; empty if not sent
	Op       Op
	Table    string // the client's name for the table
	ID       string // the row's id: any text, even an empty one
	Data     []Member
	Previous []Member // the tracked columns of the row before the operation; nil if not sent
	Metadata string   // the app's note about the write; empty if not sent
}

// Member is one column of an operation's row. The value is as the client spelled it, so
// that no digit of a number is lost.
type Member struct {
	Name  string
	Value jsontext.Value
}

// Status is the outcome of a transaction.
type Status string

// The four statuses of the write API.
const (
	Success        Status = "success"         // it is committed, now or by an earlier request
	RetryableError Status = "retryable_error" // it is not committed; the client sends it again
	FatalError     Status = "fatal_error"     // it cannot be committed as it is
	NotAttempted   Status = "not_attempted"   // an earlier transaction ended the request
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
	UnclassifiedError   Code = "UNCLASSIFIED_ERROR"   // for 30 minutes, the database failed with the same error of no known kind
	RuleFailed          Code = "RULE_FAILED"          // for 30 minutes, a rule could not be evaluated; or it concerns too many rows
	TimeLimitExceeded   Code = "TIME_LIMIT_EXCEEDED"  // for 30 minutes, the transaction did not fit into the time of a request
	RejectedByDatabase  Code = "REJECTED_BY_DATABASE" // a trigger or function of the application raised an exception
	Conflict            Code = "CONFLICT"             // the row has changed since the client saw it
	ImmutableColumn     Code = "IMMUTABLE_COLUMN"     // the policy allows no change of a column
	TooLarge            Code = "TOO_LARGE"            // the upload exceeds a limit of the server; its client still has it
	RowDeleted          Code = "ROW_DELETED"          // a PUT of a row that a soft delete has deleted
	RowNotFound         Code = "ROW_NOT_FOUND"        // a PATCH of a row that does not exist, on a table whose policy rejects that
)

// Codes are all of these.
var Codes = []Code{
	NotNullViolation, UniqueViolation, ForeignKeyViolation, CheckViolation, ConstraintViolation, InvalidData, SchemaMismatch, Unauthorized,
	UnclassifiedError, RuleFailed, TimeLimitExceeded, RejectedByDatabase, Conflict, ImmutableColumn, TooLarge, RowDeleted, RowNotFound,
}

// Rejection is the reason why a transaction cannot be applied as it is. It is an error,
// so that functions can return it. Its message is for the client.
type Rejection struct {
	Code           Code
	Message        string
	Details        any    // any value that marshals to JSON, or nil
	Operation      int    // the index of the operation that caused it; -1 if no single one did
	ClientHandling bool   // whether the client keeps the transaction until its app has decided
	Rule           string // the policy's rule that rejected it; empty if none did
	Words          *Words // the policy's own for what rejected it; nil if there are none. See Reword
}

// Words are what a policy has the client told in place of Postern's words.
type Words struct {
	Code           Code // empty if it stays
	Message        string
	ClientHandling bool
}

// Reword gives the rejection the policy's own words, if there are any.
func (r *Rejection) Reword() {
	if r.Words == nil {
		return
	}
	r.Code, r.Message = cmp.Or(r.Words.Code, r.Code), r.Words.Message
	r.ClientHandling = r.ClientHandling || r.Words.ClientHandling
	r.Words = nil
}

// Reason is what the details say to the app's developer; empty if they say nothing.
func (r *Rejection) Reason() string {
	details, _ := r.Details.(map[string]any)
	reason, _ := details["reason"].(string)
	return reason
}

func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Message }

// Result is the answer to one transaction.
type Result struct {
	Status                 Status           `json:"status"`
	Message                string           `json:"message,omitempty"`
	RetryAfterMS           int              `json:"retry_after_ms,omitempty"` // milliseconds; only with retryable_error
	RequiresClientHandling *bool            `json:"requires_client_handling,omitempty"`
	FailedOperation        *FailedOperation `json:"failed_operation,omitempty"`

	Decision Decision `json:"-"` // clients do not receive it
}

// Decision is what the decision log says of a transaction besides its result.
type Decision struct {
	Repeated    bool     // the result was known: from its receipt, or of the same transaction earlier in the request
	Rule        string   // the policy's rule that rejected it; empty if none did
	WouldReject []string // the rules in mode observe that would have rejected it, if it is applied
	Rows        int      // that its operations inserted, updated or deleted
	Dropped     int      // operations of which a conflict strategy dropped all or a part
	Merged      int      // operations of which a conflict strategy merged a part
}

// FailedOperation is the cause of a fatal_error.
type FailedOperation struct {
	ErrorCode      Code   `json:"error_code"`
	Message        string `json:"message,omitempty"`
	Details        any    `json:"details,omitempty"`
	OperationIndex *int   `json:"operation_index,omitempty"`
}

// Rejected returns the result for a rejection.
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
