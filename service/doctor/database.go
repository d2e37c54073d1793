package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/apply"
	"postern/service/catalog"
	"postern/service/ledger"
)

const mostClockSkew = 5 * time.Second // between the database and this machine

// connect reads the catalogue, which the checks of the database need.
func connect(ctx context.Context, e *examination) error {
	if e.DB == nil {
		return nil // the configuration's problem
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var err error
	if e.snapshot, err = catalog.Read(ctx, e.DB, e.Roles); err == nil {
		return nil
	}
	var pg *pgconn.PgError
	var old *catalog.OldServer
	var missing *net.DNSError
	var otherHost x509.HostnameError
	switch {
	case errors.As(err, &old):
		e.fail("upgrade the database to Postgres 14 or newer", "the server is Postgres %s", old.Version)
	case errors.As(err, &pg) && pg.Code == "28P01":
		e.fail(fmt.Sprintf("as the owner of the tables: alter role %s password '…'; and the same password in DATABASE_URL", ledger.Login), "the database refuses the password of DATABASE_URL")
	case errors.As(err, &pg) && pg.Code == "28000":
		e.fail("DATABASE_URL=<the owner's URL> postern migrate", "the database does not let the role of DATABASE_URL log in: %s", pg.Message)
	case errors.As(err, &pg) && pg.Code == "3D000":
		e.fail("correct the name after the last / in DATABASE_URL", "%s", pg.Message)
	case errors.As(err, &pg) && pg.Code == "53300":
		e.fail("lower pool_max_conns in DATABASE_URL, or connect through the provider's pooler", "the database has no free connection: %s", pg.Message)
	case errors.As(err, &missing):
		e.fail("copy the host from the provider's page again. Supabase's direct host has only an IPv6 address: without IPv6 use its session pooler", "there is no host %s", missing.Name)
	case errors.As(err, &x509.UnknownAuthorityError{}):
		e.fail("add sslrootcert=… to DATABASE_URL: Supabase's certificate is under Database Settings, and Neon's needs sslrootcert=system", "the database's certificate is signed by an authority that this machine does not know")
	case errors.As(err, &otherHost):
		e.fail("use the host name of the provider's page in DATABASE_URL, and not an IP address or a name of your own", "the database's certificate is another host's: %s", strings.TrimPrefix(otherHost.Error(), "x509: "))
	case strings.Contains(err.Error(), "server refused TLS connection"):
		e.fail("turn TLS on at the server; if nobody can listen on the network between here and there, sslmode=disable in DATABASE_URL", "the database has no TLS, which sslmode=%s in DATABASE_URL wants", e.TLS)
	default:
		e.fail("check that the database runs, and the host, port and sslmode of DATABASE_URL", "the database cannot be reached: %v", withoutAddress(err))
	}
	return nil
}

// withoutAddress returns the reason why a connection failed.
func withoutAddress(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) {
		return dial.Err
	}
	return err
}

// checkConnection looks at TLS, and at what is between here and Postgres.
func checkConnection(ctx context.Context, e *examination) error {
	conn, err := e.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, encrypted := conn.Conn().PgConn().Conn().(*tls.Conn)
	local := isLocal(conn.Conn().Config().Host)
	switch {
	case !encrypted && !local:
		e.fail("add sslmode=verify-full&sslrootcert=<the provider's certificate> to DATABASE_URL", "the connection to the database is not encrypted")
	case !local && e.TLS != "verify-full":
		e.warn("set sslmode=verify-full in DATABASE_URL; Supabase's certificate is under Database Settings, and Neon's needs sslrootcert=system", "sslmode=%s %s", e.TLS, unchecked[e.TLS])
	}
	if apply.StatementsOf(conn.Conn()) == apply.Unnamed {
		e.note("if it is near and has connections to spare, use the direct URL; if PgBouncer keeps prepared statements (1.21, max_prepared_statements), add statements=named to DATABASE_URL",
			"the connection goes through a transaction pooler, so Postgres parses each statement each time")
	} else {
		e.note("keep it; if the database runs out of connections, lower pool_max_conns in DATABASE_URL, or use the provider's transaction pooler",
			"the connection is direct, or its pooler keeps prepared statements, so Postgres parses each statement once; the pool holds at most %d connections", e.DB.Config().MaxConns)
	}
	return nil
}

// unchecked says what an sslmode leaves open, on a connection that is encrypted.
var unchecked = map[string]string{
	"prefer":    "also takes a server without TLS, and does not check that the server is the right one",
	"require":   "does not check that the server is the right one",
	"verify-ca": "does not check the server's name, and its authority may have signed other servers' certificates",
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || host != "" && host[0] == '/' || ip != nil && ip.IsLoopback()
}

func checkServer(ctx context.Context, e *examination) error {
	var (
		most     int
		replica  bool
		undo     string
		encoding string
		clock    time.Time
	)
	asked := e.Now()
	err := e.DB.QueryRow(ctx, `
select pg_is_in_recovery(), (`+undoReadOnly+`), current_setting('server_encoding'), current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, clock_timestamp()`).
		Scan(&replica, &undo, &encoding, &most, &clock)
	if err != nil {
		return err
	}
	took := e.Now().Sub(asked)
	judgeEncoding(e, encoding)
	switch {
	case replica:
		e.fail("use the primary's host in DATABASE_URL", "the server is a replica, which takes no writes")
	case undo != "":
		e.fail(undo+" If the provider has set it because the disk is full, give the database more space first", "the database is read-only: default_transaction_read_only is on")
	}
	if skew := clock.Sub(asked.Add(took / 2)).Abs(); skew > mostClockSkew+took {
		e.warn("timedatectl set-ntp true", "this machine's clock and the database's differ by %s; receipts and retries depend on both", skew.Round(time.Second))
	}
	if pool := int(e.DB.Config().MaxConns); pool > most {
		e.fail(fmt.Sprintf("set pool_max_conns=%d in DATABASE_URL", max(1, most/2)), "the pool may open %d connections, and the database allows %d", pool, most)
	}
	return nil
}

