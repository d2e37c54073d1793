// Package rig gives tests the real parts they run against: a Postgres of their
// own, databases set up like a project, tokens, the whole service on a port.
package rig

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/local"
	"postern/supabase"
)

const template = "postern_template"

var (
	server  *local.Postgres
	bouncer *Pooler // nil without
	scratch string  // a folder that goes when the package's tests have run
	count   atomic.Int64
)

// Main runs a package's tests with a Postgres that all of them share. Use it as
// TestMain: func TestMain(m *testing.M) { rig.Main(m) }.
//
// Property tests draw the same cases in each run, so that a change is not judged
// by another one's luck: -rapid.seed=0 explores.
func Main(m *testing.M) {
	KeepPostgres()
	if flag.Lookup("rapid.seed") != nil {
		if err := flag.Set("rapid.seed", "20261124"); err != nil {
			panic(err)
		}
	}
	os.Exit(run(m))
}

// KeepPostgres must come first in a main that starts a Postgres: the keeper is this
// binary, run again.
func KeepPostgres() {
	if len(os.Args) != 2 || os.Args[1] != local.KeepCommand {
		return
	}
	if local.Keep(os.Stdin, os.Stdout) != nil {
		os.Exit(1) // it has told the one who started it
	}
	os.Exit(0)
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "postern-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	scratch = dir
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres' user passes through it
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := preferServer(); err != nil {
		panic(err)
	}
	server, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Throwaway: true, MaxConnections: 400})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests need a Postgres:", err)
		return 1
	}
	defer server.Stop()
	if err := checkServer(ctx, server); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if path := os.Getenv(poolerEnv); path != "" {
		if path == "1" {
			path = ""
		}
		if bouncer, err = StartPooler(ctx, dir, path, server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer bouncer.Stop()
	}
	if err := prepareTemplate(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "setting up the tests' template database:", err)
		return 1
	}
	return m.Run()
}

func prepareTemplate(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, server.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create database "+template); err != nil {
		return err
	}
	_, err = local.PrepareDatabase(ctx, server, template, supabase.Project)
	return err
}

// Database is a database of one test's own, set up like a new project.
type Database struct {
	OwnerURL string        // a superuser's
	LoginURL string        // Postern's login role's
	Owner    *pgxpool.Pool // sees everything
}

// NewDatabase clones the template; the clone goes with the test.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	ctx := t.Context()
	name := fmt.Sprintf("test_%d", count.Add(1))
	admin, err := pgx.Connect(ctx, server.OwnerURL("postgres"))
	require.NoError(t, err)
	_, err = admin.Exec(ctx, "create database "+name+" template "+template)
	require.NoError(t, err)
	require.NoError(t, admin.Close(ctx))
	owner, err := pgxpool.New(ctx, server.OwnerURL(name))
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	loginURL := server.URL(ledger.Login, local.LoginPassword, name)
	if bouncer != nil {
		loginURL = bouncer.Through(loginURL)
	}
	return &Database{OwnerURL: server.OwnerURL(name), LoginURL: loginURL, Owner: owner}
}

// Exec runs SQL as the owner.
func (d *Database) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := d.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// Text is the one value of a query, as the owner sees it; "<null>" for NULL.
func (d *Database) Text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	rows, err := d.Owner.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[any])
	require.NoError(t, err)
	if value == nil {
		return "<null>"
	}
	return fmt.Sprint(value)
}

// Service is the whole service on a port of its own.
type Service struct {
	URL      string
	Database *Database
	Issuer   *local.Issuer          // beside the service; nil where the test brought its own
	Logs     fmt.Stringer           // everything logged so far
	Metrics  http.Handler           // GET /metrics; nil where it runs as a process of its own
	SetClock func(func() time.Time) // see service.Service; likewise
}

// NewService starts a service with the demo's policies on a database of its own.
// Each change is made to the configuration before it starts.
func NewService(t testing.TB, set *policies.Live, changes ...func(*service.Config)) *Service {
	t.Helper()
	database := NewDatabase(t)
	return NewServiceOn(t, database, set, changes...)
}

// NewServiceOn is NewService on a database that is there.
func NewServiceOn(t testing.TB, database *Database, set *policies.Live, changes ...func(*service.Config)) *Service {
	t.Helper()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	running := serve(t, database, set, []identity.Issuer{development(t, issuer)}, issuer, changes)
	running.Issuer = issuer
	running.AwaitReady(t)
	return running
}

