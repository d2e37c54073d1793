package apply

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
)

// functionPlace is the part of an error's context that names a function and the line in
// it: PL/pgSQL function public.f(integer) line 3 at RAISE. The rest may quote SQL.
var functionPlace = regexp.MustCompile(`function "?[^"\s(]+"?(\([^()\n]*\))?( line \d+| statement \d+)?`)

// ownFunction begins the context of an error that a function of schema postern raises.
// Its messages name tables, and quote no rows.
const ownFunction = "PL/pgSQL function postern."

// LogAttributes describes an error without row data. Messages of classes 22 and 23 quote
// values, and so do those of types that refuse a text. So may those of RAISE, and those of
// a function that builds its SQL; then the log has the line of the function, and Postgres'
// own log has the message.
func LogAttributes(err error) []any {
	var (
		pg   *pgconn.PgError
		rule *policies.RuleError
	)
	if !errors.As(err, &pg) {
		if errors.As(err, &rule) {
			return []any{"rule", rule.Rule, "error", rule.Reason()}
		}
		return []any{"error", err.Error()}
	}
	attributes := []any{"sqlstate", pg.Code}
	for _, a := range [][2]string{{"table", pg.TableName}, {"column", pg.ColumnName}, {"constraint", pg.ConstraintName}} {
		if a[1] != "" && pg.Routine != "exec_stmt_raise" {
			attributes = append(attributes, a[0], a[1])
		}
	}
	place := functionPlace.FindString(pg.Where)
	switch {
	case place != "" && !strings.HasPrefix(pg.Where, ownFunction):
		attributes = append(attributes, "function", strings.TrimPrefix(place, "function "))
	case slices.Contains([]string{"22", "23", "P0", "PT"}, pg.Code[:min(2, len(pg.Code))]), readsParameter(pg):
	default:
		attributes = append(attributes, "error", pg.Message)
	}
	return attributes
}
