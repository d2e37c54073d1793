package command_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

var brokenSetups = map[string]func(*testing.T, *patient){
	"nothing": func(*testing.T, *patient) {},

	// The configuration.
	"no-settings": func(_ *testing.T, p *patient) { p.env, p.args = nil, nil },
	"several-issuers": func(_ *testing.T, p *patient) {
		p.env["NEON_AUTH_URL"] = "http://127.0.0.1:1/neondb/auth"
		p.args = nil
	},
	"signing-key-no-key": func(_ *testing.T, p *patient) { p.env["POSTERN_SIGNING_KEY"] = "hunter2" },
	"secret-api-key":     func(_ *testing.T, p *patient) { p.env["SUPABASE_PUBLISHABLE_KEY"] = "sb_secret_x" },
	"body-limit-for-memory": func(_ *testing.T, p *patient) {
		p.env["GOMEMLIMIT"], p.env["POSTERN_BODY_LIMIT"] = "100MiB", "8388608"
	},

	"transaction-for-memory": func(_ *testing.T, p *patient) {
		p.env["GOMEMLIMIT"], p.env["POSTERN_BODY_LIMIT"] = "50MiB", "8388608"
	},
	"memory-limit-beyond-the-machine": func(_ *testing.T, p *patient) { p.env["GOMEMLIMIT"] = "1000TiB" },

	"no-memory-limit": func(_ *testing.T, p *patient) { p.env["GOMEMLIMIT"] = "off" },

	// The connection.
	"transaction-pooler": func(_ *testing.T, p *patient) { p.env["DATABASE_URL"] += "&statements=unnamed" },
	"no-connection-free": func(t *testing.T, p *patient) {
		p.direct(t)
		p.database.Exec(t, "alter database "+p.name()+" connection limit 0")
	},
	"login-not-allowed": func(t *testing.T, p *patient) { p.as(t, "the_login", "noinherit", "alter role ROLE nologin") },
	"clock-of-the-database": func(t *testing.T, p *patient) {
		p.database.Exec(t, "create function public.clock_timestamp() returns timestamptz language sql as $$ select pg_catalog.now() - interval '1 hour' $$")
		p.database.Exec(t, "alter role postern in database "+p.name()+" set search_path = public, pg_catalog")
	},
	"database-unreachable": func(_ *testing.T, p *patient) { p.env["DATABASE_URL"] = "postgres://postern:x@127.0.0.1:1/app" },
	"wrong-password": func(t *testing.T, p *patient) {
		p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, ":postern@", ":wrong@", 1)
		p.direct(t)
	},
	"no-such-database": func(t *testing.T, p *patient) {
		p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, p.name(), "nowhere", 1)
		p.direct(t)
	},
	"no-such-host": func(_ *testing.T, p *patient) {
		p.env["DATABASE_URL"] = "postgres://postern:x@database.invalid/app?sslmode=verify-full"
	},
	"pool-too-large": func(t *testing.T, p *patient) {
		p.env["DATABASE_URL"] += "&pool_max_conns=5000"
		p.direct(t)
	},
	"read-only": func(t *testing.T, p *patient) {
		p.database.Exec(t, "alter role postern in database "+p.name()+" set default_transaction_read_only = on")
	},
	"read-only-database": func(t *testing.T, p *patient) {
		p.database.Exec(t, "alter database "+p.name()+" set default_transaction_read_only = on")
	},
	"replica": func(t *testing.T, p *patient) {
		p.database.Exec(t, "create function public.pg_is_in_recovery() returns boolean language sql as 'select true'")
		p.database.Exec(t, "alter role postern in database "+p.name()+" set search_path = public, pg_catalog")
	},

	// The login role and the users' role.
	"owner-as-login": func(_ *testing.T, p *patient) { p.env["DATABASE_URL"] = p.database.OwnerURL },
	"login-too-many-rights": func(t *testing.T, p *patient) {
		p.as(t, "the_login", "bypassrls createdb inherit", "grant authenticated, service_role to ROLE", "grant select on public.lists to ROLE")
	},
	"login-too-few-rights": func(t *testing.T, p *patient) { p.as(t, "the_login", "noinherit", "revoke postern from ROLE") },
	"owner-of-a-table": func(t *testing.T, p *patient) {
		p.as(t, "the_owner", "inherit", "grant authenticated to ROLE", "alter table public.lists owner to ROLE")
		p.database.Exec(t, "grant insert, update, delete, select on lists to authenticated")
	},

	// Schema postern.
	"no-schema": func(t *testing.T, p *patient) { p.database.Exec(t, "drop schema postern cascade") },
	"schema-too-old": func(t *testing.T, p *patient) {
		p.database.Exec(t, "delete from postern.migrations where version_id > 0")
	},
	"schema-too-new": func(t *testing.T, p *patient) {
		p.database.Exec(t, "insert into postern.migrations (version_id, is_applied) values (99, true)")
	},
	"migrate-interrupted": func(t *testing.T, p *patient) { // before the webhook's queue
		p.database.Exec(t, `do $$ declare name text; begin
			for name in select oid::regclass from pg_class where relnamespace = 'postern'::regnamespace and relkind = 'r' and relname like 'river%' loop
				execute 'drop table ' || name || ' cascade';
			end loop; end $$`)
	},
	"no-execute": func(t *testing.T, p *patient) {
		p.database.Exec(t, "revoke execute on all functions in schema postern from public, authenticated, postern")
	},
	"open-postern": func(t *testing.T, p *patient) {
		p.database.Exec(t, "alter table postern.receipts disable row level security")
	},
	"hidden-rejected": func(t *testing.T, p *patient) {
		p.database.Exec(t, `drop policy "authors read their own rows" on postern.rejected_writes`)
	},
	"no-receipt-right": func(t *testing.T, p *patient) { p.database.Exec(t, "revoke insert on postern.receipts from postern") },

	// The app's tables and policies.
	"table-without-rls": func(t *testing.T, p *patient) {
		p.database.Exec(t, "create table public.notes (id uuid primary key); grant all on public.notes to authenticated")
		p.policies(t, "tables:\n  notes: {allow: all}\n")
	},
	"rls-without-policy": func(t *testing.T, p *patient) {
		p.database.Exec(t, "create table public.notes (id uuid primary key); grant all on public.notes to authenticated; alter table public.notes enable row level security")
		p.policies(t, "tables:\n  notes: {allow: all}\n")
	},
	"missing-table": func(t *testing.T, p *patient) { p.policies(t, "tables:\n  nothing: {allow: all}\n") },
	"missing-grant": func(t *testing.T, p *patient) {
		p.database.Exec(t, "revoke insert, update on public.todos from authenticated")
	},
	"policy-with-mistakes": func(t *testing.T, p *patient) {
		p.policies(t, "tables:\n  lists:\n    allow: all\n    rules: [{name: r, on: patch, check: size(new.name) < 9, code: R, message: R}]\n")
	},
	"policy-with-a-way-around": func(t *testing.T, p *patient) {
		p.policies(t, "tables:\n  lists:\n    allow: all\n    rules: [{name: r, on: [patch], check: size(new.name) < 9, code: R, message: R}]\n")
	},
	"policies-open-nothing": func(t *testing.T, p *patient) { p.policies(t, "tables: {}\n") },
	"policies-with-warnings": func(t *testing.T, p *patient) {
		p.policies(t, `
let: {unused: {value: 1 + 1}}
tables:
  lists: {allow: [put, delete]}
  todos: {allow: [create, update], rules: [{name: r, on: [delete], check: "size(old.description) > 3", code: R, message: R}]}
`)
	},
	"missing-policies": func(t *testing.T, p *patient) { p.env["POSTERN_POLICIES"] = "/nowhere" },
	"missing-grants-of-two-tables": func(t *testing.T, p *patient) {
		p.database.Exec(t, "revoke insert on public.todos, public.lists from authenticated")
	},
	"lookup-of-nothing": func(t *testing.T, p *patient) {
		p.policies(t, "tables:\n  lists:\n    allow: all\n    rules: [{name: r, lookup: {h: select id from public.nothing where id = $new.id}, check: lookup.h == null, code: R, message: R}]\n")
	},
	"subjects-need-uuids": func(_ *testing.T, p *patient) { p.args = nil },

	// Issuers and tokens.
	"key-set-unreachable": func(_ *testing.T, p *patient) { p.env["POSTERN_JWKS_URL"] = "http://127.0.0.1:1/keys"; p.args = nil },
	"key-set-empty":       func(_ *testing.T, p *patient) { p.issuer.keySet = `{"keys":[]}`; p.args = nil },
	"key-set-with-secrets": func(_ *testing.T, p *patient) {
		p.issuer.keySet = `{"keys":[{"kty":"oct","kid":"s","k":"aHVudGVyMg"}]}`
		p.args = nil
	},
	"key-set-of-another-algorithm": func(_ *testing.T, p *patient) {
		p.issuer.keySet = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
		delete(p.env, "POSTERN_ISSUER")
		delete(p.env, "POSTERN_AUDIENCE")
		delete(p.env, "POSTERN_JWKS_URL")
		p.env["SUPABASE_URL"], p.args = p.issuer.url, nil
	},
	"key-set-of-a-page": func(_ *testing.T, p *patient) { p.issuer.keySet = `<html>`; p.args = nil },
	"clock-of-the-issuer": func(_ *testing.T, p *patient) {
		p.issuer.date = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	},
	"token-expired": func(t *testing.T, p *patient) {
		p.try(p.issuer.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))
	},
	"token-audience":  func(t *testing.T, p *patient) { p.try(p.issuer.token(t, map[string]any{"aud": "another"})) },
	"token-role":      func(t *testing.T, p *patient) { p.try(p.issuer.token(t, map[string]any{"role": "service_role"})) },
	"subject-no-uuid": func(t *testing.T, p *patient) { p.try(p.issuer.token(t, map[string]any{"sub": "auth0|12345"})) },

	// The PowerSync Service.
	"powersync-unreachable": func(_ *testing.T, p *patient) { p.env["POWERSYNC_URL"] = "http://127.0.0.1:1" },
	"powersync-refuses":     func(t *testing.T, p *patient) { p.powerSync(t, http.StatusUnauthorized) },
	"powersync-elsewhere": func(t *testing.T, p *patient) {
		p.powerSync(t, http.StatusNotFound)
		p.env["POWERSYNC_URL"] += "/elsewhere"
	},
	"powersync-refuses-and-postern-mints": func(t *testing.T, p *patient) {
		own := p.args[1]
		p.powerSyncOf(t, func(token string) int {
			if token == own {
				return http.StatusUnauthorized
			}
			return http.StatusOK
		})
		p.mint(t)
	},
	"powersync-without-key-set": func(t *testing.T, p *patient) {
		p.powerSync(t, http.StatusUnauthorized)
		p.mint(t)
	},
	"powersync-audience": func(t *testing.T, p *patient) { p.powerSync(t, http.StatusOK); p.env["POWERSYNC_AUDIENCE"] = "another" },
	"replication-role-sees-no-rows": func(t *testing.T, p *patient) {
		p.powerSync(t, http.StatusOK)
		p.as(t, "the_replicator", "replication nobypassrls", "revoke postern from ROLE", "grant select on public.lists to ROLE")
		p.env["DATABASE_URL"] = p.database.LoginURL
		p.database.Exec(t, "create publication powersync for all tables")
	},
	"audiences-differ": func(t *testing.T, p *patient) {
		p.powerSync(t, http.StatusOK)
		p.env["POWERSYNC_AUDIENCE"], p.args = "another", nil
	},
	"publication-too-small": func(t *testing.T, p *patient) {
		p.powerSync(t, http.StatusOK)
		p.database.Exec(t, "create publication powersync for table public.lists")
	},
}
