// Package cli is the command postern: a file for each subcommand. It alone knows both
// providers.
//
// An app with rules in Go has a main.go of its own:
//
//	func main() { os.Exit(cli.Main(rules.Overbooking, rules.Invoices)) }
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service"
	"postern/service/local"
)

// Main runs the command with rules in Go beside those of the policy files, and returns
// its exit code. Rules in Go take part in serve, dev, the policy commands and replays.
func Main(rules ...policies.CodeRule) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	limitMemory()
	root := &cobra.Command{
		Use:           "postern",
		Short:         "The write endpoint for PowerSync apps on Supabase and Neon",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(serveCommand(), devCommand(), migrateCommand(), doctorCommand(), configCommand(), policyCommand(), rejectedCommand(), tokenCommand(), versionCommand(), keepPostgresCommand())
	err := root.ExecuteContext(context.WithValue(ctx, rulesKey{}, rules))
	if err == nil {
		return 0
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "postern:", err)
	}
	var coded *exit
	if errors.As(err, &coded) {
		return coded.code
	}
	return 1
}

type rulesKey struct{}

// program is a running command, which knows the rules in Go.
type program struct{ cmd *cobra.Command }

// policies are those of a folder, or else of the service's configuration.
func (p program) policies(dir string) (*policies.Live, error) {
	if dir == "" {
		cfg, err := service.LoadConfig(service.ConfigFile)
		if err != nil {
			return nil, err
		}
		dir = cfg.Policies
	}
	live, err := policies.Load(dir)
	if err != nil {
		return nil, err
	}
	return live.WithCode(p.code()...), nil
}

// code are the rules in Go that Main was called with.
func (p program) code() []policies.CodeRule {
	rules, _ := p.cmd.Context().Value(rulesKey{}).([]policies.CodeRule)
	return rules
}

// keepPostgresCommand is what dev and the policy commands run to look after a Postgres.
func keepPostgresCommand() *cobra.Command {
	return &cobra.Command{
		Use:    local.KeepCommand,
		Short:  "Look after a Postgres that another postern has started",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if local.Keep(os.Stdin, os.Stdout) != nil {
				return &exit{code: 1} // the other one says why
			}
			return nil
		},
	}
}

// newLogger writes for people on a terminal and JSON elsewhere.
func newLogger(level slog.Level) *slog.Logger {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
