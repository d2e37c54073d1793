package apply

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/upload"
)

// outcome is what a failure means for the transaction it belongs to. One field is
// set, or none if there was no failure.
type outcome struct {
	answered  bool              // some of the transactions have a receipt
	rejection *upload.Rejection // the write itself is at fault
	again     error             // worth another attempt at once: a clash with another transaction, or a lost connection
	retry     error             // not the fault of the write, or unknown
}

// classify is the one place where Postgres' errors become outcomes. tables tell what
// belongs to the application. SQLSTATEs are those of
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
func classify(f *failure, tables *catalog.Snapshot) outcome {
	if f == nil {
		return outcome{}
	}
	var pg *pgconn.PgError
	switch {
	case f.rejection != nil:
		return outcome{rejection: f.rejection}
	case f.kind == rule && lost(f.err):
		return outcome{retry: f.err}
	case errors.Is(f.err, context.DeadlineExceeded), errors.Is(f.err, context.Canceled):
		return outcome{retry: f.err} // no connection was free in time, or the request's time is up
	case !errors.As(f.err, &pg):
		return outcome{again: f.err}
	}
	switch {
	case f.kind == receipts && pg.ConstraintName == ledger.ReceiptConstraint:
		return outcome{answered: true}
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == ledger.StateUnseen, // a clash with another transaction
		goesAway(pg), // the server goes away, or comes back
		strings.HasPrefix(pg.Code, "08"):
		return outcome{again: f.err}
	case !f.mayReject(pg):
		return outcome{retry: f.err}
	}
	if rejection := rejectionOf(f, tables, pg); rejection != nil {
		return outcome{rejection: rejection}
	}
	return outcome{retry: f.err}
}

// mayReject reports whether an error of the step can be the write's own fault. If one
// of Postern's own statements fails, the setup is at fault, with two exceptions: a
// query that fails on a value that was sent, and one of a row that the user's role may
// not write at all.
func (f *failure) mayReject(pg *pgconn.PgError) bool {
	switch f.kind {
	case receipts, record, rule:
		return false
	case session:
		return f.transaction >= 0
	case reading:
		return f.readsSentValue(pg) || pg.Code == "42501" && f.query != nil && !f.query.IsLookup() && !f.operation.Granted()
	}
	return true
}

// readsSentValue reports whether a query failed on a value that was sent: of the
// row's key, or one that a lookup's error quotes.
func (f *failure) readsSentValue(pg *pgconn.PgError) bool {
	if !strings.HasPrefix(pg.Code, "22") && !readsParameter(pg) {
		return false
	}
	return f.query == nil || !f.query.IsLookup() || slices.ContainsFunc(f.query.Args, func(arg []byte) bool {
		return arg != nil && strings.Contains(pg.Message, strconv.Quote(string(arg)))
	})
}

// lost reports whether the connection broke. Then it is unknown whether what was sent
// took effect.
func lost(err error) bool {
	var pg *pgconn.PgError
	return !errors.As(err, &pg)
}

// raised reports whether a function of schema postern raised an error with a state.
func raised(err error, state string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == state
}

// goesAway reports whether the server said that it ends the connection.
func goesAway(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "57P01" || pg.Code == "57P02" || pg.Code == "57P03")
}

// hasStalePlan reports whether a PL/pgSQL function failed because a column has got another
// type since its connection planned the function. It would fail for as long as the
// connection lives. Other causes of 42804 come from other routines of Postgres.
func hasStalePlan(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42804" && (strings.HasPrefix(pg.Routine, "plpgsql_param_eval") || pg.Routine == "ExecEvalParamExtern")
}

type pingKey struct{}

// WithPing has a pool try each connection before it hands it out, see MustPing.
func WithPing(ctx context.Context) context.Context { return context.WithValue(ctx, pingKey{}, true) }

// MustPing reports whether the pool must try a connection before it hands it out. One was
// just lost, so that the others that are idle may be dead, too; or what follows is not
// tried again. It is for the pool's ShouldPing.
func MustPing(ctx context.Context) bool { return ctx.Value(pingKey{}) != nil }
