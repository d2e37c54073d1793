package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service"
	"postern/service/identity"
	"postern/service/local"
	"postern/service/tracing"
	"postern/supabase"
)

const (
	defaultData   = ".postern"
	devPostgres   = 25432                   // below the ports of outgoing connections, so that the URL stays the same
	devPowerSync  = "http://127.0.0.1:8080" // where a self-hosted PowerSync Service listens by default
	devListen     = "127.0.0.1:6060"
	devDatabase   = "postgres"
	postgresStart = 6 * time.Minute // including a download of Postgres
)

type devOptions struct {
	listen, data, policies string
	reset                  bool
	powerSync              powerSyncOptions
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: Postgres, an issuer of tokens, the service",
		Long: `Run everything on this machine: a Postgres with a demo project, an issuer of tokens,
and the service.

A PowerSync Service is not part of it. dev prepares the database for one, and prints
its configuration, or writes it with --powersync-config.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd, o)
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", devListen, "address to listen on; with :6060, phones and containers can connect")
	cmd.Flags().StringVar(&o.data, "data", defaultData, "folder for the database and the issuer's key")
	cmd.Flags().StringVar(&o.policies, "policies", "", "folder of policies (default: those of the demo)")
	cmd.Flags().BoolVar(&o.reset, "reset", false, "start over: delete the database first")
	cmd.Flags().StringVar(&o.powerSync.url, "powersync", devPowerSync, "URL of the PowerSync Service, as devices reach it")
	cmd.Flags().StringVar(&o.powerSync.file, "powersync-config", "", "file to write the PowerSync Service's configuration to (default: print it)")
	cmd.Flags().StringVar(&o.powerSync.host, "powersync-host", "", "this machine's name as the PowerSync Service knows it; in Docker Desktop host.docker.internal")
	return cmd
}

func dev(cmd *cobra.Command, o devOptions) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	set, err := devPolicies(program{cmd}, o.policies)
	if err != nil {
		return err
	}
	if err := o.powerSync.validate(); err != nil {
		return err
	}
	cfg, level, err := o.config()
	if err != nil {
		return err
	}
	logger := newLogger(level)
	tracer, err := tracing.Open(ctx, release(), logger)
	if err != nil {
		return err
	}
	defer flush(tracer, logger)
	listener, err := listenOn(o.listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	p, err := startUnlessInterrupted(ctx, out, o, listener)
	if err != nil {
		return err
	}
	defer p.stop()

	cfg.DatabaseURL = p.loginURL
	s, err := service.Open(cfg, []identity.Issuer{devIssuer(p.keys.Addr)}, set, logger)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Trace(tracer); err != nil {
		return err
	}
	s.Mount("/dev", p.issuer)
	url := devURL(listener.Addr())
	phones, err := local.OpenPhones(ctx, p.postgres.OwnerURL(devDatabase), url, p.issuer)
	if err != nil {
		return err
	}
	defer phones.Close()
	s.Develop(local.Claims, phones)
	operations, err := listenForOperations(cfg.MetricsListen)
	if err != nil {
		return err
	}
	server := s.Metrics()
	go func() { _ = server.Serve(operations) }()
	defer server.Close()
	if err := o.print(out, p, url, operations.Addr()); err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// print tells where everything is, and the configuration of the PowerSync Service.
func (o devOptions) print(out io.Writer, p *project, url string, operations net.Addr) error {
	if err := printDev(out, url, "http://"+operations.String()+"/console", p.postgres.OwnerURL(devDatabase), o.powerSync.url, p.issuer); err != nil {
		return err
	}
	return o.powerSync.configure(out, p.postgres, url)
}

// dotEnv is read in dev mode only. So a file that was copied by mistake changes no
// service in production.
const dotEnv = ".env"

// config returns the settings of .env and those that dev mode has itself: it has an issuer
// and a database of its own, and never those of the file.
func (o devOptions) config() (cfg service.Config, level slog.Level, err error) {
	if cfg, err = service.LoadDotEnv(dotEnv); err != nil {
		return cfg, level, err
	}
	cfg.Listen, cfg.PowerSyncURL = o.listen, o.powerSync.url
	cfg.DatabaseURL = "postgres://127.0.0.1/" + devDatabase // until it runs
	cfg.Issuer, cfg.KeySetURL, cfg.Audience, cfg.Subjects = local.IssuerName, "", []string{local.Audience}, ""
	cfg.SupabaseURL, cfg.SupabaseJWTSecret, cfg.SupabasePublishableKey, cfg.SupabaseSessions, cfg.NeonAuthURL = "", "", "", "", ""
	if err := cfg.Validate(); err != nil {
		return cfg, level, fmt.Errorf("%s has problems:\n%w", dotEnv, err)
	}
	level, err = cfg.LogLevel()
	return cfg, level, err
}

// project is what the service of dev mode stands on.
type project struct {
	postgres *local.Postgres
	loginURL string // the service's DATABASE_URL
	issuer   *local.Issuer
	keys     *http.Server
}

func (p *project) stop() {
	_ = p.keys.Close()
	p.postgres.Stop()
}

// startUnlessInterrupted starts the project. Ctrl-C frees the address at once, because it
// may take some seconds until the start has ended.
func startUnlessInterrupted(ctx context.Context, out io.Writer, o devOptions, listener net.Listener) (*project, error) {
	starting := context.AfterFunc(ctx, func() { _ = listener.Close() })
	p, err := startProject(ctx, out, o)
	if starting() {
		return p, err
	}
	if err == nil {
		p.stop()
	}
	return nil, &exit{code: 0}
}

func startProject(ctx context.Context, out io.Writer, o devOptions) (*project, error) {
	issuer, err := local.OpenIssuer(o.data)
	if err != nil {
		return nil, err
	}
	postgres, err := devDatabaseServer(ctx, out, o)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(out, "Preparing the database: the demo's tables, schema postern, and what PowerSync needs")
	loginURL, err := local.PrepareDatabase(ctx, postgres, devDatabase, supabase.Project)
	if err == nil {
		err = local.PreparePowerSync(ctx, postgres, devDatabase)
	}
	var keys *http.Server
	if err == nil {
		keys, err = serveKeys(issuer)
	}
	if err != nil {
		postgres.Stop()
		return nil, err
	}
	return &project{postgres, loginURL, issuer, keys}, nil
}

func devPolicies(p program, dir string) (*policies.Live, error) {
	if dir == "" {
		return policies.LoadFS(policies.Demo(), "policies/demo")
	}
	return p.policies(dir)
}

func devDatabaseServer(ctx context.Context, out io.Writer, o devOptions) (*local.Postgres, error) {
	dir, err := filepath.Abs(filepath.Join(o.data, "postgres"))
	if err != nil {
		return nil, err
	}
	if reachable := local.ReachableDir(dir); reachable != dir {
		fmt.Fprintf(out, "Postgres does not run as root, and the user it runs as has no access to %s: its data is in %s instead.\n", dir, reachable)
		dir = reachable
	}
	fmt.Fprintln(out, "Starting Postgres in", dir)
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	return local.StartPostgres(ctx, local.PostgresOptions{Dir: dir, PreferPort: devPostgres, Reset: o.reset, Logical: true})
}

// devIssuer describes the development issuer, whose tokens have the shape of
// Supabase's.
func devIssuer(keysAddress string) identity.Issuer {
	return identity.Issuer{
		Issuer:     local.IssuerName,
		KeySetURL:  "http://" + keysAddress + "/dev/jwks.json",
		Audience:   []string{local.Audience},
		Algorithms: []string{"ES256"},
		Roles:      supabase.Roles,
		Anonymous:  true,
	}
}

// serveKeys serves the issuer on a loopback address of its own. Key sets are fetched
// without TLS from loopback addresses only, and the service's may be another one.
func serveKeys(issuer *local.Issuer) (*http.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the development issuer: %w", err)
	}
	server := &http.Server{Addr: listener.Addr().String(), Handler: issuer, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the development issuer stopped", "error", err)
		}
	}()
	return server, nil
}

// listenForOperations listens on an address, or on another port of this machine if it is
// in use: several runs of dev mode may go on at the same time.
func listenForOperations(address string) (net.Listener, error) {
	if listener, err := net.Listen("tcp", address); err == nil {
		return listener, nil
	}
	return listenOn("127.0.0.1:0", "POSTERN_METRICS_LISTEN")
}

// devURL is where this machine reaches what listens on an address.
func devURL(address net.Addr) string {
	host, port, _ := net.SplitHostPort(address.String()) // a listener's address has both
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func printDev(out io.Writer, url, consoleURL, ownerURL, powerSyncURL string, issuer *local.Issuer) error {
	token, err := issuer.Token("alice", time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `
Postern is running, for development only: anyone who can connect to it can be any user.

  console       %[6]s   (now, rejected writes, playground, devices, coverage)
  write API     %[1]s/api/data
  credentials   %[1]s/api/credentials
  contract      %[1]s/openapi.yaml
  tokens        %[1]s/dev/token?user=alice
  key set       %[1]s/dev/jwks.json
  Postgres      %[2]s   (the owner's URL, for psql)
  PowerSync     %[5]s   (for devices; it must run beside this command)

Make a list as alice (her token is valid for an hour):

curl -s %[1]s/api/data -H 'Content-Type: application/json' -H 'Authorization: Bearer %[3]s' -d '{"transactions":[{"transaction_id":1,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":"%[4]s","op_data":{"name":"Groceries"}}]}]}'

Then see it: psql '%[2]s' -c 'select * from lists'

`, url, ownerURL, token, uuid.NewString(), powerSyncURL, consoleURL)
	return err
}
