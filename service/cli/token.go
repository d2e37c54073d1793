package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"postern/service/local"
)

func tokenCommand() *cobra.Command {
	var user, data string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token of the development issuer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := local.CheckUserName(user); err != nil {
				return fmt.Errorf("--user: %w", err)
			}
			if _, err := os.Stat(data); err != nil {
				return fmt.Errorf("%s: postern dev has not run here: start it first, or name its folder with --data", data)
			}
			issuer, err := local.OpenIssuer(data)
			if err != nil {
				return err
			}
			token, err := issuer.Token(user, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", "alice", "the user's name; a name has the same id on every machine")
	cmd.Flags().StringVar(&data, "data", defaultData, "the data folder of postern dev")
	return cmd
}
