package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service"
	"postern/service/catalog"
	"postern/service/policytest"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, check, test, explain and compare policies",
		Long: `Write, check, test, explain and compare policies.

Policies are compiled for the tables of a database: that of DATABASE_URL or --database,
or a throwaway Postgres that the command starts, with your provider's roles and your
schema in it.

Exit codes: 0 all is well, 1 the policies or their tests have problems, or diff finds
changes, 2 the command could not do its work.`,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{2, err} })
	cmd.AddCommand(policyInitCommand(), policyCheckCommand(), policyTestCommand(), policyExplainCommand(), policyDiffCommand(), policySchemaCommand())
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

// databaseFlags say which database policies are tried on.
type databaseFlags struct {
	database, provider string
	schema             []string
}

func (f *databaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.database, "database", "", "URL of a database of yours to use instead of a throwaway one; all is rolled back")
	cmd.Flags().StringSliceVar(&f.schema, "schema", nil, "the app's schema for a throwaway database: SQL files or a folder of migrations (default: supabase/migrations, migrations or schema.sql in the policies' folder or beside it)")
	cmd.Flags().StringVar(&f.provider, "provider", "", "whose roles and schemas a throwaway database has: supabase or neon (default: that of the configuration)")
}

// open connects to the database, or starts a throwaway one for the policies of dir.
func (f *databaseFlags) open(ctx context.Context, dir string) (*policytest.Database, error) {
	if f.database != "" {
		if f.schema != nil || f.provider != "" {
			return nil, errors.New("--schema and --provider are for a throwaway database: leave them out, or leave out --database")
		}
		return policytest.Connect(ctx, f.database, userRoles)
	}
	cfg, err := service.LoadConfig(service.ConfigFile)
	if err != nil {
		return nil, err
	}
	project, err := projectOf(cfg, f.provider)
	if err != nil {
		return nil, err
	}
	files, err := policytest.SchemaFiles(f.schema, dir)
	if err != nil {
		return nil, err
	}
	return policytest.Start(ctx, policytest.Throwaway{ProjectSQL: project.SQL, Roles: userRoles, Schema: files})
}

// orConfigured uses DATABASE_URL if no flag names a database or a schema.
func (f databaseFlags) orConfigured() databaseFlags {
	if f.database == "" && f.schema == nil && f.provider == "" {
		f.database = os.Getenv("DATABASE_URL")
	}
	return f
}

// load reads a folder's policies. If their form has mistakes, the error also lists what
// is wrong with the rest, for the tables of a database.
func (p program) load(dir string, snapshot *catalog.Snapshot) (*policies.Live, error) {
	live, err := p.policies(dir)
	if err != nil {
		return nil, problems(cmp.Or(policies.Problems(os.DirFS(dir), dir, snapshot, p.code()...), err))
	}
	return live, nil
}

// compile reads a folder's policies and compiles them for the tables of a database. The
// error lists all mistakes.
func (p program) compile(dir string, snapshot *catalog.Snapshot) (*policies.Live, *policies.Set, error) {
	live, err := p.load(dir, snapshot)
	if err != nil {
		return nil, nil, err
	}
	set, err := live.For(snapshot)
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
