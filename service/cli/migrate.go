package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"postern/neon"
	"postern/service/ledger"
	"postern/supabase"
)

func migrateCommand() *cobra.Command {
	var print bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Install or update schema postern, as the owner of the tables",
		Long: `Install or update schema postern and the login role the service connects as.

DATABASE_URL names the owner of your tables: on Supabase the role postgres, on Neon
neondb_owner, over a direct connection or a session pooler. The first run prints
the login role's URL with its password: it is the DATABASE_URL of the service.
Where DATABASE_URL is already the service's, as in Fly.io's release command,
POSTERN_OWNER_URL is the owner's.

It shows how many of the missing migrations are done and, while an index is built, how
far Postgres has come. Ctrl-C ends the migration that is running, and Postgres rolls it
back; what was applied before stays. Run the command again to go on. That is so after a
kill, too: Postgres notices within some seconds that the command is gone.

--print changes nothing. It prints how apps sync their users' rejected writes into
their local databases and, if DATABASE_URL is set, which migrations it has.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ownerURL := cmp.Or(os.Getenv("POSTERN_OWNER_URL"), os.Getenv("DATABASE_URL"))
			if print {
				return printGuide(cmd, ownerURL)
			}
			if ownerURL == "" {
				return errors.New("DATABASE_URL is not set: set it to the URL of the role that owns your tables (Supabase: postgres, Neon: neondb_owner)")
			}
			done, err := migrate(cmd, ownerURL)
			out := cmd.OutOrStdout()
			for _, name := range done.Applied {
				fmt.Fprintln(out, "applied", name)
			}
			var missing *ledger.NoRole
			switch {
			case errors.As(err, &missing):
				return fmt.Errorf("%w. %s %s", err, supabase.RoleHint, neon.RoleHint)
			case err != nil && cmd.Context().Err() != nil:
				return errInterrupted("what was applied stays; run it again to go on")
			case err != nil:
				return err
			}
			if done.LoginURL == "" {
				fmt.Fprintf(out, "Schema postern is up to date. The service connects as role %s, which exists. To change its password, run:\n  alter role %s password '…';\n", ledger.Login, ledger.Login)
				return nil
			}
			fmt.Fprintf(out, "Created role %s. Its password is shown only now. This is the DATABASE_URL of the service:\n  %s\n", ledger.Login, done.LoginURL)
			return nil
		},
	}
	cmd.Flags().BoolVar(&print, "print", false, "print how to sync rejected writes to their authors, and change nothing")
	return cmd
}

// migrate shows how far it has come: the migrations, and what Postgres says of the one
// that is running.
func migrate(cmd *cobra.Command, ownerURL string) (ledger.Migrated, error) {
	watcher := &ledger.Watcher{OwnerURL: ownerURL}
	defer watcher.Close(context.WithoutCancel(cmd.Context()))
	shown := startProgress(cmd.ErrOrStderr(), "migrations", 0, func() string { return watcher.Work(cmd.Context()) })
	defer shown.end()
	return ledger.Migrate(cmd.Context(), ownerURL, userRoles, shown.set)
}

func printGuide(cmd *cobra.Command, ownerURL string) error {
	out := cmd.OutOrStdout()
	if ownerURL != "" {
		installed, err := ledger.Installed(cmd.Context(), ownerURL)
		if err != nil {
			return err
		}
		fmt.Fprint(out, installed)
	}
	_, err := fmt.Fprint(out, ledger.Guide())
	return err
}
