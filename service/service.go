// Package service is the running service: HTTP in, results out.
//
// A request passes through four rooms: identity judges the token, upload reads
// the body, apply plans and writes with the policies and the catalogue, ledger
// remembers. What is here is their order and the HTTP around them; it knows no
// provider by name.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/ledger"
)

const (
	requestTimeout  = 25 * time.Second // reference connectors give up after 30
	shutdownTimeout = 28 * time.Second // Fly kills after kill_timeout, 30
	maxConns        = 20               // of this instance; pool_max_conns in DATABASE_URL says otherwise
	pingAfter       = time.Minute      // a connection idle for longer may have gone with a database that fell asleep
)

// Service answers requests until it is closed.
type Service struct {
	cfg      Config
	logger   *slog.Logger
	db       *pgxpool.Pool
	verifier *identity.Verifier
	catalog  *catalog.Catalog
	policies *policies.Live
	applier  *apply.Applier
	ledger   *ledger.Ledger
	metrics  *metrics
	app      *fiber.App

	roles         []string // that users write as
	missingGrants []string // as last logged; only catalogRead uses it
	lookups       atomic.Pointer[lookups]
	outdated      atomic.Bool // schema postern is

	end     context.CancelFunc
	running sync.WaitGroup // what works in the background
}

// Open makes the service from a valid configuration. Neither the database nor
// the issuers need be reachable yet: until they are, /readyz says what is
// missing and uploads are answered as retryable. Close it in the end.
func Open(cfg Config, issuers []identity.Issuer, live *policies.Live, logger *slog.Logger) (*Service, error) {
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
		cfg: cfg, logger: logger, db: db, verifier: verifier, catalog: tables, policies: live, ledger: receipts,
		applier: apply.New(db, tables, live, receipts, apply.OnReject(cfg.OnReject)),
		roles:   roles,
		end:     end,
	}
	s.metrics = newMetrics(s.applier, live)
	s.app = s.routes()
	s.running.Go(func() { tables.Run(ctx, s.catalogRead) })
	s.running.Go(func() { s.watchPolicies(ctx) })
	s.running.Go(func() { receipts.Run(ctx, logger) })
	if receipts.Announce {
		s.running.Go(func() { s.announce(ctx) })
	}
	logger.Info("policies read", "sha256", live.SHA256())
	return s, nil
}

// Connect makes a pool that works through PgBouncer and Supavisor in transaction
// mode: no prepared statements, no session state. Nothing is sent while no
// request comes, which would keep a serverless database awake.
func Connect(databaseURL string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres URL: write postgres://user:password@host:5432/database")
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnConfig.StatementCacheCapacity = 0
	config.ConnConfig.DescriptionCacheCapacity = 0
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
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > pingAfter }
	return pgxpool.NewWithConfig(context.Background(), config)
}

// catalogRead reports what a new snapshot means for the policies.
func (s *Service) catalogRead(snapshot *catalog.Snapshot, err error) {
	if err != nil {
		s.logger.Error("cannot read the catalogue, will try again", "error", err)
		return
	}
	s.checkSchema(snapshot)
	if changed, _ := s.policies.Retry(snapshot, s.checkLookups); changed {
		s.policiesTaken()
	}
	set, err := s.policies.For(snapshot)
	if problem := s.policies.Problem(); problem != nil {
		s.logger.Error("something is wrong with the policies", "error", problem)
	}
	if err != nil {
		return
	}
	s.prepareLookups(set)
	var missing []string
	for _, role := range s.roles {
		missing = append(missing, set.MissingGrants(snapshot, role)...)
	}
	if !slices.Equal(missing, s.missingGrants) {
		s.missingGrants = missing
		s.logger.Warn("the policies open what the database keeps from the role users write as; writes to it will be rejected until somebody runs", "sql", missing)
	}
}

// checkSchema looks whether schema postern is what this program expects.
func (s *Service) checkSchema(snapshot *catalog.Snapshot) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	outdated, err := ledger.Outdated(ctx, s.db)
	if err != nil {
		s.logger.Warn("cannot read the version of schema postern, will try again", "error", err)
		return
	}
	s.outdated.Store(outdated || snapshot.Table("postern", "river_job") == nil)
}

// rolesOf are the roles that users write as.
func rolesOf(issuers []identity.Issuer) (roles []string) {
	for _, i := range issuers {
		roles = append(roles, i.Roles...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Mount adds a handler for everything below a path, like /dev.
func (s *Service) Mount(path string, handler http.Handler) {
	s.app.Use(path, adaptor.HTTPHandler(handler))
}

// Serve answers on the listener until ctx ends, and then until the requests
// under way are answered.
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

// Close ends what runs in the background and closes the database connections.
func (s *Service) Close() {
	s.end()
	s.running.Wait()
	s.db.Close()
}

// ready says what keeps the service from answering uploads; nil when nothing.
func (s *Service) ready() error {
	if err := s.verifier.Ready(); err != nil {
		return err
	}
	snapshot := s.catalog.Snapshot()
	if snapshot == nil {
		return errors.New("the database's catalogue has not been read")
	}
	if snapshot.Table("postern", "receipts") == nil {
		return errors.New("the database has no schema postern: run `postern migrate` as the owner of the tables")
	}
	if s.outdated.Load() {
		return errors.New("the database's schema postern is of an older version: run `postern migrate` as the owner of the tables")
	}
	set, err := s.policies.For(snapshot)
	if err != nil {
		return err
	}
	if seen := s.lookups.Load(); seen != nil && seen.set == set {
		return seen.problems
	}
	return nil
}
