package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/upload"
)

// outcome is what a failure means for the transaction it belongs to. Exactly one
// field is set.
type outcome struct {
	answered  bool              // some of the transactions have a receipt
	rejection *upload.Rejection // the write's own fault
	again     error             // worth another attempt at once: a clash with another transaction, or a lost connection
	retry     error             // not the write's fault, or nobody knows
}

// classify is the one place where Postgres' errors become outcomes. SQLSTATEs
// are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
func classify(f *failure) outcome {
	var pg *pgconn.PgError
	switch {
	case f.rejection != nil:
		return outcome{rejection: f.rejection}
	case f.kind == rule && lost(f.err):
		return outcome{retry: f.err}
	case errors.Is(f.err, context.DeadlineExceeded), errors.Is(f.err, context.Canceled):
		return outcome{retry: f.err} // no connection was free in time, or the request's own time is up
	case !errors.As(f.err, &pg):
		return outcome{again: f.err}
	}
	if f.kind == receipts && pg.ConstraintName == ledger.ReceiptConstraint {
		return outcome{answered: true}
	}
	switch {
	case pg.Code == "40001", pg.Code == "40P01", // clashed with another transaction
		pg.Code == "57P01", pg.Code == "57P02", pg.Code == "57P03", // the server went away, or comes back
		strings.HasPrefix(pg.Code, "08"):
		return outcome{again: f.err}
	case f.kind == reading && f.readValue(pg): // the write's own values, before it comes to writing them
	case f.kind == reading && pg.Code == "42501" && f.query != nil && f.query.lookup == nil && !f.query.of.granted(): // it may not be done at all
	case f.kind == receipts, f.kind == record, f.kind == reading, f.kind == rule, f.kind == session && f.transaction < 0:
		return outcome{retry: f.err} // our own statements: the setup's fault, not the write's
	}
	if rejection := rejectionOf(f, pg); rejection != nil {
		return outcome{rejection: rejection}
	}
	return outcome{retry: f.err}
}

// readValue reports whether a step that reads failed on a value that was sent: of
// the row's key, or one that a lookup's error quotes.
func (f *failure) readValue(pg *pgconn.PgError) bool {
	return strings.HasPrefix(pg.Code, "22") && (f.query == nil || f.query.lookup == nil || slices.ContainsFunc(f.query.args, func(arg []byte) bool {
		return arg != nil && strings.Contains(pg.Message, strconv.Quote(string(arg)))
	}))
}

// granted reports whether the user's role may do what the operation does at all. One
// that may, and may not read the row as the policy's rules need it, is the setup's
// fault.
func (w *write) granted() bool {
	privilege := map[upload.Op]string{upload.Put: "insert", upload.Patch: "update", upload.Delete: "delete"}[w.sent.Op]
	if w.sent.Op == upload.Delete && w.policy.SoftDelete != "" {
		privilege = "update"
	}
	return slices.Contains(w.table.Grants[w.who.Role], privilege)
}

// rejectionOf is nil for an error that is not known to be the write's own fault.
func rejectionOf(f *failure, pg *pgconn.PgError) *upload.Rejection {
	reject := func(code upload.Code, message string) *upload.Rejection {
		return &upload.Rejection{Code: code, Message: message, Details: details(pg), Operation: f.operation}
	}
	switch {
	case pg.Code == ledger.StateDeclined:
		return declined(f, pg)
	case pg.Code == "23502":
		return reject(upload.NotNullViolation, fmt.Sprintf("%s.%s must not be null", pg.TableName, pg.ColumnName))
	case pg.Code == "23503":
		return reject(upload.ForeignKeyViolation, foreignKeyMessage(pg))
	case pg.Code == "23505":
		return reject(upload.UniqueViolation, fmt.Sprintf("another row of %s already has this value (constraint %s)", pg.TableName, pg.ConstraintName))
	case pg.Code == "23514":
		return reject(upload.CheckViolation, checkMessage(pg))
	case strings.HasPrefix(pg.Code, "23"):
		return reject(upload.ConstraintViolation, fmt.Sprintf("the row does not meet constraint %s of %s", pg.ConstraintName, pg.TableName))
	case strings.HasPrefix(pg.Code, "22"):
		return reject(upload.InvalidData, pg.Message)
	case pg.Code == "42P01", pg.Code == "42703", pg.Code == "42804":
		return reject(upload.SchemaMismatch, pg.Message)
	case pg.Code == "42501":
		return reject(upload.Unauthorized, pg.Message)
	case pg.Code == "P0001", strings.HasPrefix(pg.Code, "PT"):
		return reject(upload.RejectedByDatabase, pg.Message)
	}
	return nil
}

