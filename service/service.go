// Package service is the running service: HTTP in, results out.
//
// A request passes through four packages. identity verifies the token, upload decodes the
// body, apply plans and writes with the policies and the catalogue, and ledger stores
// what became of it. This package has their order, the HTTP around them and the
// configuration. It knows no provider by name.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
)

const (
	requestTimeout  = 25 * time.Second // reference connectors give up after 30
	shutdownTimeout = 28 * time.Second // Fly kills the process after kill_timeout, 30 s
	maxConns        = 20               // of this instance; pool_max_conns in DATABASE_URL overrides it
	maxAnswer       = 64 << 20         // bytes of one message of Postgres; a broken stream announces any number
	pingAfter       = time.Minute      // a connection that was idle for longer may be closed, if the database went to sleep
)

// Service answers requests until it is closed.
type Service struct {
	cfg      Config
	logger   *slog.Logger
	db       *pgxpool.Pool
	verifier *identity.Verifier
	minter   *identity.Minter // nil if there is no signing key
	catalog  *catalog.Catalog
	policies *policies.Live
	applier  *apply.Applier
	ledger   *ledger.Ledger
	metrics  *metrics
	bodies   *bodies
	unready  atomic.Value // why the service was not ready the last time: a string
	app      *fiber.App

	roles         []string  // the database roles that users write as
	missingGrants []string  // as last logged; only catalogRead uses them
	catalogFailed time.Time // when that was last logged; only catalogRead uses it
	lookups       atomic.Pointer[lookups]
	outdated      atomic.Bool // whether schema postern lacks migrations
	examined      bool        // the checks of the start have run; only catalogRead uses it
	issuers       []identity.Issuer
	schemaVersion *int64 // of the database, as last checked; only catalogRead uses it

	end     context.CancelFunc
	running sync.WaitGroup // the background goroutines
}

// Open returns a service with a valid configuration. The database and the issuers need
// not be reachable yet. Until they are, /readyz says what is missing, and uploads are
// answered with retryable errors. The caller must call Close.
func Open(cfg Config, issuers []identity.Issuer, live *policies.Live, logger *slog.Logger) (*Service, error) {
	minter, err := cfg.minter()
	if err != nil {
		return nil, err
	}
	db, err := Connect(cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	verifier, err := identity.NewVerifier(ctx, issuers, logger, nil)
	if err != nil {
		end()
		db.Close()
		return nil, err
	}
	roles := rolesOf(issuers)
	tables, receipts := catalog.New(db, roles), ledger.New(db)
	receipts.Retention, receipts.Announce = cfg.rejectedRetention(), cfg.WebhookURL != ""
	s := &Service{
		cfg: cfg, logger: logger, db: db, verifier: verifier, minter: minter, catalog: tables, policies: live, ledger: receipts,
		applier: apply.New(db, tables, live, receipts, apply.OnReject(cfg.OnReject)),
		roles:   roles,
		issuers: issuers,
		bodies:  newBodies(cfg.BodyLimit),
		end:     end,
	}
	s.metrics = newMetrics(s.applier, live)
	s.metrics.registry.MustRegister(state{s})
	s.app = s.routes()
	s.running.Go(func() { tables.Run(ctx, s.catalogRead) })
	s.running.Go(func() { s.watchPolicies(ctx, fsnotify.NewWatcher) })
	s.running.Go(func() { receipts.Run(ctx, logger) })
	if receipts.Announce {
		s.running.Go(func() { s.announce(ctx) })
	}
	logger.Info("policies loaded", "sha256", live.SHA256())
	s.logTokens(issuers)
	return s, nil
}

// Connect returns a pool. On direct connections its Applier uses named statements.
// Otherwise it works through PgBouncer and Supavisor in transaction mode: without
// prepared statements and session state. statements=named or unnamed in the URL
// overrides what each connection finds out. An idle pool sends nothing, because that
// would keep a serverless database awake.
func Connect(databaseURL string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres URL: write postgres://user:password@host:5432/database")
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnConfig.StatementCacheCapacity = 0
	config.ConnConfig.DescriptionCacheCapacity = 0
	config.ConnConfig.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		frontend := pgproto3.NewFrontend(r, w)
		frontend.SetMaxBodyLen(maxAnswer)
		return frontend
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "postern"
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.MinConns, config.MinIdleConns = 0, 0
	statements := apply.Statements(config.ConnConfig.RuntimeParams["statements"])
	if statements != apply.Auto && statements != apply.Named && statements != apply.Unnamed {
		return nil, fmt.Errorf("DATABASE_URL: statements=%s is unknown: write statements=named, statements=unnamed, or leave it out", statements)
	}
	delete(config.ConnConfig.RuntimeParams, "statements")
	config.AfterConnect = statements.NewConnection
	config.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > pingAfter || apply.MustPing(ctx)
	}
	return pgxpool.NewWithConfig(context.Background(), config)
}

