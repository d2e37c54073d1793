package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/service"
	"postern/service/limits"
)

// serviceFlags are the settings that flags override.
type serviceFlags struct{ listen, policies, record string }

func (f *serviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.listen, "listen", "", "address to listen on (default: POSTERN_LISTEN, else :6060)")
	cmd.Flags().StringVar(&f.policies, "policies", "", "folder of policies (default: POSTERN_POLICIES, else policies)")
	cmd.Flags().StringVar(&f.record, "record", "", "file to record requests in, for postern policy diff (default: POSTERN_RECORD, else none)")
}

// load returns the configuration of the service, and the keys that flags have set.
func (f *serviceFlags) load() (cfg service.Config, set []string, err error) {
	if cfg, err = service.LoadConfig(service.ConfigFile); err != nil {
		return cfg, nil, err
	}
	if f.listen != "" {
		cfg.Listen, set = f.listen, append(set, "POSTERN_LISTEN")
	}
	if f.policies != "" {
		cfg.Policies, set = f.policies, append(set, "POSTERN_POLICIES")
	}
	if f.record != "" {
		cfg.Record, set = f.record, append(set, "POSTERN_RECORD")
	}
	return cfg, set, nil
}

func configCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective settings, and where each comes from",
		Long: `Print the effective settings, and where each comes from: the default, ` + service.ConfigFile + `, the
environment or a flag. Secrets are masked. Then come the limits that are no settings,
each with its reason; some follow from the machine's memory. Mistakes in the settings
are listed at the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printConfig(cmd, flags)
		},
	}
	flags.add(cmd)
	return cmd
}

func printConfig(cmd *cobra.Command, flags serviceFlags) error {
	cfg, set, err := flags.load()
	if err != nil {
		return err
	}
	settings, err := cfg.Settings(service.ConfigFile, set...)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, s := range settings {
		value := s.Value
		if value == "" {
			value = "-"
		} else if s.Unit != "" {
			value += " " + s.Unit
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Key, value, s.Origin, s.Reason)
	}
	fmt.Fprintln(table)
	for _, limit := range cfg.Limits(limits.This()) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", limit.Name, limit.Value, limit.Reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return validate(cfg)
}
