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
	"github.com/go-json-experiment/json/jsontext"
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
	"postern/service/limits"
	"postern/service/record"
	"postern/service/tracing"
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
	cfg       Config
	logger    *slog.Logger
	db        *pgxpool.Pool
	verifier  *identity.Verifier
	minter    *identity.Minter // nil if there is no signing key
	catalog   *catalog.Catalog
	policies  *policies.Live
	applier   *apply.Applier
	ledger    *ledger.Ledger
	metrics   *metrics
	reloads   reloads
	decisions *decisions      // nil if there is no decision log
	tracer    *tracing.Tracer // nil if requests are not traced
	watching  *pgxpool.Pool   // of one connection, for traces; nil without
	bodies    *bodies
	leaving   leaving
	recorder  *record.Recorder // nil if requests are not recorded
	unready   atomic.Value     // why the service was not ready the last time: a string
	app       *fiber.App

	roles         []string  // the database roles that users write as
	missingGrants []string  // as last logged; only catalogRead uses them
	opensNoTable  bool      // as last logged; only catalogRead uses it
	catalogFailed time.Time // when that was last logged; only catalogRead uses it
	lookups       atomic.Pointer[lookups]
	outdated      atomic.Bool // whether schema postern lacks migrations
	examined      bool        // the checks of the start have run; only catalogRead uses it
	issuers       []identity.Issuer
	users         func(name string) (jsontext.Value, error) // see Develop
	phones        http.Handler                              // likewise
	schemaVersion *int64                                    // of the database, as last checked; only catalogRead uses it

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
	decisions, err := openDecisions(cfg, logger)
	if err != nil {
		end()
		db.Close()
		return nil, err
	}
	roles := rolesOf(issuers)
	tables, receipts := catalog.New(tried{db}, roles), ledger.New(db)
	receipts.Retention, receipts.Announce = cfg.rejectedRetention(), cfg.WebhookURL != ""
	s := &Service{
		cfg: cfg, logger: logger, db: db, verifier: verifier, minter: minter, catalog: tables, policies: live, ledger: receipts,
		applier:   apply.New(db, tables, live, receipts, apply.OnReject(cfg.OnReject)),
		decisions: decisions,
		roles:     roles,
		issuers:   issuers,
		reloads:   reloads{loadedAt: time.Now()},
		bodies:    newBodies(limits.This(), cfg.BodyLimit),
		end:       end,
	}
	if cfg.Record != "" {
		if s.recorder, err = record.Open(cfg.Record, int64(cfg.RecordLimit), logger); err != nil {
			end()
			db.Close()
			return nil, fmt.Errorf("POSTERN_RECORD: %w", err)
		}
		logger.Info("requests are recorded", "file", cfg.Record)
	}
	s.metrics = newMetrics(s.applier, live)
	if s.recorder != nil {
		s.metrics.registry.MustRegister(recorded{s.recorder})
	}
	s.metrics.registry.MustRegister(state{s})
	s.app = s.routes()
	s.running.Go(func() { tables.Run(ctx, s.catalogRead) })
	s.running.Go(func() { s.watchPolicies(ctx, fsnotify.NewWatcher) })
	s.running.Go(func() { receipts.Run(ctx, logger) })
	s.running.Go(func() { s.metrics.history.run(ctx) })
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

// tried is a pool that tries each connection before the catalogue is read on it. That is
// seldom, and a read that finds a dead connection fails.
type tried struct{ pool *pgxpool.Pool }

// BeginTx begins a database transaction.
func (t tried) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return t.pool.BeginTx(apply.WithPing(ctx), options)
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
	defer s.examine(snapshot) // with the policies that are in use then
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
	if was := s.opensNoTable; set.OpensNoTable() != was {
		if s.opensNoTable = !was; s.opensNoTable {
			s.logger.Warn("the policies open no table, so every write is rejected: name one under tables", "policies", s.policies.Dir())
		}
	}
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
	ctx, cancel := context.WithTimeout(apply.WithPing(context.Background()), 10*time.Second)
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

// Develop says that the users are those of a development issuer. claims returns a user's
// claims by name, and the console may write as such a user. phones are devices to look at,
// which answer /phone/ beside the console. It must be called before Metrics.
func (s *Service) Develop(claims func(name string) (jsontext.Value, error), phones http.Handler) {
	s.users, s.phones = claims, phones
}

// Mount adds a handler for all paths below path, such as /dev.
func (s *Service) Mount(path string, handler http.Handler) {
	s.app.Use(path, adaptor.HTTPHandler(handler))
}

// Trace has requests traced. It must be called before Serve. While a traced upload is slow,
// one more connection to the database finds out which statement is.
func (s *Service) Trace(tracer *tracing.Tracer) (err error) {
	if tracer == nil {
		return nil
	}
	config := s.db.Config()
	config.MaxConns, config.MaxConnIdleTime = 1, time.Minute
	if s.watching, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return err
	}
	s.tracer = tracer
	s.applier.FindSlowStatements(s.watching)
	return nil
}

// SetClock replaces the clock of what takes minutes to show: the history of the last hour,
// which begins anew, and the stuck queues. Tests move it.
func (s *Service) SetClock(clock func() time.Time) {
	s.applier.SetClock(clock)
	s.metrics.history.begin(clock)
}

// Serve answers requests on the listener until ctx ends, and a moment longer: see leaving.
// It returns when the running requests are answered, or after shutdownTimeout.
func (s *Service) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.app.Listener(newListener(listener)) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.leaving.wait()
	if err := s.app.ShutdownWithTimeout(shutdownTimeout - leaveTime); err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	_ = listener.Close() // it is open if the shutdown was before the beginning
	return <-failed
}

// Close ends the background goroutines and closes the database connections.
func (s *Service) Close() {
	s.end()
	s.running.Wait()
	if s.recorder != nil {
		s.recorder.Close()
	}
	if s.watching != nil {
		s.watching.Close()
	}
	s.db.Close()
	s.decisions.close()
}

// ReopenDecisionLog begins the decision log's file anew, after a program such as logrotate
// has renamed it.
func (s *Service) ReopenDecisionLog() error { return s.decisions.reopen() }

// ready returns an error if the service cannot apply uploads.
func (s *Service) ready() error {
	if s.leaving.begun.Load() {
		return errLeaving
	}
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
	if err == nil {
		err = s.policies.Misfit()
	}
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
