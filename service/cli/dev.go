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
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"postern/policies"
	"postern/service"
	"postern/service/identity"
	"postern/service/local"
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
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: Postgres, an issuer of tokens, the service",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd, o)
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", devListen, "address to listen on; with :6060, phones and containers can connect")
	cmd.Flags().StringVar(&o.data, "data", defaultData, "folder for the database and the issuer's key")
	cmd.Flags().StringVar(&o.policies, "policies", "", "folder of policies (default: those of the demo)")
	cmd.Flags().BoolVar(&o.reset, "reset", false, "start over: delete the database and the key first")
	return cmd
}

func dev(cmd *cobra.Command, o devOptions) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	set, err := devPolicies(program{cmd}, o.policies)
	if err != nil {
		return err
	}
	listener, err := listenOn(o.listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	postgres, err := devDatabaseServer(ctx, out, o)
	if err != nil {
		return err
	}
	defer postgres.Stop()
	loginURL, err := local.PrepareDatabase(ctx, postgres, devDatabase, supabase.Project)
	if err != nil {
		return err
	}
	issuer, err := local.OpenIssuer(o.data)
	if err != nil {
		return err
	}
	keys, err := serveKeys(issuer)
	if err != nil {
		return err
	}
	defer keys.Close()

	cfg := service.Default()
	cfg.DatabaseURL, cfg.Listen, cfg.PowerSyncURL = loginURL, o.listen, devPowerSync
	s, err := service.Open(cfg, []identity.Issuer{devIssuer(keys.Addr)}, set, newLogger(slog.LevelInfo))
	if err != nil {
		return err
	}
	defer s.Close()
	s.Mount("/dev", issuer)
	if err := printDev(out, listener.Addr(), postgres.OwnerURL(devDatabase), issuer); err != nil {
		return err
	}
	return s.Serve(ctx, listener)
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
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	return local.StartPostgres(ctx, local.PostgresOptions{Dir: dir, PreferPort: devPostgres, Reset: o.reset})
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

func printDev(out io.Writer, address net.Addr, ownerURL string, issuer *local.Issuer) error {
	token, err := issuer.Token("alice", time.Now())
	if err != nil {
		return err
	}
	url := "http://" + strings.Replace(address.String(), "[::]", "127.0.0.1", 1)
	_, err = fmt.Fprintf(out, `
Postern is running, for development only: anyone who can connect to it can be any user.

  write API     %[1]s/api/data
  credentials   %[1]s/api/credentials
  contract      %[1]s/openapi.yaml
  tokens        %[1]s/dev/token?user=alice
  key set       %[1]s/dev/jwks.json
  Postgres      %[2]s   (the owner's URL, for psql)

Make a list as alice (her token is valid for an hour):

curl -s %[1]s/api/data -H 'Content-Type: application/json' -H 'Authorization: Bearer %[3]s' -d '{"transactions":[{"transaction_id":1,"crud":[{"op_id":1,"op":"PUT","table":"lists","id":"%[4]s","op_data":{"name":"Groceries"}}]}]}'

Then see it: psql '%[2]s' -c 'select * from lists'

`, url, ownerURL, token, uuid.NewString())
	return err
}