// declined is what postern.untouched says: the code is its message, and its hint
// the row, as the user may see it.
func declined(f *failure, pg *pgconn.PgError) *upload.Rejection {
	r := &upload.Rejection{Code: upload.Code(pg.Message), Operation: f.operation}
	switch r.Code {
	case upload.Conflict:
		r.Message, r.Details = "the row has changed since it was last synced", map[string]any{"row": jsontext.Value(pg.Hint)}
	case upload.ImmutableColumn:
		r.Message = "a column of the row keeps its first value"
	case upload.RowNotFound:
		r.Message = "the row does not exist"
	default:
		r.Message = "the row exists and is not yours to change"
	}
	return r
}

// lost reports whether the connection broke, so that nobody knows what happened
// of what was sent.
func lost(err error) bool {
	var pg *pgconn.PgError
	return !errors.As(err, &pg)
}

// unrecognised reports whether an error is Postgres' answer to the write, or a
// rule that cannot be run on it, rather than trouble of a known kind that passes: connections, resources, locks, an
// operator's doing, a defect.
func unrecognised(err error) bool {
	var failed *policies.RuleError
	if errors.As(err, &failed) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	return !slices.Contains([]string{"08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX", "PN"}, pg.Code[:2])
}

// details is what a client may learn of an error: names of its own tables and
// columns, and what the application's RAISE says.
func details(pg *pgconn.PgError) any {
	if strings.HasPrefix(pg.Code, "PN") {
		return nil // our own, and said in words
	}
	d := map[string]any{"sqlstate": pg.Code}
	add := func(name, value string) {
		if value != "" {
			d[name] = value
		}
	}
	add("table", pg.TableName)
	add("column", pg.ColumnName)
	add("constraint", pg.ConstraintName)
	if pg.Code == "P0001" || strings.HasPrefix(pg.Code, "PT") {
		add("detail", pg.Detail)
		add("hint", pg.Hint)
	}
	return d
}

func foreignKeyMessage(pg *pgconn.PgError) string {
	if stillReferenced(pg) {
		return fmt.Sprintf("other rows still refer to this one (constraint %s)", pg.ConstraintName)
	}
	return fmt.Sprintf("the row refers to one that does not exist (constraint %s of %s)", pg.ConstraintName, pg.TableName)
}

// stillReferenced tells the two ways to break a foreign key apart.
func stillReferenced(pg *pgconn.PgError) bool {
	return pg.Code == "23503" && strings.Contains(pg.Detail, "still referenced")
}

func checkMessage(pg *pgconn.PgError) string {
	if pg.TableName == "" { // of a domain
		return fmt.Sprintf("a value does not meet constraint %s of its type", pg.ConstraintName)
	}
	return fmt.Sprintf("the row does not meet constraint %s of %s", pg.ConstraintName, pg.TableName)
}

// blame finds the operation that an error at the end of a transaction comes
// from, where only one of them can be meant; else -1.
func blame(tables *catalog.Snapshot, p plan, pg *pgconn.PgError) int {
	found := -1
	guilty := tables.Table(pg.SchemaName, pg.TableName)
	if guilty != nil && stillReferenced(pg) { // then it is the row that is referred to
		for _, key := range guilty.ForeignKeys {
			if key.Name == pg.ConstraintName {
				guilty = tables.TableByOID(key.References)
				break
			}
		}
	}
	for _, s := range p {
		if s.table != guilty {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = s.operation
	}
	return found
}

// nameColumn completes the rejection of a value that Postgres could not read,
// which it does not blame on a column, where one of the operation's values alone
// stands in the message.
func nameColumn(r *upload.Rejection, s statement) {
	var found []int
	for i := range s.columns {
		if value := string(s.args[i]); s.args[i] != nil && strings.Contains(r.Message, strconv.Quote(value)) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return
	}
	column := s.columns[found[0]]
	rejection := unfit(s.table.Unfit(column, quoted(string(s.args[found[0]])), r.Message))
	r.Message, r.Details = rejection.Message, rejection.Details
}

// logAttributes describes an error without a word that could be row data: the
// messages of classes 22 and 23 quote values.
func logAttributes(err error) []any {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return []any{"error", err.Error()}
	}
	attributes := []any{"sqlstate", pg.Code}
	for _, a := range [][2]string{{"table", pg.TableName}, {"column", pg.ColumnName}, {"constraint", pg.ConstraintName}} {
		if a[1] != "" {
			attributes = append(attributes, a[0], a[1])
		}
	}
	switch {
	case strings.HasPrefix(pg.Code, "22"), strings.HasPrefix(pg.Code, "23"), strings.HasPrefix(pg.Code, "P0"), strings.HasPrefix(pg.Code, "PT"):
	default:
		attributes = append(attributes, "error", pg.Message)
	}
	return attributes
}
