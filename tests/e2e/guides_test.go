package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// Each guide leads from an empty project to a synced write and a rejection that the app
// shows, by the very commands and the very app that are in it.
func TestGuides(t *testing.T) {
	needNode(t)
	t.Parallel()
	for _, tc := range []struct {
		project local.Project
		setting string // which says where the Auth server is
		example string // its URL in the guide
		auth    func(*testing.T) auth
	}{
		{supabase.Project, "SUPABASE_URL", "https://REF.supabase.co", newSupabaseAuth},
		{neon.Project, "NEON_AUTH_URL", "https://ep-….neonauth.us-east-1.aws.neon.tech/neondb/auth", newNeonAuth},
	} {
		t.Run(tc.project.Name, func(t *testing.T) {
			t.Parallel()
			auth := tc.auth(t)
			g := newReader(t, tc.project)
			g.env = append(g.env, "TOKEN="+auth.token, tc.setting+"="+auth.url)
			g.follow(t, "../../"+tc.project.Name+"/README.md")

			require.Equal(t, auth.user+" First", g.db.Text(t, `select owner_id || ' ' || title from notes`))
			const waiting = `select count(*) from postern.rejected_writes where status = 'open' and code = 'CHECK_VIOLATION'`
			require.Equal(t, "1", readAs(t, g.db, "powersync_role", "choose-a-password", waiting))
			require.Equal(t, "1", readAs(t, g.db, "powersync_role", "choose-a-password", `select count(*) from notes`))
			require.Equal(t, "2", g.db.Text(t, `select count(*) from pg_publication_tables where pubname = 'powersync'`))
			g.compile(t)
			g.runApp(t, tc.example, auth)
		})
	}
}

// The page for apps with another write path has a query that finds what must change.
func TestMigratingQuery(t *testing.T) {
	t.Parallel()
	db := rig.NewDatabase(t)
	db.Exec(t, `
create function caller() returns text language sql stable as $$ select current_setting('app.user_id') $$;
create function fine() returns uuid language sql stable as $$ select auth.uid() $$;
create policy "by header" on lists using (current_setting('request.headers') = name)`)
	page, err := os.ReadFile("../../MIGRATING.md")
	require.NoError(t, err)
	blocks := slices.DeleteFunc(rig.Blocks(string(page)), func(b rig.Block) bool { return !b.Run })
	require.Len(t, blocks, 1)
	require.Equal(t, "sql", blocks[0].Kind)
	query := strings.TrimRight(strings.TrimSpace(blocks[0].Code), ";")
	require.Equal(t, "function caller(), policy by header on lists",
		db.Text(t, `select string_agg(kind || ' ' || name, ', ' order by kind, name) from (`+query+`) found`))
}

// reader follows a guide on a Postgres of its own, in a folder of its own.
type reader struct {
	dir       string
	env       []string
	url       string // of the service, once it runs
	powerSync string // the URL of the PowerSync Service, if it runs
	streams   string // the guide's sync configuration
	app       string // the guide's JavaScript
	service   *rig.Process
	postgres  *local.Postgres
	db        *rig.Database // the project's
}

// newReader sets up an empty project, whose owner is no superuser.
func newReader(t *testing.T, project local.Project) *reader {
	t.Helper()
	postgres := startPostgres(t)
	execute(t, postgres.OwnerURL("postgres"), `create role app_owner login createrole createdb bypassrls password 'owner'`)
	execute(t, postgres.OwnerURL("postgres"), `create database app owner app_owner`)
	execute(t, postgres.OwnerURL("app"), project.SQL+`
		grant create on schema public to app_owner;
		grant usage on schema public, auth to app_owner with grant option;
		grant `+strings.Join(project.Roles, ", ")+` to app_owner with admin option`)
	ownerURL := postgres.URL("app_owner", "owner", "app")
	owner, err := pgxpool.New(t.Context(), ownerURL)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	address, powerSync := freeAddress(t), "http://"+freeAddress(t)
	return &reader{
		dir: t.TempDir(), url: "http://" + address, powerSync: powerSync, postgres: postgres, db: &rig.Database{OwnerURL: ownerURL, Owner: owner},
		env: []string{
			"PATH=" + filepath.Dir(rig.Command(t)) + ":" + os.Getenv("PATH"),
			"OWNER_URL=" + ownerURL, "POWERSYNC_URL=" + powerSync,
			"POSTERN_LISTEN=" + address, "POSTERN_URL=http://" + address, "POSTERN_METRICS_LISTEN=127.0.0.1:0",
		},
	}
}

// follow runs the blocks of a page in order, apart from those that it says are not run.
func (r *reader) follow(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range rig.Blocks(string(text)) {
		if !block.Run {
			continue
		}
		switch block.Kind {
		case "sql":
			r.query(t, block.Code)
		case "sh":
			r.shell(t, block.Code)
		case "yaml sync":
			require.Empty(t, checkSync(t, r.db, block.Code), block.Code)
			r.streams = block.Code
		case "js":
			r.app += block.Code
		case "yaml powersync.yaml":
			require.Empty(t, checkService(t, block.Code), block.Code)
		default:
			require.Fail(t, "no test runs such a block", "%s: %s: write above it: %s\n%s", page, block.Kind, rig.NotRun, block.Code)
		}
	}
}

// query runs SQL as the owner. A role with bypassrls is a superuser's to create here;
// Supabase's and Neon's owners may do that.
func (r *reader) query(t *testing.T, sql string) {
	t.Helper()
	if strings.Contains(sql, "replication bypassrls") {
		execute(t, r.postgres.OwnerURL("app"), sql)
		return
	}
	r.db.Exec(t, sql)
}

var printedLogin = regexp.MustCompile(`postgres://postern:\S+`)

// shell runs commands. What migrate prints becomes DATABASE_URL, as the guide says, and
// the service runs on in the background.
func (r *reader) shell(t *testing.T, commands string) {
	t.Helper()
	if commands == "postern serve\n" {
		service, err := rig.StartProcess(filepath.Join(r.dir, "output"), append(r.env, "POSTERN_POLICIES="+filepath.Join(r.dir, "policies")), rig.Command(t), "serve")
		require.NoError(t, err)
		t.Cleanup(func() { service.Stop() })
		require.NoError(t, service.AwaitReady(t.Context(), r.url))
		r.service = service
		return
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), r.env...)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", commands, output)
	t.Logf("%s%s", commands, output)
	if login := printedLogin.Find(output); login != nil {
		r.env = append(r.env, "DATABASE_URL="+string(login))
	}
}
