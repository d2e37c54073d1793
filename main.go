// Postern is the write endpoint for PowerSync apps on Supabase and Neon.
//
// This package is the command: one short file a subcommand. It alone knows both
// providers.
package main

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

	"postern/neon"
	"postern/service"
	"postern/service/identity"
	"postern/service/local"
	"postern/supabase"
)

func main() {
	local.RunKeeper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "postern",
		Short:         "The write endpoint for PowerSync apps on Supabase and Neon",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), devCommand(), migrateCommand(), policyCommand(), rejectedCommand(), tokenCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		code := 1
		var coded *exit
		if errors.As(err, &coded) {
			code = coded.code
		}
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "postern:", err)
		}
		stop()
		os.Exit(code)
	}
}

// issuers turns the configuration into the parties whose tokens are accepted.
func issuers(cfg service.Config) ([]identity.Issuer, error) {
	var (
		list     []identity.Issuer
		problems []error
	)
	add := func(i identity.Issuer, err error) {
		i.Anonymous = cfg.AnonymousUsers == "allow"
		if err == nil {
			err = i.Validate()
		}
		if err != nil {
			problems = append(problems, err)
			return
		}
		list = append(list, i)
	}
	if cfg.SupabaseURL != "" {
		i, err := supabase.Issuer(cfg.SupabaseURL)
		if cfg.SupabaseJWTSecret != "" {
			i.Secret = []byte(cfg.SupabaseJWTSecret)
		}
		if err == nil && cfg.SupabasePublishableKey != "" {
			i.Introspect = supabase.Introspect(i.Issuer, cfg.SupabasePublishableKey)
		}
		i.CheckSessions = cfg.SupabaseSessions == "check"
		add(i, err)
	}
	if cfg.NeonAuthURL != "" {
		add(neon.Issuer(cfg.NeonAuthURL))
	}
	if cfg.Issuer != "" {
		add(identity.Issuer{
			Issuer: cfg.Issuer, KeySetURL: cfg.KeySetURL, Audience: cfg.Audience,
			Algorithms: identity.AsymmetricAlgorithms,
			Roles:      []string{"authenticated"}, Role: "authenticated",
		}, nil)
	}
	return list, errors.Join(problems...)
}

// newLogger writes for people on a terminal and JSON elsewhere.
func newLogger(level slog.Level) *slog.Logger {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return slog.New(tint.NewHandler(os.Stderr, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
