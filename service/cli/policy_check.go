package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/apply"
	"postern/service/policytest"
)

func policyCheckCommand() *cobra.Command {
	var f databaseFlags
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "List everything that is wrong with policies, with file, line and column",
		Long: `List everything that is wrong with policies, with file, line and column.

They are compiled for the tables of DATABASE_URL, and lookups are prepared there. If
it is not set, a throwaway Postgres with your schema takes its place.

A warning is no mistake: it says which rule, permission or assignment of one operation
a client can get around with another one, and which grants are missing.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			return check(cmd, dir, f.orConfigured())
		}),
	}
	f.add(cmd)
	return cmd
}

func check(cmd *cobra.Command, dir string, f databaseFlags) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	db, err := f.open(ctx, dir)
	if err != nil {
		return err
	}
	defer db.Close()
	_, set, err := program{cmd}.compile(dir, db.Snapshot())
	if err == nil {
		err = prepareLookups(ctx, db, set)
	}
	var found *exit
	if errors.As(err, &found) && found.code == 1 {
		fmt.Fprintln(out, found.err)
		return &exit{code: 1}
	}
	if err != nil {
		return err
	}
	for _, warning := range slices.Concat(set.Bypasses(db.Snapshot()), set.Unused()) {
		fmt.Fprintf(out, "warning: %v\n", warning)
	}
	for _, role := range userRoles {
		for _, grant := range set.MissingGrants(db.Snapshot(), role) {
			fmt.Fprintf(out, "warning: the policies open a table that the database does not: %s\n", grant)
		}
	}
	_, err = fmt.Fprintf(out, "ok: %s, for the tables of %s\n", set, db.Name)
	return err
}

// prepareLookups has Postgres parse each lookup, as it will when rules need it.
func prepareLookups(ctx context.Context, db *policytest.Database, set *policies.Set) error {
	for _, role := range userRoles {
		problems, err := apply.PrepareLookups(ctx, db.Pool, role, db.Snapshot().Settings(role), set)
		if err != nil {
			return err
		}
		if problems != nil {
			return &exit{1, problems}
		}
	}
	return nil
}
