package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/policies/policytest"
	"postern/service/apply"
)

func policyCheckCommand() *cobra.Command {
	var writeCatalog, offline bool
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Say all that is wrong with policies, with file, line and column",
		Long: `Say all that is wrong with policies, with file, line and column.

With DATABASE_URL they are held against that database, and lookups are prepared on
it; without, or with --offline, against the folder's catalog.json.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			if writeCatalog {
				if err := writeCatalogFile(cmd.Context(), cmd.OutOrStdout(), dir); err != nil {
					return err
				}
			}
			return check(cmd.Context(), cmd.OutOrStdout(), dir, offline)
		}),
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "against catalog.json, even where DATABASE_URL is set")
	cmd.Flags().BoolVar(&writeCatalog, "write-catalog", false, "write catalog.json from the database first")
	return cmd
}

func policyCatalogCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "catalog [DIR]",
		Short: "Write catalog.json, the database's tables in a file, beside the policies",
		Long: `Write catalog.json beside the policies: the tables of DATABASE_URL's schema public
and those granted to users, so that policies can be checked and tested without a
database. It has no data in it, and is the same for the same tables: keep it with
the policies.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			return writeCatalogFile(cmd.Context(), cmd.OutOrStdout(), dir)
		}),
	}
}

func writeCatalogFile(ctx context.Context, out io.Writer, dir string) error {
	t, err := liveTables(ctx)
	if err != nil {
		return err
	}
	defer t.close()
	file := t.ForFile()
	content, err := file.MarshalJSON()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, policytest.CatalogFile)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %d tables\n", path, len(file.Tables()))
	return err
}

func check(ctx context.Context, out io.Writer, dir string, offline bool) error {
	t, err := openTables(ctx, dir, offline)
	if err != nil {
		return err
	}
	defer t.close()
	_, set, err := t.compile(dir)
	if err == nil && t.db != nil {
		err = t.prepareLookups(ctx, set)
	}
	var found *exit
	if errors.As(err, &found) && found.code == 1 {
		fmt.Fprintln(out, found.err)
		return &exit{code: 1}
	}
	if err != nil {
		return err
	}
	for _, role := range userRoles {
		for _, grant := range set.MissingGrants(t.Snapshot, role) {
			fmt.Fprintf(out, "warning: the policies open what the database keeps: %s\n", grant)
		}
	}
	_, err = fmt.Fprintf(out, "ok: %s, against %s\n", set, t.from)
	return err
}

// prepareLookups has Postgres read each lookup, as it will when rules are asked.
func (t *tables) prepareLookups(ctx context.Context, set *policies.Set) error {
	for _, role := range userRoles {
		problems, err := apply.PrepareLookups(ctx, t.db, role, t.Settings(role), set)
		if err != nil {
			return err
		}
		if problems != nil {
			return &exit{1, problems}
		}
	}
	return nil
}
