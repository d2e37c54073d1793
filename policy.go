package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/policies/policytest"
	"postern/service"
	"postern/service/catalog"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, check, test and explain policies",
		Long: `Write, check, test and explain policies.

A folder of policies is held against the tables of a database: those of DATABASE_URL,
or without it those in the folder's catalog.json, which policy catalog writes.

Exit codes: 0 all is well, 1 the policies or their tests have problems, 2 the
command could not do its work.`,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{2, err} })
	cmd.AddCommand(policyInitCommand(), policyCheckCommand(), policyCatalogCommand(), policyTestCommand(), policyExplainCommand())
	return cmd
}

// exit is an error with an exit code of its own; err is nil where all was said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// userRoles are those whose grants matter.
var userRoles = []string{"authenticated"}

// withDir runs a subcommand on its folder, that of the argument or the service's.
// What it does not return as an exit is no problem of the policies: 2.
func withDir(run func(cmd *cobra.Command, dir string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return &exit{2, fmt.Errorf("one folder is enough: %s", args)}
		}
		dir := ""
		if len(args) == 1 {
			dir = args[0]
		} else {
			var err error
			if dir, err = configuredPolicies(); err != nil {
				return &exit{2, err}
			}
		}
		return exitCode(run(cmd, dir))
	}
}

// configuredPolicies is the service's folder.
func configuredPolicies() (string, error) {
	cfg, err := service.LoadConfig(service.ConfigFile)
	return cfg.Policies, err
}

func exitCode(err error) error {
	var code *exit
	if err == nil || errors.As(err, &code) {
		return err
	}
	return &exit{2, err}
}

// tables are those to hold policies against, and where they are from.
type tables struct {
	*catalog.Snapshot
	from string
	db   *pgxpool.Pool // nil where they are from a file
}

func (t *tables) close() {
	if t.db != nil {
		t.db.Close()
	}
}

// openTables reads the database's where DATABASE_URL is set, else the folder's
// catalogue file.
func openTables(ctx context.Context, dir string, offline bool) (*tables, error) {
	if os.Getenv("DATABASE_URL") == "" || offline {
		snapshot, err := policytest.ReadCatalog(dir)
		if err != nil {
			return nil, err
		}
		return &tables{Snapshot: snapshot, from: filepath.Join(dir, policytest.CatalogFile)}, nil
	}
	return liveTables(ctx)
}

func liveTables(ctx context.Context) (*tables, error) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return nil, errors.New("DATABASE_URL is not set: give it the service's, or the owner's")
	}
	db, err := service.Connect(url)
	if err != nil {
		return nil, err
	}
	snapshot, err := catalog.Read(ctx, db, userRoles)
	if err != nil {
		db.Close()
		return nil, err
	}
	return &tables{Snapshot: snapshot, from: "the database", db: db}, nil
}

// compile reads a folder's policies and holds them against tables.
func (t *tables) compile(dir string) (*policies.Live, *policies.Set, error) {
	live, err := policies.Load(dir)
	if err != nil {
		return nil, nil, problems(err)
	}
	set, err := live.For(t.Snapshot)
	if err != nil {
		return nil, nil, problems(err)
	}
	return live, set, nil
}

// problems are of the policies, unless the files could not be read.
func problems(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return &exit{2, err}
	}
	return &exit{1, err}
}