// catalogRead checks the policies against a new snapshot of the catalogue.
func (s *Service) catalogRead(snapshot *catalog.Snapshot, err error) {
	if err != nil {
		if time.Since(s.catalogFailed) >= time.Minute {
			s.catalogFailed = time.Now()
			s.logger.Error("cannot read the catalogue; the next attempt follows within a second, and the next such line in a minute", "error", err)
		}
		return
	}
	s.catalogFailed = time.Time{}
	s.checkSchema(snapshot)
	s.examine(snapshot)
	if changed, _ := s.policies.Retry(snapshot, s.checkLookups); changed {
		s.logReload()
	}
	set, err := s.policies.For(snapshot)
	if problem := s.policies.Problem(); problem != nil {
		s.logger.Error("the policies have a problem: correct them", "error", problem)
	}
	if err != nil {
		return
	}
	s.recheckLookups(set)
	var missing []string
	for _, role := range s.roles {
		missing = append(missing, set.MissingGrants(snapshot, role)...)
	}
	if !slices.Equal(missing, s.missingGrants) {
		s.missingGrants = missing
		s.logger.Warn("the policies allow writes for which the role lacks grants; devices keep such writes and try again until you run this SQL", "sql", missing)
	}
}

// checkSchema compares schema postern with the migrations of this program, and logs the
// difference when it has changed. Migrations keep what the previous version needs, so a
// newer schema is no obstacle.
func (s *Service) checkSchema(snapshot *catalog.Snapshot) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	installed, newest, err := ledger.Versions(ctx, s.db)
	if err != nil {
		s.logger.Warn("cannot read the version of schema postern; the next attempt follows when the catalogue is read", "error", err)
		return
	}
	if snapshot.Table("postern", "river_job") == nil {
		installed = 0
	}
	if s.schemaVersion == nil || *s.schemaVersion != installed {
		s.schemaVersion = &installed
		s.logSchema(installed, newest)
	}
	s.outdated.Store(installed < newest)
}

func (s *Service) logSchema(installed, newest int64) {
	switch {
	case installed < newest:
		s.logger.Error("schema postern is missing or of an older version, and uploads wait on the devices: run `postern migrate` of this version, as the owner of the tables", "installed", installed, "needed", newest)
	case installed > newest:
		s.logger.Warn("schema postern is of a newer version, which a newer Postern has installed; the version before it works on it, too: upgrade this service soon", "installed", installed, "known", newest)
	}
}

// rolesOf returns the roles of the issuers' users, each once.
func rolesOf(issuers []identity.Issuer) (roles []string) {
	for _, i := range issuers {
		roles = append(roles, i.Roles...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Mount adds a handler for all paths below path, such as /dev.
func (s *Service) Mount(path string, handler http.Handler) {
	s.app.Use(path, adaptor.HTTPHandler(handler))
}

// Serve answers requests on the listener until ctx ends. It returns when the running
// requests are answered, or after shutdownTimeout.
func (s *Service) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.app.Listener(newListener(listener)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	if err := s.app.ShutdownWithTimeout(shutdownTimeout); err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return <-failed
}

// Close ends the background goroutines and closes the database connections.
func (s *Service) Close() {
	s.end()
	s.running.Wait()
	s.db.Close()
}

// ready returns an error if the service cannot apply uploads.
func (s *Service) ready() error {
	if err := s.verifier.Ready(); err != nil {
		return err
	}
	snapshot := s.catalog.Snapshot()
	if snapshot == nil {
		return errors.New("the database's catalogue has not been read yet")
	}
	if snapshot.Table("postern", "receipts") == nil {
		return errors.New("the database has no schema postern: run `postern migrate` as the owner of the tables")
	}
	if s.outdated.Load() {
		return errors.New("the database's schema postern is of an older version: run `postern migrate` as the owner of the tables")
	}
	set, err := s.policies.For(snapshot)
	if err != nil {
		return policyTrouble{err}
	}
	if last := s.lookups.Load(); last != nil && last.set == set && last.problems != nil {
		return policyTrouble{last.problems}
	}
	return nil
}

// policyTrouble is what keeps policies from being used.
type policyTrouble struct{ error }
