package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib" // goose works on database/sql
	"github.com/pressly/goose/v3"

	"postern/service/catalog"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Schema is the schema of Postern's tables in the application's database.
const Schema = "postern"

// Login is the role the service connects as.
const Login = "postern"

// Migrated is the result of Migrate.
type Migrated struct {
	Applied  []string // the migrations that this call ran, in order
	LoginURL string   // the service's DATABASE_URL with the new login role's password; empty if the role existed
}

// Migrate installs or updates schema postern and the login role. ownerURL connects as
// the owner of the application's tables. roles are the database roles that users
// write as. progress, if it is not nil, receives how many of the migrations that were
// missing are done. Migrate may run again, and on several machines at once. It needs a
// session of its own: a direct connection or a session pooler, not a transaction
// pooler. If it fails or ctx ends, what was applied stays, and another call goes on.
func Migrate(ctx context.Context, ownerURL string, roles []string, progress func(done, total int)) (Migrated, error) {
	config, err := pgxpool.ParseConfig(ownerURL)
	if err != nil {
		return Migrated{}, fmt.Errorf("DATABASE_URL: %w", err)
	}
	config.ConnConfig.BuildContextWatcherHandler = cancelStatement
	config.AfterConnect = connected
	db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionAfterConnect(connected))
	defer db.Close()
	if _, err := db.ExecContext(ctx, `create schema if not exists postern`); err != nil {
		return Migrated{}, fmt.Errorf("creating schema postern: %w", err)
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	s := &steps{progress: progress}
	if err := s.run(ctx, db, config); err != nil {
		return Migrated{Applied: s.applied}, err
	}
	loginURL, err := ensureLogin(ctx, db, ownerURL, roles)
	if err != nil {
		return Migrated{Applied: s.applied}, err
	}
	if err := protectTables(ctx, db); err != nil {
		return Migrated{Applied: s.applied}, err
	}
	return Migrated{s.applied, loginURL}, nil
}

// cancelStatement has Postgres stop a statement when its context ends, and waits for that.
// Otherwise it would build an index on, with its locks, after we have ended.
func cancelStatement(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 10 * time.Second}
}

// noticeOurEnd has Postgres do the same if we are killed. Some systems cannot.
func noticeOurEnd(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `set client_connection_check_interval = '1s'`)
	if ctx.Err() != nil || conn.IsClosed() {
		return err
	}
	return nil
}

func connected(ctx context.Context, conn *pgx.Conn) error {
	if err := catalog.CheckServer(conn); err != nil {
		return err
	}
	return noticeOurEnd(ctx, conn)
}

// Versions returns the version of schema postern in the database, which is 0 if the login
// role cannot read it, and the newest version that this program has.
func Versions(ctx context.Context, db *pgxpool.Pool) (installed, newest int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, 0, err
	}
	if newest, err = goose.NumericComponent(files[len(files)-1]); err != nil {
		return 0, 0, err
	}
	err = db.QueryRow(ctx, `select coalesce(max(version_id), 0) from postern.migrations`).Scan(&installed)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "42P01") {
		err = nil // the version that installed it did not grant this SELECT, or there is no schema
	}
	return installed, newest, err
}

// ensureLogin creates the login role if it is missing. It grants the role what it
// needs and no more: schema postern's tables and membership in each of the roles.
// The login role is NOINHERIT, so it has no rights of theirs until it switches to one
// of them.
func ensureLogin(ctx context.Context, db *sql.DB, ownerURL string, roles []string) (loginURL string, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `select pg_advisory_xact_lock(hashtext('postern login role'))`); err != nil {
		return "", err
	}
	var exists bool
	if err := tx.QueryRowContext(ctx, `select exists (select from pg_catalog.pg_roles where rolname = $1)`, Login).Scan(&exists); err != nil {
		return "", err
	}
	login := pgx.Identifier{Login}.Sanitize()
	var statements []string
	if !exists {
		password := rand.Text()
		if loginURL, err = withUser(ownerURL, Login, password); err != nil {
			return "", err
		}
		statements = append(statements, fmt.Sprintf(`create role %s login noinherit nobypassrls nocreatedb nocreaterole password '%s'`, login, password))
	}
	for _, role := range roles {
		var found bool
		if err := tx.QueryRowContext(ctx, `select exists (select from pg_catalog.pg_roles where rolname = $1)`, role).Scan(&found); err != nil {
			return "", err
		}
		if !found {
			return "", &NoRole{role}
		}
		statements = append(statements, fmt.Sprintf(`grant %s to %s`, pgx.Identifier{role}.Sanitize(), login))
	}
	queue, err := queueTables(ctx, tx)
	if err != nil {
		return "", err
	}
	statements = append(statements, rights(login, roles)...)
	statements = append(statements,
		`grant select, insert, update, delete on `+queue+` to `+login,
		`grant usage, select on all sequences in schema postern to `+login)
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			verb, _, _ := strings.Cut(statement, " password")
			return "", fmt.Errorf("%s: %w", verb, err)
		}
	}
	return loginURL, tx.Commit()
}

