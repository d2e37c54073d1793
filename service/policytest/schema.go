package policytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// migrations are the SQL files of a folder in the order of their names, as the tools
// for migrations run them. Files that undo a migration are left out.
func migrations(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, path := range found {
		if !strings.HasSuffix(path, ".down.sql") {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no SQL files", dir)
	}
	return files, nil
}

// undoes begins the part of a migration that undoes it, as goose and dbmate mark it.
var undoes = regexp.MustCompile(`(?mi)^--\s*(\+goose\s+down|migrate:down)\b`)

// runFile runs a SQL file as the owner of a database.
func runFile(ctx context.Context, conn *pgx.Conn, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sql := string(content)
	if at := undoes.FindStringIndex(sql); at != nil {
		sql = sql[:at[0]]
	}
	if err := conn.PgConn().Exec(ctx, sql).Close(); err != nil {
		return inFile(path, sql, err)
	}
	return nil
}

// inFile says where in a file an error is, as far as Postgres knows.
func inFile(path, sql string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("%s: %w", path, err)
	}
	where, hint := path, pg.Hint
	if pg.Position > 0 {
		before := []rune(sql)
		before = before[:min(int(pg.Position)-1, len(before))]
		where = fmt.Sprintf("%s:%d", path, 1+strings.Count(string(before), "\n"))
	}
	if hint == "" && strings.Contains(pg.Message, "extension") {
		hint = "the throwaway Postgres has only the extensions that are installed on this machine: use --database with the URL of a development database"
	}
	if hint != "" {
		hint = " (" + hint + ")"
	}
	return fmt.Errorf("%s: %s%s", where, pg.Message, hint)
}