// undoReadOnly is how transactions write again, by where they were made read-only; empty
// if they were not.
const undoReadOnly = `
select case when setting = 'off' then ''
            when source = 'client' then format('remove %s from DATABASE_URL.', name)
            else 'as the owner: ' || case source
              when 'database' then format('alter database %I reset %s;', current_database(), name)
              when 'user' then format('alter role %I reset %s;', session_user, name)
              when 'database user' then format('alter role %I in database %I reset %s;', session_user, current_database(), name)
              when 'global' then format('alter role all reset %s;', name)
              else format('alter system reset %s; select pg_reload_conf();', name) end end
  from pg_catalog.pg_settings where name = 'default_transaction_read_only'`

func judgeEncoding(e *examination, encoding string) {
	const remedy = "create database app encoding 'UTF8' template template0; and move the tables there"
	switch encoding {
	case "UTF8":
	case "SQL_ASCII":
		e.fail(remedy, "the database's encoding is SQL_ASCII, so Postgres does not check that text is UTF-8, and counts its bytes as characters")
	default:
		e.fail(remedy, "the database's encoding is %s, so text in other alphabets is rejected", encoding)
	}
}

// checkLoginRole looks for rights that the login role must not have.
func checkLoginRole(ctx context.Context, e *examination) error {
	var (
		role                                                      string
		super, bypasses, inherits, creates, createsDB, replicates bool
		others, owned, granted                                    []string
	)
	err := e.DB.QueryRow(ctx, `
select quote_ident(r.rolname), r.rolsuper, r.rolbypassrls, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
       array(select quote_ident(g.rolname) from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid
              where m.member = r.oid and g.rolname <> all($1) and g.rolname <> $2 order by 1),
       array(select c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.relowner = r.oid and c.relkind in ('r', 'p') and n.nspname not in ('postern', 'pg_catalog', 'information_schema') order by 1),
       array(select distinct c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
              where a.grantee = r.oid and c.relowner <> r.oid and c.relkind in ('r', 'p', 'v', 'm') and n.nspname not in ('postern', 'pg_catalog', 'information_schema') order by 1)
  from pg_catalog.pg_roles r where r.rolname = current_user`, e.Roles, ledger.Login).
		Scan(&role, &super, &bypasses, &inherits, &creates, &createsDB, &replicates, &others, &owned, &granted)
	if err != nil {
		return err
	}
	if super {
		e.fail("DATABASE_URL=<this URL> postern migrate, and use the URL that it prints", "the service connects as %s, a superuser, whom nothing stops", role)
		return nil // a superuser has all the other rights, too
	}
	if bypasses {
		e.fail("use the login role's URL, which `postern migrate` prints; or: alter role "+role+" nobypassrls;", "row-level security does not bind the login role %s", role)
	}
	if len(owned) > 0 {
		e.fail("DATABASE_URL=<this URL> postern migrate, and use the URL that it prints", "the login role %s owns tables of the app: %s", role, short(owned))
	}
	if inherits {
		e.warn("alter role "+role+" noinherit;", "the login role %s has the rights of its groups even before it switches to one", role)
	}
	for _, other := range others {
		e.fail(fmt.Sprintf("revoke %s from %s;", other, role), "the login role %s is a member of %s, which no user writes as", role, other)
	}
	for _, table := range granted {
		e.warn(fmt.Sprintf("revoke all on %s from %s;", table, role), "the login role %s has rights of its own on %s", role, table)
	}
	for _, attribute := range []struct {
		name string
		has  bool
	}{{"createrole", creates}, {"createdb", createsDB}, {"replication", replicates}} {
		if attribute.has {
			e.warn(fmt.Sprintf("alter role %s no%s;", role, attribute.name), "the login role %s has the attribute %s, which it does not need", role, attribute.name)
		}
	}
	return nil
}

// checkRoles checks that the login role may become each role that users write as. The
// checks after it are of the roles that exist.
func checkRoles(ctx context.Context, e *examination) error {
	var existing []string
	for _, role := range e.Roles {
		var login string
		var exists, member, bypasses bool
		err := e.DB.QueryRow(ctx, `
select quote_ident(current_user), r.oid is not null,
       coalesce(pg_has_role(r.oid, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end), false),
       coalesce(r.rolbypassrls or r.rolsuper, false)
  from (values ($1::text)) wanted(name) left join pg_catalog.pg_roles r on r.rolname = wanted.name`, role).Scan(&login, &exists, &member, &bypasses)
		if err != nil {
			return err
		}
		if exists {
			existing = append(existing, role)
		}
		name := pgx.Identifier{role}.Sanitize()
		switch {
		case !exists:
			e.fail(fmt.Sprintf("create role %s nologin; then `postern migrate`. On Neon, turn the Data API on, which creates it", name), "the database has no role %s, which users write as", name)
		case !member:
			e.fail(fmt.Sprintf("grant %s to %s;", name, login), "the login role %s may not become %s", login, name)
		case bypasses:
			e.fail(fmt.Sprintf("alter role %s nosuperuser nobypassrls;", name), "row-level security does not bind the role %s, which users write as", name)
		}
	}
	e.Roles = existing
	return nil
}

func short(names []string) string {
	const most = 5
	text := ""
	for i, name := range names[:min(len(names), most)] {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}
