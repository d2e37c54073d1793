package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"postern/service/identity"
	"postern/service/local"
)

func tokenCommand() *cobra.Command {
	var user, data string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token of the development issuer; see also token keygen",
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
	cmd.AddCommand(keygenCommand())
	cmd.Flags().StringVar(&user, "user", "alice", "the user's name; a name has the same id on every machine")
	cmd.Flags().StringVar(&data, "data", defaultData, "the data folder of postern dev")
	return cmd
}

// keygenHelp goes to standard error, so that the key alone can go to a file.
const keygenHelp = `
This is a private key: whoever has it can read as any user. Keep it like a password.

1. Tell the PowerSync Service (Client Auth in the dashboard, or client_auth in powersync.yaml):
     jwks_uri: https://<your Postern>/.well-known/jwks.json
     audience: [<your POWERSYNC_URL, or one of POWERSYNC_AUDIENCE>]   # PowerSync Cloud accepts its own URL anyway
2. Set the key as POSTERN_SIGNING_KEY of the service, and start it again:
     fly secrets set POSTERN_SIGNING_KEY="$(cat key.json)"

GET /api/credentials then gives a token of Postern's own to each user whose token the PowerSync
Service does not accept. To replace the key later, see POSTERN_SECOND_KEY in README.md.
`

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Make a key for POSTERN_SIGNING_KEY, which signs tokens for the PowerSync Service",
		Long: `Make an ES256 key, and print it as a JWK in one line. How to use it goes to standard error.

  postern token keygen > key.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := identity.NewSigningKey()
			if err != nil {
				return err
			}
			jwk, err := key.PrivateJWK()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), jwk); err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.ErrOrStderr(), keygenHelp)
			return err
		},
	}
}
