package apply

import "github.com/jackc/pgx/v5"

// StatementsOf returns how a connection sends statements: Named or Unnamed.
func StatementsOf(conn *pgx.Conn) Statements {
	if conn.PgConn().CustomData()[statementsKey] != nil {
		return Named
	}
	return Unnamed
}
