package doctor

import (
	"context"
	"strings"

	"postern/policies"
	"postern/service/ledger"
)

const migrate = "DATABASE_URL=<the owner's URL> postern migrate"

func checkVersion(ctx context.Context, e *examination) error {
	installed, newest, err := ledger.Versions(ctx, e.DB)
	switch {
	case err != nil:
		return err
	case e.snapshot.Table(ledger.Schema, "receipts") == nil:
		e.fail(migrate, "the database has no schema postern")
	case judgeVersion(e, installed, newest):
	case e.snapshot.Table(ledger.Schema, "river_job") == nil:
		e.fail(migrate, "schema postern lacks the webhook's queue")
	}
	return nil
}

// judgeVersion reports whether the version of schema postern is not this program's.
func judgeVersion(e *examination, installed, newest int64) bool {
	switch {
	case installed == 0:
		e.fail(migrate, "the login role cannot read the version of schema postern, or it has none")
	case installed < newest:
		e.fail(migrate, "schema postern has version %d, and this program needs %d", installed, newest)
	case installed > newest:
		e.warn("deploy the version of Postern that ran `postern migrate`", "schema postern has version %d, and this program knows %d", installed, newest)
	}
	return installed != newest
}

func checkSchema(ctx context.Context, e *examination) error {
	if e.snapshot.Table(ledger.Schema, "receipts") == nil {
		return nil
	}
	missing, err := ledger.Missing(ctx, e.DB, e.Roles)
	if len(missing) > 0 {
		e.fail(migrate, "schema postern is not as it was installed:\n%s", strings.Join(missing, "\n"))
	}
	return err
}

// replicating is the condition on pg_roles r for a role that replicates a table of $1.
const replicating = `rolreplication and rolcanlogin and not rolsuper and rolname <> current_user
  and exists (select from unnest($1::oid[]) as written(oid) where has_table_privilege(r.oid, written.oid, 'select'))`

// checkReplication checks what the PowerSync Service needs of the database. See
// https://docs.powersync.com/configuration/source-db/setup.
func checkReplication(ctx context.Context, e *examination) error {
	set := e.set()
	if e.PowerSyncURL == "" || set == nil {
		return nil
	}
	var level string
	var published, everything bool
	var replicas, bound []string
	err := e.DB.QueryRow(ctx, `
select current_setting('wal_level'),
       exists (select from pg_catalog.pg_publication where pubname = 'powersync'),
       exists (select from pg_catalog.pg_publication where pubname = 'powersync' and puballtables),
       array(select quote_ident(rolname) from pg_catalog.pg_roles r where `+replicating+` order by 1),
       array(select quote_ident(rolname) from pg_catalog.pg_roles r where `+replicating+` and not rolbypassrls order by 1)`, oids(e, set)).
		Scan(&level, &published, &everything, &replicas, &bound)
	if err != nil {
		return err
	}
	if level != "logical" {
		e.fail("alter system set wal_level = logical; and restart Postgres. On Neon: turn on Logical Replication in the project's settings", "wal_level is %s, so the PowerSync Service cannot replicate", level)
	}
	if len(replicas) == 0 {
		e.warn("create role powersync_role with replication bypassrls login password '…'; grant select on all tables in schema public to powersync_role;", "no role may both replicate and read the tables that clients write, apart from superusers")
	}
	for _, role := range bound {
		e.warn("alter role "+role+" bypassrls;", "row-level security hides rows from the replication role %s", role)
	}
	if !published {
		e.fail("create publication powersync for all tables;", "the database has no publication powersync, which the PowerSync Service reads")
		return nil
	}
	if everything {
		return nil
	}
	return checkPublished(ctx, e, set)
}

// checkPublished names the tables that clients write and do not get back.
func checkPublished(ctx context.Context, e *examination, set *policies.Set) error {
	var missing []string
	for _, table := range set.Opened(e.snapshot) {
		var published bool
		err := e.DB.QueryRow(ctx, `select exists (select from pg_catalog.pg_publication_tables where pubname = 'powersync' and schemaname = $1 and tablename = $2)`, table.Schema, table.Name).Scan(&published)
		if err != nil {
			return err
		}
		if !published {
			missing = append(missing, table.SQL())
		}
	}
	if len(missing) > 0 {
		e.warn("alter publication powersync add table "+strings.Join(missing, ", ")+";", "clients may write to tables that publication powersync does not have, so they do not get them back: %s", short(missing))
	}
	return nil
}
