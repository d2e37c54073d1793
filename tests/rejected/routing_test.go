package rejected_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/service/local"
	"postern/tests/rig"
)

const routingPolicies = `
tables:
  lists:
    allow: [put, patch, delete]
    client: [CHECK_VIOLATION]
    rules:
      - {name: no-shouting, on: [put], check: new.name != "LOUD", code: TOO_LOUD, message: "quietly, please", client: true}
      - {name: no-tabs, on: [put], check: new.name != "tab", code: TAB, message: "no tabs"}
      - {name: not-shut, on: [put], check: new.name != "shut" || old != null, code: SHUT, message: "shut", client: true}
  todos: {allow: [put, patch, delete]}`

// setupRouting has a policy that leaves one code, and one rule's, to the client.
func setupRouting(t *testing.T, changes ...func(*service.Config)) *testBundle {
	t.Helper()
	t.Parallel()
	s := rig.NewService(t, rig.Policies(t, routingPolicies), changes...)
	return &testBundle{Service: s, db: s.Database, alice: local.UserID("alice"), bob: local.UserID("bob")}
}

// policies is a folder with those of setupRouting, for the command.
func (b *testBundle) policies(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "routing.yaml"), []byte(routingPolicies), 0o600))
	return dir
}

// put uploads one transaction that makes a list, as a device does.
func (b *testBundle) put(t *testing.T, device string, id int, name string) rig.Result {
	t.Helper()
	list := fmt.Sprintf("00000000-0000-4000-8000-%012d", id)
	return b.Upload(t, "alice", fmt.Sprintf(`{"client_id":%q,"transactions":[{"transaction_id":%d,"crud":[{"op_id":%[2]d,"op":"PUT","table":"lists","id":%q,"op_data":{"name":%q}}]}]}`,
		device, id, list, name)).Results(t)[0]
}

func (b *testBundle) recordOf(t *testing.T, device string, id int) string {
	t.Helper()
	return b.db.Text(t, `select id::text from postern.rejected_writes where client_id = $1 and transaction_id = $2`, device, id)
}

func TestRouting(t *testing.T) {
	b := setupRouting(t)
	for i, test := range []struct {
		name, code string
		client     bool
	}{
		{tooLong, "CHECK_VIOLATION", true},
		{"LOUD", "TOO_LOUD", true},
		{"tab", "TAB", false},
		{"shut", "SHUT", true}, // which only the stored row tells
	} {
		device := fmt.Sprint("device ", i)
		result := b.put(t, device, i, test.name)
		require.Equal(t, "fatal_error", result.Status, "%s: %+v", test.code, result)
		require.Equal(t, test.code, result.FailedOperation.ErrorCode)
		require.Equal(t, test.client, *result.RequiresClientHandling, test.code)
		status := map[bool]string{true: "held", false: "open"}[test.client]
		require.Equal(t, status, b.status(t, b.recordOf(t, device, i)))
	}
}

func TestHeldToItsEnd(t *testing.T) {
	b := setupRouting(t)

	t.Run("ItsClientSucceeds", func(t *testing.T) {
		b.put(t, "succeeding", 10, tooLong)
		b.put(t, "succeeding", 10, tooLong)
		record := b.recordOf(t, "succeeding", 10)
		require.Equal(t, "2", b.db.Text(t, `select attempts from postern.rejected_writes where id = $1::uuid`, record))
		b.fix(t)
		require.Equal(t, "success", b.put(t, "succeeding", 10, tooLong).Status)
		require.Equal(t, "resolved", b.status(t, record))
		b.db.Exec(t, `delete from lists; alter table lists add constraint lists_name_check check (length(name) <= 200)`)
	})

	t.Run("ItsClientLetsGo", func(t *testing.T) {
		b.put(t, "leaving", 20, tooLong)
		require.Equal(t, "success", b.put(t, "leaving", 21, "short").Status)
		require.Equal(t, "released", b.status(t, b.recordOf(t, "leaving", 20)))
		require.Equal(t, "released by postern", b.actions(t, b.recordOf(t, "leaving", 20)))
	})

	t.Run("TheTeamReplaysIt", func(t *testing.T) {
		b.put(t, "replayed", 30, "LOUD")
		record := b.recordOf(t, "replayed", 30)
		output, err := postern(t, b.db.LoginURL, "rejected", "replay", record, "--policies", b.policies(t))
		require.Error(t, err)
		require.Contains(t, output, "TOO_LOUD")
		output, err = postern(t, b.db.LoginURL, "rejected", "replay", record, "--policies", b.policies(t), "--dry-run", "--no-policies")
		require.NoError(t, err, output)
		require.Equal(t, "held", b.status(t, record))
		mustPostern(t, b.db.LoginURL, "rejected", "replay", record, "--policies", b.policies(t), "--no-policies")
		require.Equal(t, "success", b.put(t, "replayed", 30, "LOUD").Status, "its device comes again, and the rule would still say no")
		require.Equal(t, "replayed", b.status(t, record))
	})

	t.Run("TheTeamDismissesIt", func(t *testing.T) {
		b.put(t, "dismissed", 40, "LOUD")
		record := b.recordOf(t, "dismissed", 40)
		mustPostern(t, b.db.LoginURL, "rejected", "dismiss", record)
		result := b.put(t, "dismissed", 40, "LOUD")
		require.Equal(t, "fatal_error", result.Status)
		require.False(t, *result.RequiresClientHandling, "its device may drop it")
		require.Equal(t, "dismissed", b.status(t, record))
	})

	// No receipt may stand for it, because another device may mean the same.
	for _, test := range []struct{ name, id, device string }{
		{"OneWithoutTransactionID", "00000000-0000-4000-8000-000000000041", `"client_id":"unnumbered",`},
		{"OneWithoutAnyID", "00000000-0000-4000-8000-000000000042", ""},
	} {
		t.Run("TheTeamDismisses"+test.name, func(t *testing.T) {
			put := func() rig.Result {
				return b.Upload(t, "bob", fmt.Sprintf(`{%s"transactions":[{"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"LOUD"}}]}]}`, test.device, test.id)).Results(t)[0]
			}
			require.True(t, *put().RequiresClientHandling)
			record := b.db.Text(t, `select id::text from postern.rejected_writes where transaction::text like '%' || $1 || '%'`, test.id)
			mustPostern(t, b.db.LoginURL, "rejected", "dismiss", record)
			result := put()
			require.Equal(t, "TOO_LOUD", result.FailedOperation.ErrorCode)
			require.False(t, *result.RequiresClientHandling, "its device may drop it")
			require.Equal(t, "dismissed", b.status(t, record))
			require.False(t, *put().RequiresClientHandling)
			require.Equal(t, "open", b.status(t, record), "another device's, perhaps")
			require.True(t, *put().RequiresClientHandling)
		})
	}

	// The rule is asked after the operations were made: a dry run must not end
	// before it.
	t.Run("ADryRunAsksEveryRule", func(t *testing.T) {
		b.put(t, "dry", 50, "shut")
		record := b.recordOf(t, "dry", 50)
		output, err := postern(t, b.db.LoginURL, "rejected", "replay", record, "--policies", b.policies(t), "--dry-run")
		require.Error(t, err)
		require.Contains(t, output, "SHUT")
	})
}
