package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"postern/service"
	"postern/service/limits"
	"postern/service/tracing"
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
	s, err := service.Open(cfg, parties, set, logger)
	if err != nil {
		return err
	}
	defer s.Close()
	s.Release(release())
	tracer, err := tracing.Open(cmd.Context(), release(), logger)
	if err != nil {
		return err
	}
	defer flush(tracer, logger)
	if err := s.Trace(tracer); err != nil {
		return err
	}
	if cfg.DecisionFile() != "" {
		defer onHangup(func() {
			if err := s.ReopenDecisionLog(); err != nil {
				logger.Error("cannot open the decision log anew, so its lines go on into the old file", "error", err)
			}
		})()
	}
	metrics, err := listenOn(cfg.MetricsListen, "POSTERN_METRICS_LISTEN")
	if err != nil {
		return err
	}
	server := s.Metrics()
	go func() { _ = server.Serve(metrics) }()
	defer server.Close()
	logger.Info("serving", "address", listener.Addr().String(), "metrics", metrics.Addr().String(), "limits", "from "+limits.This().String(), "version", release())
	return s.Serve(cmd.Context(), listener)
}

// flushTimeout is how long a shutdown waits for the collector of traces, after the 28
// seconds that running requests have. Fly kills the process after 30.
const flushTimeout = 1500 * time.Millisecond

// flush sends the spans that wait.
func flush(tracer *tracing.Tracer, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := tracer.Close(ctx); err != nil {
		logger.Warn("the last traces are not sent", "error", err)
	}
}

// onHangup calls a function for each SIGHUP, which logrotate sends, until it is stopped.
func onHangup(do func()) (stop func()) {
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range hangups {
			do()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-ended
	}
}

// validate lists all problems of a configuration.
func validate(cfg service.Config) error {
	_, err := issuers(cfg)
	if err := errors.Join(cfg.Validate(), err); err != nil {
		return fmt.Errorf("the configuration has problems:\n%w", err)
	}
	return nil
}

// limitMemory sets the memory limit of the process to 90 % of the cgroup's memory or the
// machine's, unless GOMEMLIMIT sets it. The garbage collector and the limits that follow
// from it need to know it.
func limitMemory() {
	_, _ = memlimit.SetGoMemLimitWithOpts(memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
}

func listenOn(address, setting string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w: stop the process that uses it, or choose another address with %s", address, err, setting)
	}
	return listener, nil
}
