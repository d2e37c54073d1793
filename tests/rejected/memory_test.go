package rejected_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// 100,000 rejected writes are listed and replayed in bounded memory.
func TestManyRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("short: 100,000 records take a minute")
	}
	b := setup(t)
	const many = 100_000
	b.db.Exec(t, `
insert into postern.rejected_writes (digest, issuer, subject, client_id, device, transaction_id, transaction, tables, code, message, details, operation_index,
                                     requires_client_handling, policy_sha256, identified, has_content, bytes, first_at)
select sha256(n::text::bytea), $1, md5((n % 100)::text)::uuid, 'phone', 'phone', n,
       json_build_object('transaction_id', n, 'crud', json_build_array(json_build_object('op', 'PUT', 'table', 'lists', 'id', md5(n::text)::uuid, 'op_data', json_build_object('name', repeat('x', 200))))),
       '{lists}', 'CHECK_VIOLATION', 'too long', 'null', 0, false, '', true, true, 400, now() - n * interval '1 second'
  from generate_series(1, $2::int) n`, local.IssuerName, many)
	b.db.Exec(t, `insert into postern.rejected_identities select id, 'authenticated', json_build_object('iss', issuer, 'sub', subject, 'role', 'authenticated') from postern.rejected_writes`)
	b.db.Exec(t, `analyze postern.rejected_writes`)

	const most = 64 << 10 // kB, the binary included
	run := func(args ...string) (lines int, output string) {
		cmd := exec.CommandContext(t.Context(), rig.Command(t), append([]string{"rejected"}, args...)...)
		cmd.Env = append(cmd.Environ(), "DATABASE_URL="+b.db.LoginURL, "POSTERN_POLICIES=../../policies/demo")
		var counted lineCounter
		cmd.Stdout, cmd.Stderr = &counted, &counted
		started := time.Now()
		kB := peak(t, cmd)
		t.Logf("%v: %v, at most %d MB", args, time.Since(started).Round(time.Millisecond), kB>>10)
		require.Less(t, kB, most)
		return counted.lines, string(counted.last)
	}
	lines, _ := run("list", "--json")
	require.Equal(t, many, lines)
	lines, _ = run("list")
	require.Equal(t, many+1, lines)
	_, last := run("replay", "--all-matching")
	require.Contains(t, last, fmt.Sprint(many, " replayed"))
	require.Equal(t, fmt.Sprint(many), b.db.Text(t, `select count(*) from lists`))
	require.Equal(t, fmt.Sprint(many), b.db.Text(t, `select count(*) from postern.rejected_writes where status = 'replayed'`))
}

// peak runs a command to its end and returns the most memory that it had, in kB;
// 0 where the system does not say. The parent's is no part of it, as it is of
// what wait(2) tells.
func peak(t *testing.T, cmd *exec.Cmd) (kB int) {
	t.Helper()
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
			_, _ = fmt.Sscan(after, &kB)
		}
		select {
		case err := <-ended:
			require.NoError(t, err, "%s", cmd.Stderr)
			return kB
		case <-ticks.C:
		}
	}
}

// lineCounter keeps the number of lines written to it, and the last write.
type lineCounter struct {
	lines int
	last  []byte
}

func (c *lineCounter) String() string { return string(c.last) }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte("\n"))
	c.last = append(c.last[:0], p...)
	return len(p), nil
}
