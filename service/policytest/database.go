package policytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/local"
)

// Database is where tests run. Nothing of what they do is committed.
type Database struct {
	Name    string // for messages
	Pool    *pgxpool.Pool
	Catalog *catalog.Catalog
	stop    func()
}

// Throwaway says what a throwaway Postgres has in it.
type Throwaway struct {
	ProjectSQL string   // the provider's roles and schemas
	Roles      []string // those that users write as
	Schema     []string // the app's SQL files, in order
}

const startTimeout = 6 * time.Minute // a download of Postgres included

// Start starts a throwaway Postgres, which Close deletes. A binary that calls it must
// be able to keep a Postgres, see local.StartPostgres.
func Start(ctx context.Context, t Throwaway) (*Database, error) {
	dir, err := os.MkdirTemp("", "postern-policies-")
	if err != nil {
		return nil, fmt.Errorf("a folder for a throwaway Postgres: %w: use a database of yours with --database", err)
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	postgres, err := local.StartPostgres(starting, local.PostgresOptions{Dir: dir, Throwaway: true})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	stop := func() {
		postgres.Stop()
		_ = os.RemoveAll(dir)
	}
	url := postgres.OwnerURL("postgres")
	err = t.fill(ctx, url)
	if err == nil {
		var db *Database
		if db, err = Connect(ctx, url, t.Roles); err == nil {
			db.Name, db.stop = "a throwaway Postgres", stop
			return db, nil
		}
	}
	stop()
	return nil, err
}

// fill puts the project, the app's schema and schema postern into an empty database.
func (t Throwaway) fill(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.PgConn().Exec(ctx, t.ProjectSQL).Close(); err != nil {
		return fmt.Errorf("setting up the provider's project: %w", err)
	}
	for _, path := range t.Schema {
		if err := runFile(ctx, conn, path); err != nil {
			return err
		}
	}
	_, err = ledger.Migrate(ctx, url, t.Roles, nil)
	return err
}

// Connect uses a database of the app's own. Tests need the owner of its tables, and
// schema postern installed.
func Connect(ctx context.Context, url string, roles []string) (*Database, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database's URL is not a Postgres URL: write postgres://user:password@host:5432/database")
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	delete(config.ConnConfig.RuntimeParams, "statements") // it is for the service
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	db := &Database{Name: "the database", Pool: pool, Catalog: catalog.New(pool, roles), stop: func() {}}
	if _, err := db.Catalog.Current(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return db, nil
}

// Close ends the connections, and deletes a throwaway Postgres.
func (db *Database) Close() {
	db.Pool.Close()
	db.stop()
}

// Snapshot is what the database's tables are.
func (db *Database) Snapshot() *catalog.Snapshot { return db.Catalog.Snapshot() }

// begin opens a database transaction, for rehearsals that end with it.
func (db *Database) begin(ctx context.Context, live *policies.Live) (*session, error) {
	if db.Snapshot().Table("postern", "receipts") == nil {
		return nil, errors.New("the database has no schema postern: run `postern migrate` as the owner of the tables")
	}
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning a transaction that is rolled back: %w", err)
	}
	return &session{tx: tx, db: db, live: live, applier: apply.New(db.Pool, db.Catalog, live, ledger.New(db.Pool), apply.Stop)}, nil
}

// SchemaFiles are the SQL files of the app's schema. given are files, or folders of
// migrations. If none is given, they are looked for in the policies' folder and beside
// it: supabase/migrations, migrations or schema.sql.
func SchemaFiles(given []string, policiesDir string) ([]string, error) {
	if len(given) == 0 {
		found := findSchema(policiesDir)
		if found == "" {
			return nil, fmt.Errorf("the app's schema is not known: there is no supabase/migrations, migrations or schema.sql in %s or beside it. "+
				"Name SQL files or a folder of migrations with --schema, or a database with --database", policiesDir)
		}
		given = []string{found}
	}
	var files []string
	for _, path := range given {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("--schema: %w", err)
		case !info.IsDir():
			files = append(files, path)
			continue
		}
		found, err := migrations(path)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func findSchema(policiesDir string) string {
	for _, dir := range []string{policiesDir, filepath.Dir(filepath.Clean(policiesDir))} {
		for _, name := range []string{"supabase/migrations", "migrations", "schema.sql"} {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}
