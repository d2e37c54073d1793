package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"postern/service/local"
)

// serverEnv is the folder of a Postgres, with its programs in bin. All servers of a run
// are of it. Otherwise they are of the Postgres on the PATH, or of the newest installed.
const serverEnv = "POSTERN_TEST_POSTGRES"

// preferServer puts the Postgres of serverEnv first on the PATH, also for the commands
// that tests run.
func preferServer() error {
	dir := os.Getenv(serverEnv)
	if dir == "" {
		return nil
	}
	return os.Setenv("PATH", filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// checkServer returns an error if the server is not of the folder in serverEnv, which may
// be incomplete.
func checkServer(ctx context.Context, server *local.Postgres) error {
	dir := os.Getenv(serverEnv)
	if dir == "" {
		return nil
	}
	want, err := filepath.EvalSymlinks(filepath.Join(dir, "bin"))
	if err != nil {
		return fmt.Errorf("%s: %w", serverEnv, err)
	}
	conn, err := pgx.Connect(ctx, server.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var runs string
	if err := conn.QueryRow(ctx, `select setting from pg_catalog.pg_config where name = 'BINDIR'`).Scan(&runs); err != nil {
		return err
	}
	if runs != want {
		return fmt.Errorf("%s is %s, where no Postgres from version 14 on is complete; the one in %s runs", serverEnv, dir, runs)
	}
	return nil
}
