package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/neon"
	"postern/service/local"
	"postern/tests/rig"
)

// neonApp is the demo's tables as a Neon user makes them.
const neonApp = `
create table lists (
  id         uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default now(),
  name       text not null,
  owner_id   text not null default auth.user_id()
);
create table todos (
  id          uuid primary key default gen_random_uuid(),
  list_id     uuid not null references lists on delete cascade,
  description text not null,
  completed   boolean not null default false,
  owner_id    text not null default auth.user_id()
);
alter table lists enable row level security;
alter table todos enable row level security;
create policy own on lists to authenticated using (owner_id = (select auth.user_id())) with check (owner_id = (select auth.user_id()));
create policy own on todos to authenticated using (owner_id = (select auth.user_id())) with check (owner_id = (select auth.user_id()));
grant select, insert, update, delete on lists, todos to authenticated`

// setupNeon does what a Neon user does: tables, `postern migrate` as neondb_owner,
// `postern serve` with the URL that it prints and NEON_AUTH_URL.
func setupNeon(t *testing.T) *testBundle {
	t.Helper()
	needNode(t)
	t.Parallel()
	postgres := startPostgres(t)
	ownerURL := postgres.URL("neondb_owner", "owner", "neondb")
	execute(t, postgres.OwnerURL("postgres"), `create role neondb_owner login createrole createdb bypassrls password 'owner'`)
	execute(t, postgres.OwnerURL("postgres"), `create database neondb owner neondb_owner`)
	execute(t, postgres.OwnerURL("neondb"), neon.Project.SQL+"grant all on schema public to neondb_owner; grant anonymous, authenticated to neondb_owner with admin option")
	execute(t, ownerURL, neonApp)

	migrate := exec.Command(rig.Command(t), "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+ownerURL)
	output, err := migrate.CombinedOutput()
	require.NoError(t, err, string(output))
	loginURL := regexp.MustCompile(`postgres://postern:\S+`).FindString(string(output))
	require.NotEmpty(t, loginURL, string(output))

	owner, err := pgxpool.New(t.Context(), ownerURL)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	db := &rig.Database{OwnerURL: ownerURL, LoginURL: loginURL, Owner: owner}
	stream, auth := newPowerSync(t, db), startNeonAuth(t)
	way := newNetwork(t, stream)
	s := rig.ServeCommand(t, db, "NEON_AUTH_URL="+auth, "POWERSYNC_URL="+way.URL)
	s.AwaitReady(t)
	b := newBundle(t, s, way, stream)
	b.neonAuth = auth
	return b
}

// startPostgres starts a server with no roles but its owner's, which those of the
// other tests' server are not.
func startPostgres(t *testing.T) *local.Postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-neon-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // Postgres' user passes through it
	postgres, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Throwaway: true, Logical: true})
	require.NoError(t, err)
	t.Cleanup(postgres.Stop)
	return postgres
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

// startNeonAuth runs neon-auth.mjs for as long as the test, and returns its URL.
func startNeonAuth(t *testing.T) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(node, "neon-auth.mjs")
	cmd.Env = []string{"NO_COLOR=1"} // and nothing of the machine's
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop := func() error {
		_ = stdin.Close()
		return cmd.Wait()
	}
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("Better Auth does not start: %v\n%s", stop(), &stderr)
	}
	t.Cleanup(func() { require.NoError(t, stop(), "Better Auth: %s", &stderr) })
	return strings.TrimSpace(url)
}

