package rejected_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestReplayInterrupted has Ctrl-C while the 21st of 40 writes is replayed. It is
// finished, and another run goes on with the rest: no write is applied twice.
func TestReplayInterrupted(t *testing.T) {
	b := setup(t)
	b.db.Exec(t, `create table effects (id uuid); create function effect() returns trigger language plpgsql security definer as $$ begin
  if (select count(*) = 20 from public.effects) then perform pg_advisory_xact_lock(77); end if;
  insert into public.effects values (new.id); return null; end $$;
create trigger effect after insert or update on lists for each row execute function effect()`)
	for i := range 40 {
		b.rejectedList(t, "alice", i)
	}
	b.fix(t)
	state := func() string {
		return b.db.Text(t, `select concat_ws(' ', (select count(*) from effects), (select count(distinct id) from effects), (select count(*) from lists),
  (select count(*) from postern.rejected_writes where status = 'replayed'), (select count(*) from postern.rejected_actions))`)
	}
	args := []string{"rejected", "replay", "--all-matching", "--by", "ann"}

	release := b.block(t, `select pg_advisory_xact_lock(77)`)
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"DATABASE_URL=" + b.db.LoginURL, "POSTERN_POLICIES=../../policies/demo"}, rig.Command(t), args...)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	b.awaitBlocked(t, p)
	ended := make(chan int, 1)
	go func() { ended <- p.Signal(os.Interrupt) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = p.Await(ctx, regexp.MustCompile(`(finishing what has begun)`))
	require.NoError(t, err, p.Output())
	release()
	require.Equal(t, 1, <-ended)
	output := p.Output()
	require.Contains(t, output, "21 replayed")
	require.Contains(t, output, "interrupted: 21 of 40 writes were tried; run it again to go on")
	require.Equal(t, "21 21 21 21 21", state())

	require.Contains(t, mustPostern(t, b.db.LoginURL, args...), "19 replayed")
	require.Equal(t, "40 40 40 40 40", state())
}

// TestExportInterrupted has Ctrl-C within an export whose reader is slow. With what it
// has printed, another run goes on where it ended.
func TestExportInterrupted(t *testing.T) {
	b := setup(t)
	const many = 50
	for i := range many {
		b.rejectedList(t, "alice", i)
	}
	b.db.Exec(t, `update postern.rejected_writes set message = repeat('x', 200000)`) // more than a pipe holds
	whole := mustPostern(t, b.db.LoginURL, "rejected", "export")

	var status strings.Builder
	cmd := exec.CommandContext(t.Context(), rig.Command(t), "rejected", "export")
	cmd.Env, cmd.Stderr = append(os.Environ(), "DATABASE_URL="+b.db.LoginURL), &status
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	reader := bufio.NewReader(pipe)
	first, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Error(t, cmd.Wait())
	printed := first + string(rest)
	require.Less(t, strings.Count(printed, "\n"), many)
	said := regexp.MustCompile(`interrupted: (\d+) writes are exported; go on with --after (\S+)`).FindStringSubmatch(status.String())
	require.NotNil(t, said, status.String())
	require.Equal(t, said[1], strconv.Itoa(strings.Count(printed, "\n")), "whole lines")

	require.Equal(t, whole, printed+mustPostern(t, b.db.LoginURL, "rejected", "export", "--after", said[2]))
	output, err := postern(t, b.db.LoginURL, "rejected", "export", "--after", "x")
	require.Error(t, err)
	require.Contains(t, output, `--after="x" is not what an interrupted export has printed`)
}

// TestMigrateInterrupted has Ctrl-C while a migration waits for a lock. Another run does
// the rest.
func TestMigrateInterrupted(t *testing.T) {
	b := setup(t)
	release := b.block(t, `lock table postern.rejected_writes in access exclusive mode`)
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"DATABASE_URL=" + b.db.OwnerURL}, rig.Command(t), "migrate")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.Eventually(t, func() bool {
		return b.db.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
	}, 20*time.Second, 5*time.Millisecond, "%s", p.Output())
	require.Equal(t, 1, p.Signal(os.Interrupt))
	require.Contains(t, p.Output(), "interrupted: what was applied stays; run it again to go on")
	release()
	require.Contains(t, mustPostern(t, b.db.OwnerURL, "migrate"), "Schema postern is up to date")
}