// queueTables lists River's tables. The service works on them as the login role.
func queueTables(ctx context.Context, tx *sql.Tx) (list string, err error) {
	err = tx.QueryRowContext(ctx, `
select string_agg(oid::regclass::text, ', ') from pg_catalog.pg_class
 where relnamespace = 'postern'::regnamespace and relkind = 'r' and relname like 'river\_%' and relname <> 'river_migration'`).Scan(&list)
	if err != nil {
		return "", fmt.Errorf("listing the queue's tables: %w", err)
	}
	return list, nil
}

// loginPolicy is the policy of row-level security that lets the login role work on a
// table. What it may do there is up to its grants.
const loginPolicy = `"postern reads and writes all rows"`

// protectTables enables row-level security on each table of schema postern, River's
// among them, so that a grant to an application's role shows it no row. A table gets
// its policy for the login role in the same database transaction, or the running
// service would lose its access in between. Each table has a transaction of its own:
// one that locked several could deadlock with the running service.
func protectTables(ctx context.Context, db *sql.DB) error {
	var tables string
	err := db.QueryRowContext(ctx, `
select coalesce(string_agg(oid::regclass::text, ' '), '') from pg_catalog.pg_class c
 where relnamespace = 'postern'::regnamespace and relkind in ('r', 'p')
   and not (relrowsecurity and exists (select from pg_catalog.pg_policy where polrelid = c.oid and quote_ident(polname) = $1))`, loginPolicy).Scan(&tables)
	if err != nil {
		return fmt.Errorf("listing the tables of schema postern: %w", err)
	}
	for _, table := range strings.Fields(tables) {
		if err := protectTable(ctx, db, table); err != nil {
			return fmt.Errorf("enabling row-level security on %s: %w", table, err)
		}
	}
	return nil
}

func protectTable(ctx context.Context, db *sql.DB, table string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range protection(table) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// protection returns the statements that enable row-level security on a table of schema
// postern. They belong in one database transaction.
func protection(table string) []string {
	return []string{
		`alter table ` + table + ` enable row level security`,
		`drop policy if exists ` + loginPolicy + ` on ` + table,
		`create policy ` + loginPolicy + ` on ` + table + ` to ` + Login + ` using (true) with check (true)`,
	}
}

// loginTables are the login role's rights on the tables of schema postern, without the
// queue's.
var loginTables = []struct{ name, privileges string }{
	{"receipts", "select, insert, update, delete"},
	{"failures", "select, insert, update, delete"},
	{"rejected_writes", "select, insert, update, delete"},
	{"rejected_identities", "select, insert, update"},
	{"rejected_actions", "select, insert"},
	{"migrations", "select"},
}

// rights returns the statements that grant the login role its rights in schema
// postern, and a rejected write's author the right to read it. The policies are here
// and not in a migration, because they name the roles. Authors must not be able to read
// rejected_writes before it has row-level security, so it is protected here.
func rights(login string, roles []string) []string {
	statements := protection("postern.rejected_writes")
	for _, table := range loginTables {
		statements = append(statements, `grant `+table.privileges+` on postern.`+table.name+` to `+login)
	}
	statements = append(statements,
		`grant execute on all functions in schema postern to `+login, // which a hardened database revokes from public
		`drop policy if exists "authors read their own rows" on postern.rejected_writes`)
	if len(roles) == 0 {
		return statements
	}
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = pgx.Identifier{role}.Sanitize()
	}
	authors := strings.Join(names, ", ")
	claim := func(name string) string {
		return `(select nullif(current_setting('request.jwt.claims', true), '')::json ->> '` + name + `')`
	}
	return append(statements,
		`grant execute on all functions in schema postern to `+authors,
		`grant select (`+strings.Join(AuthorColumns, ", ")+`) on postern.rejected_writes to `+authors,
		`create policy "authors read their own rows" on postern.rejected_writes for select to `+authors+
			` using (issuer = `+claim("iss")+` and subject = `+claim("sub")+`)`)
}

// withUser replaces the user of a connection URL. Supabase's pooler routes by the end
// of the user's name, the project's reference: postgres.abcd. So that end is kept.
func withUser(databaseURL, user, password string) (string, error) {
	u, err := url.Parse(databaseURL)
	if err != nil || u.User == nil {
		return "", errors.New("DATABASE_URL must be a URL with a user: postgres://user:password@host/database")
	}
	if _, ref, ok := strings.Cut(u.User.Username(), "."); ok {
		user += "." + ref
	}
	u.User = url.UserPassword(user, password)
	return u.String(), nil
}

// NoRole is the error of Migrate if the database lacks a role that users write as.
type NoRole struct{ Role string }

func (n *NoRole) Error() string {
	return fmt.Sprintf("the database has no role %q, which users write as: create it with create role %s nologin", n.Role, pgx.Identifier{n.Role}.Sanitize())
}
