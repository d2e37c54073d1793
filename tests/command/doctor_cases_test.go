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
	"signing-key-no-key":    func(_ *testing.T, p *patient) { p.env["POSTERN_SIGNING_KEY"] = "hunter2" },
	"secret-api-key":        func(_ *testing.T, p *patient) { p.env["SUPABASE_PUBLISHABLE_KEY"] = "sb_secret_x" },
	"body-limit-for-memory": func(_ *testing.T, p *patient) { p.env["GOMEMLIMIT"] = "100MiB" },

	// The connection.
	"database-unreachable": func(_ *testing.T, p *patient) { p.env["DATABASE_URL"] = "postgres://postern:x@127.0.0.1:1/app" },
	"wrong-password": func(_ *testing.T, p *patient) {
		p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, ":postern@", ":wrong@", 1)
	},
	"no-such-database": func(_ *testing.T, p *patient) {
		p.env["DATABASE_URL"] = strings.Replace(p.database.LoginURL, p.name(), "nowhere", 1)
	},
	"pool-too-large": func(_ *testing.T, p *patient) { p.env["DATABASE_URL"] += "&pool_max_conns=5000" },
	"read-only": func(t *testing.T, p *patient) {
		p.database.Exec(t, "alter role postern in database "+p.name()+" set default_transaction_read_only = on")
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
	"missing-policies": func(t *testing.T, p *patient) { p.env["POSTERN_POLICIES"] = "/nowhere" },
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
	"powersync-audience":    func(t *testing.T, p *patient) { p.powerSync(t, http.StatusOK); p.env["POWERSYNC_AUDIENCE"] = "another" },
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
