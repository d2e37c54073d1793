package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"postern/service"
)

func serveCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service; configured by the environment and " + service.ConfigFile,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := flags.load()
			if err != nil {
				return err
			}
			return serve(cmd, cfg)
		},
	}
	flags.add(cmd)
	return cmd
}

func serve(cmd *cobra.Command, cfg service.Config) error {
	parties, _ := issuers(cfg)
	if err := validate(cfg); err != nil {
		return err
	}
	level, err := cfg.LogLevel()
	if err != nil {
		return err
	}
	set, err := program{cmd}.policies(cfg.Policies)
	if err != nil {
		return err
	}
	listener, err := listenOn(cfg.Listen, "--listen or POSTERN_LISTEN")
	if err != nil {
		return err
	}
	logger := newLogger(level)
	limitMemory(logger)
	s, err := service.Open(cfg, parties, set, logger)
	if err != nil {
		return err
	}
	defer s.Close()
	metrics, err := listenOn(cfg.MetricsListen, "POSTERN_METRICS_LISTEN")
	if err != nil {
		return err
	}
	server := s.Metrics()
	go func() { _ = server.Serve(metrics) }()
	defer server.Close()
	logger.Info("serving", "address", listener.Addr().String(), "metrics", metrics.Addr().String())
	return s.Serve(cmd.Context(), listener)
}

// validate lists all problems of a configuration.
func validate(cfg service.Config) error {
	_, err := issuers(cfg)
	if err := errors.Join(cfg.Validate(), err); err != nil {
		return fmt.Errorf("the configuration has problems:\n%w", err)
	}
	return nil
}

// limitMemory sets the memory limit of the process to most of the machine's. The garbage
// collector and the budget of request bodies need to know it.
func limitMemory(logger *slog.Logger) {
	_, _ = memlimit.SetGoMemLimitWithOpts(memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)), memlimit.WithLogger(logger))
}

func listenOn(address, setting string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w: stop the process that uses it, or choose another address with %s", address, err, setting)
	}
	return listener, nil
}
