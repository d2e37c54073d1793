package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"postern/neon"
	"postern/policies"
	"postern/service/catalog"
	"postern/service/policytest"
	"postern/supabase"
)

func policyInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a first policy file from the database's tables, grants and row-level security",
		Long: `Write a first policy file, app.yaml, from the tables of DATABASE_URL, their grants and
row-level security. Beside it are policy.schema.json and policy_test.schema.json, by
which editors complete policies and tests. Nothing is overwritten.

Tables that users cannot write, or could write without row-level security, are in
comments that say why.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error { return initPolicies(cmd.Context(), cmd.OutOrStdout(), dir) }),
	}
}

const starterFile = "app.yaml"

func initPolicies(ctx context.Context, out io.Writer, dir string) error {
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		if there, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(there) > 0 {
			return errors.Join(err, fmt.Errorf("%s has policies already, and stays as it is: %s", dir, strings.Join(there, ", ")))
		}
	}
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("DATABASE_URL is not set: give it the service's, or the owner's")
	}
	db, err := policytest.Connect(ctx, url, userRoles)
	if err != nil {
		return err
	}
	defer db.Close()
	security, err := readRowPolicies(ctx, db)
	if err != nil {
		return fmt.Errorf("reading the database's policies: %w", err)
	}
	shown := appTables(db)
	defaults, err := readDefaults(ctx, db)
	if err != nil {
		return fmt.Errorf("reading the columns' defaults: %w", err)
	}
	content, opened := policies.Starter(shown, security, defaults, userRoles[0])
	files, err := schemas(db, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, write := range append([]namedFile{{starterFile, []byte(content)}}, files...) {
		path := filepath.Join(dir, write.name)
		switch err := writeNew(path, write.content); {
		case errors.Is(err, os.ErrExist):
			fmt.Fprintf(out, "%s is there and stays as it is\n", path)
		case err != nil:
			return err
		default:
			fmt.Fprintf(out, "%s written\n", path)
		}
	}
	_, err = fmt.Fprintf(out, "%d of %d tables are open; %s says why the others are not\n", opened, len(shown), starterFile)
	return err
}

func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

// ofApp reports whether a table is one that the app may open: in schema public, or
// granted to users, and not of Postern, the provider or an extension.
func ofApp(t *catalog.Table) bool {
	if t.Schema == "postern" || slices.Contains(slices.Concat(supabase.Schemas, neon.Schemas), t.Schema) {
		return false
	}
	granted := false
	for _, privileges := range t.Grants {
		granted = granted || len(privileges) > 0
	}
	return granted || t.Schema == "public"
}

func readRowPolicies(ctx context.Context, db *policytest.Database) ([]policies.RowPolicy, error) {
	rows, err := db.Pool.Query(ctx, `
select schemaname::text, tablename::text, policyname::text, cmd, roles::text[], coalesce(qual, ''), coalesce(with_check, '')
  from pg_catalog.pg_policies
 where permissive = 'PERMISSIVE'
 order by 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[policies.RowPolicy])
}

func readDefaults(ctx context.Context, db *policytest.Database) ([]policies.ColumnDefault, error) {
	rows, err := db.Pool.Query(ctx, `
select n.nspname::text, c.relname::text, a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
  from pg_catalog.pg_attrdef d
  join pg_catalog.pg_class c on c.oid = d.adrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
 where a.attgenerated = ''
 order by 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[policies.ColumnDefault])
}