// NewServiceUnready is NewServiceOn for a service that something keeps from
// getting ready.
func NewServiceUnready(t testing.TB, database *Database, set *policies.Live) *Service {
	t.Helper()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	running := serve(t, database, set, []identity.Issuer{development(t, issuer)}, issuer, nil)
	running.Issuer = issuer
	return running
}

func development(t testing.TB, issuer *local.Issuer) identity.Issuer {
	t.Helper()
	return identity.Issuer{
		Issuer:     local.IssuerName,
		KeySetURL:  ServeIssuer(t, issuer) + "/dev/jwks.json",
		Audience:   []string{local.Audience},
		Algorithms: []string{"ES256"},
		Roles:      []string{"authenticated"},
		Anonymous:  true,
	}
}

// NewServiceFor is NewServiceOn for users of the issuers given.
func NewServiceFor(t testing.TB, database *Database, set *policies.Live, issuers []identity.Issuer, changes ...func(*service.Config)) *Service {
	t.Helper()
	running := serve(t, database, set, issuers, nil, changes)
	running.AwaitReady(t)
	return running
}

func serve(t testing.TB, database *Database, set *policies.Live, issuers []identity.Issuer, dev *local.Issuer, changes []func(*service.Config)) *Service {
	t.Helper()
	cfg := service.Default()
	cfg.DatabaseURL = database.LoginURL
	cfg.PowerSyncURL = "https://powersync.example.com/"
	for _, change := range changes {
		change(&cfg)
	}
	logs := &Logs{}
	s, err := service.Open(cfg, issuers, set, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + listener.Addr().String()
	if dev != nil {
		s.Mount("/dev", dev)
		phones, err := local.OpenPhones(t.Context(), database.OwnerURL, url, dev)
		require.NoError(t, err)
		t.Cleanup(phones.Close)
		s.Develop(local.Claims, phones)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		s.Close()
	})
	return &Service{URL: url, Database: database, Logs: logs, Metrics: s.Metrics().Handler, SetClock: s.SetClock}
}

// ServeIssuer serves an issuer's key set for as long as the test runs, and
// returns the address in front of /dev/jwks.json.
func ServeIssuer(t testing.TB, issuer *local.Issuer) string {
	t.Helper()
	keys := httptest.NewServer(issuer)
	t.Cleanup(keys.Close)
	return keys.URL
}

// AwaitReady polls /readyz: the catalogue is read behind the listener's back.
func (s *Service) AwaitReady(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		response, err := http.Get(s.URL + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 2*time.Minute, 10*time.Millisecond, "the service does not get ready: %s", s.Logs)
}

// AwaitTidy returns when the service has examined its setup and tidied up, which it does
// after its first success; from then on it asks the database only for its requests.
func (s *Service) AwaitTidy(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		logs := s.Logs.String()
		return strings.Contains(logs, "deleted old receipts") && strings.Contains(logs, "examined the setup")
	}, 2*time.Minute, 10*time.Millisecond)
}

// Token is a token for a user by name.
func (s *Service) Token(t testing.TB, user string) string {
	t.Helper()
	token, err := s.Issuer.Token(user, time.Now())
	require.NoError(t, err)
	return token
}

// DemoPolicies are the demo's.
func DemoPolicies(t testing.TB) *policies.Live {
	t.Helper()
	set, err := policies.LoadFS(policies.Demo(), "policies/demo")
	require.NoError(t, err)
	return set
}

// Policies loads policies from YAML in one file.
func Policies(t testing.TB, yaml string) *policies.Live {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test.yaml"), []byte(yaml), 0o600))
	set, err := policies.Load(dir)
	require.NoError(t, err)
	return set
}

// WriteLongNameTest writes a policy test beside policies whose lists have a rule with code LONG.
func WriteLongNameTest(t testing.TB, dir string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lists_test.yaml"), []byte(`now: 2026-11-24T12:00:00Z
users: {ann: {sub: 9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001}}
tests:
  - name: a long name
    as: ann
    operations: [{op: PUT, table: lists, id: 11111111-0000-4000-8000-000000000001, op_data: {name: "1234567890"}}]
    expect: {outcome: LONG}
`), 0o600))
}

// Fixture reads a file of tests/fixtures, such as tokens/supabase-es256.jwt.
func Fixture(t testing.TB, name string) []byte {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	content, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "fixtures", name))
	require.NoError(t, err)
	return content
}

// HostPort is the address in a database's URL.
func HostPort(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	return u.Host
}

// UserID is the sub of the development user of that name.
func UserID(name string) string { return local.UserID(name) }
