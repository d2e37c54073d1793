package cli

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service/apply"
	"postern/service/policytest"
)

func policyCheckCommand() *cobra.Command {
	var f databaseFlags
	var strict bool
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "List everything that is wrong with policies, with file, line and column",
		Long: `List everything that is wrong with policies, with file, line and column.

They are compiled for the tables of DATABASE_URL, and lookups are prepared there. If
it is not set, a throwaway Postgres with your schema takes its place.

A warning is no mistake: it says which rule, permission or assignment of one operation
a client can get around with another one, which rule is never evaluated, which value
may be null without a guard, which names no expression uses, and which grants are
missing, or that no table is open. With --strict it is one.`,
		RunE: withDir(func(cmd *cobra.Command, dir string) error {
			return check(cmd, dir, f.orConfigured(), strict)
		}),
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 if there are warnings, for CI")
	return cmd
}

func check(cmd *cobra.Command, dir string, f databaseFlags, strict bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	db, err := f.open(ctx, dir)
	if err != nil {
		return err
	}
	defer db.Close()
	set, mistakes, err := policies.Examine(os.DirFS(dir), dir, db.Snapshot(), program{cmd}.code()...)
	if err != nil {
		return problems(err)
	}
	columns, ofLookups, err := lookups(ctx, db, set)
	if err != nil {
		return err
	}
	mistakes = policies.Join(mistakes, ofLookups)
	if mistakes != nil {
		fmt.Fprintln(out, mistakes)
	}
	warnings := slices.Concat(set.Warnings(db.Snapshot(), columns), set.Unused())
	for _, role := range userRoles {
		for _, grant := range set.MissingGrants(db.Snapshot(), role) {
			warnings = append(warnings, fmt.Errorf("the policies open a table that the database does not: %s", grant))
		}
	}
	for _, warning := range warnings {
		fmt.Fprintf(out, "warning: %v\n", warning)
	}
	switch {
	case mistakes != nil:
		return &exit{code: 1}
	case strict && len(warnings) > 0:
		return &exit{1, fmt.Errorf("--strict: the policies have warnings (%d)", len(warnings))}
	}
	_, err = fmt.Fprintf(out, "ok: %s, for the tables of %s\n", set, db.Name)
	return err
}

// lookups has Postgres parse each lookup, as it will when rules need it.
func lookups(ctx context.Context, db *policytest.Database, set *policies.Set) (columns policies.LookupColumns, problems, err error) {
	for _, role := range userRoles {
		var found error
		if columns, found, err = apply.PrepareLookups(ctx, db.Pool, role, db.Snapshot().Settings(role), set); err != nil {
			return nil, nil, err
		}
		problems = policies.Join(problems, found)
	}
	return columns, problems, nil
}
