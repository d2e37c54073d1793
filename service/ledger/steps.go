package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	lockEvery = time.Second // asks for the lock that another migrate has
	lockTries = 24 * 60 * 60

	clashPause = 500 * time.Millisecond // in which uploads go on
	clashTries = 20
)

// steps runs the migrations one by one: Postern's, then those of River, the webhook's
// queue.
type steps struct {
	own      *goose.Provider
	queue    *rivermigrate.Migrator[pgx.Tx]
	applied  []string
	total    int
	progress func(done, total int)
}

// run runs what is not applied yet. River's migrations do not lock against each other and
// cannot run in one database transaction. So a lock of the session guards them.
func (s *steps) run(ctx context.Context, db *sql.DB, config *pgxpool.Config) (err error) {
	if s.own, err = newProvider(db); err != nil {
		return err
	}
	config.MaxConns = 4 // one has the lock
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	s.queue, err = rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("reading the queue's migrations: %w", err)
	}
	if err := s.count(ctx); err != nil {
		return fmt.Errorf("counting the migrations: %w", err)
	}
	if err := s.all(ctx, s.nextOwn); err != nil {
		return fmt.Errorf("migrating schema postern: %w", err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `select pg_advisory_lock(hashtext('postern queue'))`); err != nil {
		return fmt.Errorf("migrating the queue: %w", err)
	}
	if err := s.all(ctx, s.nextOfQueue); err != nil {
		return fmt.Errorf("migrating the queue: %w", err)
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	store, err := database.NewStore(database.DialectPostgres, "postern.migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(uint64(lockEvery/time.Second), lockTries))
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(store), goose.WithSessionLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return provider, nil
}

// count counts what is not applied. It waits for another migrate.
func (s *steps) count(ctx context.Context) error {
	own, err := s.own.Status(ctx)
	if err != nil {
		return err
	}
	for _, migration := range own {
		if migration.State == goose.StatePending {
			s.total++
		}
	}
	queue, err := s.queue.Migrate(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{DryRun: true})
	if err != nil {
		return err
	}
	s.total += len(queue.Versions)
	return nil
}

// all runs next until it returns no name. A migration may find no moment to lock its
// tables, or deadlock with uploads. Then it is tried again.
func (s *steps) all(ctx context.Context, next func(context.Context) (name string, err error)) error {
	for clashes := 0; ; {
		s.progress(len(s.applied), max(s.total, len(s.applied)))
		name, err := next(ctx)
		switch {
		case isClash(err) && clashes < clashTries:
			clashes++
			if err := pause(ctx, clashPause); err != nil {
				return err
			}
		case err != nil:
			return err
		case name == "":
			return nil
		default:
			s.applied, clashes = append(s.applied, name), 0
		}
	}
}

func (s *steps) nextOwn(ctx context.Context) (name string, err error) {
	result, err := s.own.UpByOne(ctx)
	if errors.Is(err, goose.ErrNoNextVersion) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return result.Source.Path, nil
}

func (s *steps) nextOfQueue(ctx context.Context) (name string, err error) {
	result, err := s.queue.Migrate(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{MaxSteps: 1})
	if err != nil || len(result.Versions) == 0 {
		return "", err
	}
	return fmt.Sprintf("river %d: %s", result.Versions[0].Version, result.Versions[0].Name), nil
}

// isClash reports whether a statement has deadlocked, or its lock_timeout has passed.
func isClash(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "55P03")
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
