package apply

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/ledger"
	"postern/service/upload"
)

// outcome is what became of one attempt. Exactly one field is set; none means
// that it was committed.
type outcome struct {
	answered  bool              // a receipt exists
	rejection *upload.Rejection // the write's own fault
	again     error             // worth another attempt at once: a clash with another transaction, or a lost connection
	retry     error             // not the write's fault, or nobody knows
}

const (
	retryAfter      = 5 * time.Second // as long as the SDKs wait on their own
	retryAfterClash = time.Second     // two transactions met; the other one will be done soon
)

// failure is an error of one step of a batch.
type failure struct {
	err       error
	receipt   bool // the step was the receipt
	operation int  // -1 where the step was no operation
}

// classify is the one place where Postgres' errors become outcomes. SQLSTATEs
// are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
func classify(f *failure) outcome {
	if f == nil {
		return outcome{}
	}
	var pg *pgconn.PgError
	if !errors.As(f.err, &pg) {
		if pgconn.SafeToRetry(f.err) {
			return outcome{again: f.err} // nothing was sent
		}
		return outcome{retry: f.err}
	}
	reject := func(code upload.Code, message string) outcome {
		return outcome{rejection: &upload.Rejection{Code: code, Message: message, Details: details(pg), Operation: f.operation}}
	}
	switch {
	case f.receipt && pg.ConstraintName == ledger.ReceiptConstraint:
		return outcome{answered: true}
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "57P01":
		return outcome{again: f.err} // 57P01 is what an idle connection to a database that fell asleep says
	case f.operation < 0 && !strings.HasPrefix(pg.Code, "23"):
		return outcome{retry: f.err} // our own statements failed: the setup's fault, not the write's
	case pg.Code == ledger.StateHidden:
		f.operation = detailIndex(pg, f.operation)
		return reject(upload.Unauthorized, "the row exists and is not yours to change")
	case pg.Code == ledger.StateMissing:
		f.operation = detailIndex(pg, f.operation)
		return reject(upload.RowNotFound, "the row does not exist")
	case pg.Code == "23502":
		return reject(upload.NotNullViolation, fmt.Sprintf("%s.%s must not be null", pg.TableName, pg.ColumnName))
	case pg.Code == "23503":
		return reject(upload.ForeignKeyViolation, foreignKeyMessage(pg))
	case pg.Code == "23505":
		return reject(upload.UniqueViolation, fmt.Sprintf("another row of %s already has this value (constraint %s)", pg.TableName, pg.ConstraintName))
	case pg.Code == "23514":
		return reject(upload.CheckViolation, fmt.Sprintf("the row does not meet constraint %s of %s", pg.ConstraintName, pg.TableName))
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
	return outcome{retry: f.err}
}

// details is what a client may learn of an error: names of its own tables and
// columns, and what the application's RAISE says.
func details(pg *pgconn.PgError) map[string]any {
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
	if strings.Contains(pg.Detail, "still referenced") {
		return fmt.Sprintf("other rows still refer to this one (constraint %s)", pg.ConstraintName)
	}
	return fmt.Sprintf("the row refers to one that does not exist (constraint %s of %s)", pg.ConstraintName, pg.TableName)
}

func detailIndex(pg *pgconn.PgError, otherwise int) int {
	if index, err := strconv.Atoi(pg.Detail); err == nil {
		return index
	}
	return otherwise
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
