package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"postern/service"
	"postern/service/doctor"
)

func doctorCommand() *cobra.Command {
	var (
		token  string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong: database, issuers, PowerSync Service, policies, this machine",
		Long: `Find what is wrong with the configuration, the database, the issuers of tokens, the
PowerSync Service, the policies and this machine. It changes nothing.

It reads the settings of the service. Each finding has a cause and a remedy. With
--token, a user's token is verified, and tried in the database and at the PowerSync
Service; - reads it from standard input. With POSTERN_SIGNING_KEY, a minted token
of a user who does not exist is tried there, too.

The exit code is 0 if there is no error and no warning, 1 if there is an error, and 2
if there are only warnings.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := tokenOf(cmd, token)
			if err != nil {
				return err
			}
			return printFindings(cmd, examine(cmd, text), asJSON)
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "a user's token to try; - reads it from standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as a JSON array")
	return cmd
}

func tokenOf(cmd *cobra.Command, flag string) (string, error) {
	if flag != "-" {
		return flag, nil
	}
	var text string
	if _, err := fmt.Fscan(cmd.InOrStdin(), &text); err != nil {
		return "", fmt.Errorf("--token=-: reading the token: %w", err)
	}
	return text, nil
}

// examine examines as much as the configuration allows.
func examine(cmd *cobra.Command, token string) (findings []doctor.Finding) {
	wrong := func(check, remedy string, err error) {
		for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
			if strings.HasPrefix(line, " ") && len(findings) > 0 { // the source line of the mistake before, or the mark below it
				findings[len(findings)-1].Cause += "\n" + line
				continue
			}
			findings = append(findings, doctor.Finding{Check: check, Severity: doctor.Error, Cause: line, Remedy: remedy})
		}
	}
	const correct = "correct the setting in the environment or in " + service.ConfigFile
	cfg, err := service.LoadConfig(service.ConfigFile)
	if err != nil {
		wrong("configuration", correct, err)
		return findings
	}
	parties, err := issuers(cfg)
	if err := errors.Join(cfg.Validate(), err); err != nil {
		wrong("configuration", correct, err)
	}
	live, err := program{cmd}.policies(cfg.Policies)
	if err != nil {
		remedy := "postern policy check " + cfg.Policies
		if errors.Is(err, fs.ErrNotExist) {
			remedy = "DATABASE_URL=… postern policy init " + cfg.Policies + ", or correct POSTERN_POLICIES"
		}
		wrong("policies", remedy, err)
	}
	db, err := service.Connect(cfg.DatabaseURL)
	if err != nil || cfg.DatabaseURL == "" {
		db = nil // Validate says so
	} else {
		defer db.Close()
	}
	setup := cfg.Examination(db, parties, live)
	setup.Token = token
	if len(setup.Roles) == 0 {
		setup.Roles = userRoles
	}
	return append(findings, doctor.Examine(cmd.Context(), setup)...)
}

func printFindings(cmd *cobra.Command, findings []doctor.Finding, asJSON bool) error {
	out := cmd.OutOrStdout()
	failures, warnings := doctor.Count(findings, doctor.Error), doctor.Count(findings, doctor.Warning)
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(append([]doctor.Finding{}, findings...)); err != nil {
			return err
		}
	} else {
		fmt.Fprint(out, doctor.Text(findings))
		fmt.Fprintf(out, "errors: %d, warnings: %d\n", failures, warnings)
	}
	switch {
	case failures > 0:
		return &exit{code: 1}
	case warnings > 0:
		return &exit{code: 2}
	}
	return nil
}
