package faults_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

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
	t.Run("FromThePreviousRelease", func(t *testing.T) {
		t.Parallel()
		upgrade(t, rig.PreviousCommand(t), rig.Command(t))
	})
	t.Run("ToANewerSchema", func(t *testing.T) {
		t.Parallel()
		upgrade(t, rig.Command(t), rig.NextCommand(t, map[string]string{"09999_next.sql": nextMigration}))
	})
}

// TestMigrationsStay has those of the previous release as they were. Databases have run
// them, so what changes in them reaches no database.
func TestMigrationsStay(t *testing.T) {
	t.Parallel()
	const folder = "service/ledger/migrations"
	previous := os.DirFS(filepath.Join(rig.PreviousSource(t), folder))
	files, err := fs.Glob(previous, "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		want, err := fs.ReadFile(previous, file)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("../..", folder, file))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s is installed somewhere: leave it as it was, and add a migration", file)
	}
}

func upgrade(t *testing.T, previous, next string) {
	each := 300
	if testing.Short() {
		each = 80
		t.Log("short: 80 transactions a device instead of 300")
	}
	db, s := rig.NewDatabase(t), seed(t)
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
	known := schemaVersion(t, db)
	migrate(t, db, next)
	replace(0)
	require.True(t, w.reached(moments[1]), "the devices ended early: %v", w.failed)
	replace(1)
	require.True(t, w.reached(moments[2]), "the devices ended early: %v", w.failed)
	binary = previous
	migrate(t, db, previous) // a release command runs the older one, too; it has nothing to do
	replace(0)
	if schemaVersion(t, db) != known {
		_, err := f.running[0].Await(ctx, regexp.MustCompile("schema postern is of a newer version"))
		require.NoError(t, err)
	}
	require.True(t, w.reached(moments[3]), "the devices ended early: %v", w.failed)
	w.await(t)
	w.verify(t, db)
}

func schemaVersion(t *testing.T, db *rig.Database) string {
	t.Helper()
	return db.Text(t, `select max(version_id) from postern.migrations`)
}

// migrate runs a version's own migrate.
func migrate(t *testing.T, db *rig.Database, binary string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "migrate")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+db.OwnerURL)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Logf("%s", output)
}
