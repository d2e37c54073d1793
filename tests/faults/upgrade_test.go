package faults_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// previousEnv is the git revision of the previous release. Without it, this program is
// the previous one, and the next has one migration more.
const previousEnv = "POSTERN_TEST_PREVIOUS"

// nextMigration changes tables that every upload writes to, as a release may do: it adds
// what the previous version does not know, and keeps what that version needs.
const nextMigration = `-- +goose Up
alter table postern.receipts add column region text not null default 'here';
create index receipts_region on postern.receipts (region);
alter table postern.rejected_writes add column seen_at timestamptz;
create table postern.notes (id bigint primary key);
`

// TestUpgrade goes from one version to the next while devices upload, as a rolling
// deployment does: migrate runs while the previous version serves, and then both serve
// side by side. In the end, it goes back to the previous version, on the newer schema.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	each := 300
	if testing.Short() {
		each = 80
		t.Log("short: 80 transactions a device instead of 300")
	}
	db, s := rig.NewDatabase(t), seed(t)
	previous, next := versions(t)
	db.Exec(t, `drop schema postern cascade`)
	migrate(t, db, previous)
	setUp(t, db, users...)
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	keys, folder := rig.ServeIssuer(t, issuer), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "all.yaml"), []byte(policies), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary := previous
	serve := func() (*rig.Process, string) {
		p, url, err := rig.Serve(ctx, filepath.Join(t.TempDir(), "output"), binary, db.LoginURL+"&pool_max_conns=8", keys, folder)
		require.NoError(t, err)
		return p, url
	}
	f := startFleet(t, 2, serve)
	w := newWorld(s, func(user string) string {
		token, err := issuer.Token(user, time.Now())
		require.NoError(t, err)
		return token
	}, users, 8, each)
	replace := func(i int) { // as a rolling deployment: the new instance is ready before the old one is asked to stop
		old := f.running[i]
		f.start(i)
		require.Zero(t, old.Stop(), old.Output())
	}
	w.upload(t.Context(), f.url)
	moments := w.moments(s, 4)

	require.True(t, w.reached(moments[0]), "the devices ended early: %v", w.failed)
	binary = next
	migrate(t, db, next)
	replace(0)
	require.True(t, w.reached(moments[1]), "the devices ended early: %v", w.failed)
	replace(1)
	require.True(t, w.reached(moments[2]), "the devices ended early: %v", w.failed)
	binary = previous
	migrate(t, db, previous) // a release command runs the older one, too; it has nothing to do
	replace(0)
	if os.Getenv(previousEnv) == "" {
		_, err := f.running[0].Await(ctx, regexp.MustCompile("schema postern is of a newer version"))
		require.NoError(t, err)
	}
	require.True(t, w.reached(moments[3]), "the devices ended early: %v", w.failed)
	w.await(t)
	w.verify(t, db)
}

// versions builds the previous version and the next.
func versions(t *testing.T) (previous, next string) {
	t.Helper()
	ours, other := rig.Command(t), filepath.Join(t.TempDir(), "postern")
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	if revision := os.Getenv(previousEnv); revision != "" {
		source := t.TempDir()
		run(t, root, "sh", "-c", `git archive "$1" | tar -x -C "$2"`, "sh", revision, source)
		run(t, source, "go", "build", "-buildvcs=false", "-o", other, ".")
		return other, ours
	}
	migration, overlay := filepath.Join(t.TempDir(), "next.sql"), filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(migration, []byte(nextMigration), 0o644))
	files, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "service/ledger/migrations/09999_next.sql"): migration}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, files, 0o644))
	run(t, root, "go", "build", "-buildvcs=false", "-overlay", overlay, "-o", other, ".")
	return ours, other
}

// migrate runs a version's own migrate.
func migrate(t *testing.T, db *rig.Database, binary string) {
	t.Helper()
	t.Log(run(t, ".", "env", "DATABASE_URL="+db.OwnerURL, binary, "migrate"))
}

func run(t *testing.T, dir, program string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", program, arguments, output)
	return string(output)
}
