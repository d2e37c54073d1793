package command_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// longMigrations deadlock and wait too long for a lock, each once, and build two indexes,
// one while nobody writes and one beside writes. Their function waits in the middle of
// the table while the test has a lock.
var longMigrations = map[string]string{
	"09991_before.sql": `-- +goose Up
-- +goose StatementBegin
do $$ declare tries int := nextval('public.tries'); begin
  if tries = 1 then raise sqlstate '40P01'; elsif tries = 2 then raise sqlstate '55P03'; end if;
end $$;
-- +goose StatementEnd
-- +goose StatementBegin
create function postern.slow(digest bytea, lock int) returns int language plpgsql immutable as $$ begin
  if digest = sha256('50000') then perform pg_advisory_xact_lock_shared(lock); end if;
  return 1;
end $$;
-- +goose StatementEnd`,
	"09992_index.sql": `-- +goose Up
create index receipts_slow on postern.receipts (postern.slow(digest, 1));`,
	"09993_concurrently.sql": `-- +goose NO TRANSACTION
-- +goose Up
drop index concurrently if exists postern.receipts_later;
create index concurrently receipts_later on postern.receipts (postern.slow(digest, 2));`,
}

const building = `select count(*) from pg_stat_progress_create_index where datname = current_database()`

// TestLongMigration stops `migrate` in each of two indexes of a big table, with Ctrl-C on a
// terminal and by a kill. Each next run goes on with what is missing.
func TestLongMigration(t *testing.T) {
	t.Parallel()
	b := &longMigration{database: rig.NewDatabase(t), binary: rig.NextCommand(t, longMigrations)}
	b.database.Exec(t, `create sequence public.tries; insert into postern.receipts select sha256(i::text::bytea), 'applied', now() from generate_series(1, 100000) i`)
	first, second := b.block(t, `select pg_advisory_xact_lock(1)`), b.block(t, `select pg_advisory_xact_lock(2)`)

	said := b.interrupt(t, `1 of 3 migrations, 33%, receipts: scanning table (?:49|50)%`)
	require.Regexp(t, `\[={10} {20}\] 1 of 3`, said)
	require.Contains(t, said, "applied 09991_before.sql\r\npostern: interrupted: what was applied stays; run it again to go on")
	require.NotContains(t, said, "applied 09992")
	require.Equal(t, "3", b.database.Text(t, `select last_value from public.tries`), "a clash is tried again")

	p := b.start(t, b.binary, "migrate")
	await(t, p, `(?m)^0 of 2 migrations, 0%, receipts: scanning table (?:49|50)%$`)
	p.Kill()
	require.Eventually(t, func() bool { return b.database.Text(t, building) == "0" }, time.Minute, 20*time.Millisecond, "nobody waits for the index")

	first()
	said = b.interrupt(t, `1 of 2 migrations, 50%, receipts: scanning table (?:49|50)%`)
	require.Contains(t, said, "applied 09992_index.sql\r\npostern: interrupted")
	second()
	p = b.start(t, b.binary, "migrate")
	require.Zero(t, p.Wait(), p.Output())
	require.Regexp(t, `^applied 09993_concurrently.sql\nSchema postern is up to date`, p.Output())
	require.Equal(t, "receipts_later receipts_slow", b.database.Text(t, `select string_agg(relname, ' ' order by relname) from pg_class join pg_index on indexrelid = oid and indisvalid where relname in ('receipts_slow', 'receipts_later')`))
}

type longMigration struct {
	database *rig.Database
	binary   string
}

func (b *longMigration) start(t *testing.T, program string, args ...string) *rig.Process {
	t.Helper()
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"DATABASE_URL=" + b.database.OwnerURL}, program, args...)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

func await(t *testing.T, p *rig.Process, pattern string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := p.Await(ctx, regexp.MustCompile(pattern))
	require.NoError(t, err)
}

// block has a lock until release is called.
func (b *longMigration) block(t *testing.T, lock string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.database.OwnerURL)
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), lock)
	require.NoError(t, err)
	return func() { require.NoError(t, conn.Close(t.Context())) }
}

// interrupt runs migrate on a terminal, and types Ctrl-C when it shows the pattern. When
// the command has ended, Postgres builds no index.
func (b *longMigration) interrupt(t *testing.T, pattern string) (shown string) {
	t.Helper()
	keyboard := filepath.Join(t.TempDir(), "keyboard")
	require.NoError(t, syscall.Mkfifo(keyboard, 0o600))
	typed, err := os.OpenFile(keyboard, os.O_RDWR, 0)
	require.NoError(t, err)
	defer typed.Close()
	p := b.start(t, "sh", "-c", `exec script -qefc "exec $0 migrate" /dev/null < "$1"`, b.binary, keyboard)
	await(t, p, pattern)
	_, err = typed.WriteString("\x03")
	require.NoError(t, err)
	require.Equal(t, 1, p.Wait())
	require.Equal(t, "0", b.database.Text(t, building))
	return p.Output()
}
