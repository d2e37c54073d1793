package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// notAccepted is a rejected write as the app shows it to its user.
type notAccepted struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Code   string `json:"code"`
}

// What was rejected is not lost: its author sees it, the team puts it right, and
// it is there once.
func TestPutRight(t *testing.T) {
	b := setup(t)
	command := rig.Command(t)
	b.on("put-right", func(ctx context.Context) error {
		// Lists may now have longer names; what was rejected for them is replayed.
		if _, err := b.db.Owner.Exec(ctx, `alter table lists drop constraint lists_name_check`); err != nil {
			return err
		}
		replay := exec.CommandContext(ctx, command, "rejected", "replay", "--all-matching", "--code", "CHECK_VIOLATION", "--by", "ann")
		replay.Env = append(os.Environ(), "DATABASE_URL="+b.db.LoginURL, "POSTERN_POLICIES=../../policies/demo")
		if output, err := replay.CombinedOutput(); err != nil {
			return errors.New(string(output))
		}
		return nil
	})
	r := b.run(t, "put-right")

	require.Equal(t, []string{"fatal_error", "success"}, statuses(r.Uploads[0]))
	id := b.db.Text(t, `select id::text from postern.rejected_writes`)
	want := []notAccepted{{id, "open", "CHECK_VIOLATION"}}
	require.Equal(t, want, r.NotAccepted, "in the device's own database")
	require.Equal(t, want, r.Listed)
	require.Zero(t, r.Left)
	require.Equal(t, "replayed", b.db.Text(t, `select status from postern.rejected_writes`))
	require.Equal(t, "replayed by ann", b.db.Text(t, `select string_agg(action || ' by ' || who, ', ') from postern.rejected_actions`))
	require.Equal(t, "1", b.db.Text(t, `select count(*) from lists where id = $1::uuid and name = $2 and owner_id = $3::uuid`, r.IDs["endless"], strings.Repeat("a", 201), b.alice))
	require.Len(t, r.Lists, 3, "it has come back to the device, beside the two that passed")
}
