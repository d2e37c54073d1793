package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// checkSync returns what PowerSync's parser finds wrong with sync streams or sync rules
// for the tables of a database.
func checkSync(t *testing.T, db *rig.Database, config string) []string {
	t.Helper()
	schema := filepath.Join(t.TempDir(), "schema.json")
	require.NoError(t, os.WriteFile(schema, []byte(db.Text(t, `
select jsonb_agg(jsonb_build_object('name', table_schema, 'tables', tables))::text
  from (select table_schema, jsonb_agg(jsonb_build_object('name', table_name, 'columns', columns)) as tables
          from (select table_schema, table_name, jsonb_agg(jsonb_build_object('name', column_name, 'pg_type', udt_name)) as columns
                  from information_schema.columns where table_schema in ('public', 'postern') group by 1, 2) t
         group by 1) s`)), 0o600))
	return checkConfig(t, config, "sync", schema)
}

// checkService returns what is wrong with a powersync.yaml, or a part of one.
func checkService(t *testing.T, config string) []string {
	t.Helper()
	return checkConfig(t, config, "service")
}

func checkConfig(t *testing.T, config string, args ...string) (problems []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, append([]string{"check-config.mjs"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(config), &stderr
	output, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.NoError(t, json.Unmarshal(output, &problems), string(output))
	return problems
}

// The guide for rejected writes works as it is printed: PowerSync's parser accepts its
// streams and rules, and its role reads what a user was refused.
func TestMigratePrintsWhatPowerSyncAccepts(t *testing.T) {
	b := setup(t)
	lendPowerSyncRole(t, b.db)
	migrate := exec.CommandContext(t.Context(), rig.Command(t), "migrate", "--print")
	migrate.Env = []string{} // not the developer's DATABASE_URL, whose roles it would look at
	printed, err := migrate.Output()
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, block := range rig.Blocks(string(printed)) {
		kinds[block.Kind]++
		switch block.Kind {
		case "sql":
			b.db.Exec(t, block.Code)
		case "yaml sync":
			require.Empty(t, checkSync(t, b.db, block.Code), block.Code)
			const either = "(status = 'open' OR status = 'held')"
			require.Contains(t, block.Code, either)
			minted := strings.NewReplacer("auth.parameter('iss')", "'https://x.supabase.co/auth/v1'",
				"bucket.issuer", "'https://x.supabase.co/auth/v1'", "request.jwt() ->> 'iss' AS issuer, ", "").Replace(block.Code)
			require.NotContains(t, minted, "'iss'")
			require.Empty(t, checkSync(t, b.db, minted), minted)
			list := strings.ReplaceAll(block.Code, either, "status IN ('open', 'held')")
			require.NotEmpty(t, checkSync(t, b.db, list), "PowerSync accepts lists now: the guide may say it in fewer words")
		}
	}
	require.Equal(t, map[string]int{"sql": 3, "yaml sync": 2, "js": 1}, kinds)

	b.One(t, "alice", `{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-000000000001","op_data":{"name":"`+strings.Repeat("a", 201)+`"}}`)
	require.Equal(t, "1", readAs(t, b.db, "powersync_role", "choose-a-password", `select count(*) from postern.rejected_writes`))
	require.Equal(t, "postern.rejected_writes", b.db.Text(t, `select string_agg(schemaname || '.' || tablename, ', ') from pg_publication_tables where pubname = 'powersync'`))
}

// powerSyncRole is held by the test whose SQL creates powersync_role. All databases of
// the tests' Postgres share their roles.
var powerSyncRole sync.Mutex

func lendPowerSyncRole(t *testing.T, db *rig.Database) {
	t.Helper()
	powerSyncRole.Lock()
	t.Cleanup(func() {
		defer powerSyncRole.Unlock()
		_, err := db.Owner.Exec(context.Background(), `drop owned by powersync_role; drop role powersync_role`)
		require.NoError(t, err)
	})
}

// readAs is the one value of a query, as a role sees it.
func readAs(t *testing.T, db *rig.Database, role, password, query string) (value string) {
	t.Helper()
	config, err := pgx.ParseConfig(db.OwnerURL)
	require.NoError(t, err)
	config.User, config.Password = role, password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), "select ("+query+")::text").Scan(&value))
	return value
}
