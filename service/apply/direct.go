package apply

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// StatementsOf returns how a connection sends statements: Named or Unnamed.
func StatementsOf(conn *pgx.Conn) Statements {
	if conn.PgConn().CustomData()[statementsKey] != nil {
		return Named
	}
	return Unnamed
}

// isDirect reports whether a connection is known to have the backend that it announced.
func isDirect(conn *pgconn.PgConn) bool {
	s, _ := conn.CustomData()[statementsKey].(*statements)
	return s != nil && !s.pooled
}
