package apply

import (
	"errors"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/plan"
	"postern/service/upload"
)

// rejectionOf is nil for an error that is not known to be the write's own fault. It has a
// message if the application or Postern has worded the error; otherwise see complete.
func rejectionOf(f *failure, tables *catalog.Snapshot, pg *pgconn.PgError) *upload.Rejection {
	reject := func(code upload.Code) *upload.Rejection {
		r := &upload.Rejection{Code: code, Operation: f.index}
		if isRaised(pg) {
			r.Message, r.Details = pg.Message, raisedDetails(pg)
		}
		return r
	}
	switch {
	case pg.Code == ledger.StateDeclined:
		return declined(f, pg)
	case pg.Code == "23502":
		return reject(upload.NotNullViolation)
	case pg.Code == "23503":
		return reject(upload.ForeignKeyViolation)
	case pg.Code == "23505":
		return reject(upload.UniqueViolation)
	case lacksPartition(pg):
		return nil
	case pg.Code == "23514":
		return reject(upload.CheckViolation)
	case strings.HasPrefix(pg.Code, "23"):
		return reject(upload.ConstraintViolation)
	case pg.Code == "P0001", strings.HasPrefix(pg.Code, "PT") && !isServerFault(pg.Code):
		return reject(upload.RejectedByDatabase)
	case strings.HasPrefix(pg.Code, "22"):
		return ofData(f, tables, pg, reject)
	case inFunction(pg) != "" && !isRaised(pg):
		return nil // the application's function is at fault, and not the write
	case readsParameter(pg):
		return reject(upload.InvalidData)
	case pg.Code == "42P01", pg.Code == "42703", pg.Code == "42804":
		return reject(upload.SchemaMismatch)
	case pg.Code == "42501" && !lacksGrant(f, pg):
		return reject(upload.Unauthorized)
	}
	return nil
}

// ofData is the rejection of an error of class 22: of the statement itself, or of a
// trigger, whose result depends on the row. An error of another function, such as one in
// a row-level security policy, and of a claim that does not fit are not the write's fault.
func ofData(f *failure, tables *catalog.Snapshot, pg *pgconn.PgError, reject func(upload.Code) *upload.Rejection) *upload.Rejection {
	switch function := inFunction(pg); {
	case function != "" && tables.IsTriggerFunction(function):
		return reject(upload.RejectedByDatabase)
	case function != "", f.quotesClaim(pg):
		return nil
	}
	return reject(upload.InvalidData)
}

// quotesClaim reports whether a claim does not fit the database, as a sub that is no UUID
// under a row-level security policy by auth.uid(). A value that Postgres cannot read was sent.
func (f *failure) quotesClaim(pg *pgconn.PgError) bool {
	return f.operation != nil && !ofParameter(pg) && f.operation.QuotesClaim(pg.Message)
}

// isRaised reports whether the application's own code has raised the error, in words of
// its own: a RAISE of PL/pgSQL, or a violation without what Postgres names in its own.
func isRaised(pg *pgconn.PgError) bool {
	return pg.Routine == "exec_stmt_raise" || pg.Code == "P0001" || strings.HasPrefix(pg.Code, "PT") ||
		strings.HasPrefix(pg.Code, "23") && pg.TableName == "" && pg.ConstraintName == "" && pg.DataTypeName == ""
}

// lacksPartition reports whether a row has no partition, which Postgres reports with the
// SQLSTATE of a check. Then the database lacks one, such as the next month's, or the row's
// own value is beyond all of them.
func lacksPartition(pg *pgconn.PgError) bool {
	return pg.Code == "23514" && pg.Routine == "ExecFindPartition"
}

// readsParameter reports whether a type's input function has refused a value that was sent,
// with an SQLSTATE that is not of data: those of ltree, tsvector, tsquery and jsonpath
// report a syntax error (42601, 42622), and hstore an internal one.
func readsParameter(pg *pgconn.PgError) bool {
	return ofParameter(pg) && (strings.HasPrefix(pg.Code, "42") || pg.Code == "XX000")
}

// ofParameter reports whether Postgres could not read a parameter of a statement.
func ofParameter(pg *pgconn.PgError) bool {
	return strings.HasPrefix(pg.Where, "unnamed portal parameter $")
}