// Better Auth, as Neon runs it, vouches for who writes: rows belong to whom
// auth.user_id() names, and to nobody else.
func TestNeonAuth(t *testing.T) {
	b := setupNeon(t)

	// Alice's cached token has expired: her writes stay queued until there is a new one.
	alice := b.run(t, "neon-writes")
	require.False(t, alice.Asked[0])
	require.Contains(t, alice.Asked, true)
	require.Contains(t, b.Logs.String(), `"reason":"expired token"`)
	require.Len(t, alice.Uploads, 1)
	require.Equal(t, []string{"success", "success"}, statuses(alice.Uploads[0]))
	require.Equal(t, "Groceries", b.db.Text(t, `select name from lists where owner_id = $1`, alice.UserID))
	require.Equal(t, alice.IDs["milk"], b.db.Text(t, `select id::text from todos where owner_id = $1 and completed`, alice.UserID))
	require.Equal(t, []list{{alice.IDs["groceries"], "Groceries", alice.UserID}}, alice.Lists)

	// PowerSync is handed the very token, which is as Neon documents it.
	require.Equal(t, alice.Token, alice.Credentials.Token)
	require.Equal(t, alice.UserID, alice.Credentials.UserID)
	require.Equal(t, b.network.URL, alice.Credentials.Endpoint)
	require.NotContains(t, b.Logs.String(), alice.Token)
	requireNeonToken(t, alice.Token, b.neonAuth)

	// Bob may not touch what is hers, and has it back as it was.
	bob := b.run(t, "neon-not-the-owner")
	require.Len(t, bob.Renamed, 1)
	require.Equal(t, []rejected{{1, "UNAUTHORIZED"}}, bob.Rejected)
	require.Equal(t, "UNAUTHORIZED", b.db.Text(t, `select code from postern.rejected_writes where subject = $1`, bob.UserID))
	require.Equal(t, "Groceries", b.db.Text(t, `select name from lists`))
	require.Equal(t, alice.Lists, bob.Lists)
	require.ElementsMatch(t, []string{alice.UserID, bob.UserID}, b.powerSync.users())
}

// PowerSync's reference connector names no device, and Neon's tokens no session. A retry
// of an insert takes effect once, and a write of another device is never taken for one.
func TestNeonTwoDevices(t *testing.T) {
	b := setupNeon(t)
	b.db.Exec(t, noteEffects)
	r := b.run(t, "neon-two-devices")

	put := fmt.Sprintf(`{"transactions":[{"crud":[{"id":%q,"op":"PUT","table":"lists","transaction_id":1,"op_data":{"name":"Groceries"}}],"transaction_id":1}]}`, r.IDs["groceries"])
	rename := fmt.Sprintf(`{"transactions":[{"crud":[{"id":%q,"op":"PATCH","table":"lists","transaction_id":2,"op_data":{"name":"Food"}}],"transaction_id":2}]}`, r.IDs["groceries"])
	require.Len(t, r.Uploads, 5)
	require.Equal(t, put, r.Uploads[0].Body)
	require.Equal(t, put, r.Uploads[1].Body)
	require.Equal(t, rename, r.Uploads[2].Body, "the phone's")
	require.Equal(t, rename, r.Uploads[4].Body, "the tablet's")
	require.Equal(t, "INSERT Groceries,UPDATE Food,UPDATE Shopping,UPDATE Food",
		b.db.Text(t, `select string_agg(operation || ' ' || name, ',' order by number) from effects`))
	require.Equal(t, []list{{r.IDs["groceries"], "Food", r.UserID}}, r.Lists)
	require.Equal(t, "0", b.db.Text(t, `select count(*) from postern.rejected_writes`))
}

// requireNeonToken holds a token against the recorded one: the same header and
// claims, and as different values only those that differ from user to user and
// from server to server.
func requireNeonToken(t *testing.T, got, authURL string) {
	t.Helper()
	parse := func(token string) (jwt.MapClaims, map[string]any) {
		parsed, _, err := jwt.NewParser().ParseUnverified(strings.TrimSpace(token), jwt.MapClaims{})
		require.NoError(t, err)
		return parsed.Claims.(jwt.MapClaims), parsed.Header
	}
	claims, header := parse(got)
	recorded, recordedHeader := parse(string(rig.Fixture(t, "tokens/better-auth-neon.jwt")))
	origin := strings.TrimSuffix(authURL, "/neondb/auth")
	require.Equal(t, origin, claims["iss"])
	require.Equal(t, origin, claims["aud"])
	require.Equal(t, claims["id"], claims["sub"])
	require.EqualValues(t, 15*60, claims["exp"].(float64)-claims["iat"].(float64))
	for _, own := range []string{"iss", "aud", "id", "sub", "name", "email", "createdAt", "updatedAt", "iat", "exp"} {
		require.Contains(t, claims, own)
		require.IsType(t, recorded[own], claims[own], own)
		delete(claims, own)
		delete(recorded, own)
	}
	delete(header, "kid")
	delete(recordedHeader, "kid")
	require.Equal(t, fmt.Sprint(recordedHeader), fmt.Sprint(header))
	require.Equal(t, recorded, claims)
}