// isServerFault reports whether PostgREST would answer a RAISE with this SQLSTATE with
// 429 or 5xx.
func isServerFault(state string) bool { return state == "PT429" || strings.HasPrefix(state, "PT5") }

// inFunction is the outermost function that an error comes from, without its schema;
// empty if it comes from the statement itself.
func inFunction(pg *pgconn.PgError) (name string) {
	for _, line := range strings.Split(pg.Where, "\n") {
		if match := functionLine.FindStringSubmatch(line); match != nil {
			name = match[1]
		}
	}
	return name
}

// failsInFunction reports whether a function of the application has failed on data.
func failsInFunction(f *failure) bool {
	var pg *pgconn.PgError
	return errors.As(f.err, &pg) && strings.HasPrefix(pg.Code, "22") && inFunction(pg) != ""
}

// functionLine is a line of an error's context: PL/pgSQL function public.f(integer) line 3
// at RAISE, or SQL function "f" statement 1.
var functionLine = regexp.MustCompile(`function "?(?:[^"(.]+\.)?([^"(]+)`)

// lacksGrant reports whether the role lacks a privilege that the policies count on: they
// name the table, and the database does not let the role write it at all.
func lacksGrant(f *failure, pg *pgconn.PgError) bool {
	return permissionDenied(pg) && f.operation != nil && f.operation.Named() && !f.operation.Granted()
}

// permissionDenied reports whether the role lacks a privilege, which a row-level security
// policy has nothing to do with. The C function tells them apart in every language.
func permissionDenied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Routine == "aclcheck_error"
}

// declined is the rejection that postern.explain_no_row raises: its message is the code,
// its hint the row as the user may see it.
func declined(f *failure, pg *pgconn.PgError) *upload.Rejection {
	r := &upload.Rejection{Code: upload.Code(pg.Message), Operation: f.index}
	switch r.Code {
	case upload.Conflict:
		r.Message = "the row has changed since it was last synced"
	case upload.ImmutableColumn:
		r.Message = "a column of the row cannot change once it is set"
	case upload.RowDeleted:
		r.Message = "the row was deleted: give a new row another id"
	case upload.RowNotFound:
		r.Message = "the row does not exist"
	} // complete adds the row of a CONFLICT, and words to UNAUTHORIZED
	return r
}

// raisedDetails is what the application's code says beside its message.
func raisedDetails(pg *pgconn.PgError) map[string]any {
	d := map[string]any{"sqlstate": pg.Code}
	for name, value := range map[string]string{
		"table": pg.TableName, "column": pg.ColumnName, "constraint": pg.ConstraintName, "detail": pg.Detail, "hint": pg.Hint,
	} {
		if value != "" {
			d[name] = value
		}
	}
	return d
}

// stillReferenced reports whether a foreign key was violated by removing the row that
// it refers to, and not by the row that refers.
func stillReferenced(pg *pgconn.PgError) bool {
	return pg.Code == "23503" && strings.Contains(pg.Detail, "still referenced")
}

// clientHandles reports whether the policies leave a rejection to the client's app.
func clientHandles(set *policies.Set, rejection *upload.Rejection, t upload.Transaction) bool {
	if rejection.ClientHandling || rejection.Operation < 0 {
		return rejection.ClientHandling
	}
	table, _ := set.Decide(t.Operations[rejection.Operation])
	return table != nil && table.ClientHandling(rejection.Code)
}

// operationOf finds the operation that caused an error at the end of a transaction,
// if it can only be one; otherwise -1.
func operationOf(tables *catalog.Snapshot, order *plan.Order, pg *pgconn.PgError) int {
	table := tables.Table(pg.SchemaName, pg.TableName)
	if table != nil && stillReferenced(pg) { // then it is an operation on the table referred to
		for _, key := range table.ForeignKeys {
			if key.Name == pg.ConstraintName {
				table = tables.TableByOID(key.References)
				break
			}
		}
	}
	for _, u := range order.Tables {
		if u.Table == table && u.Operations == 1 {
			return u.Last
		}
	}
	return -1
}
