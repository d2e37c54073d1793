package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// diffBundle is a database with writes that a service has stored under old policies: two
// accepted ones in a file, and rejected ones.
type diffBundle struct {
	database      *rig.Database
	old, recorded string
}

const oldRules = `
tables:
  items:
    allow: all
    rules:
      - {name: short, check: size(new.title) <= 10, code: TOO_LONG, message: Too long}
`

func setupDiff(t *testing.T) *diffBundle {
	t.Helper()
	b := &diffBundle{database: rig.NewDatabase(t), recorded: filepath.Join(t.TempDir(), "requests.jsonl")}
	b.database.Exec(t, `create table items (id text primary key, title text, owner_id uuid default auth.uid()); create table log (id text);
		create function log_it() returns trigger language plpgsql security definer as $$ begin insert into public.log values (new.id); return new; end $$;
		create trigger log_it after insert or update on items for each row execute function log_it();
		grant select, insert, update, delete on items to authenticated`)
	b.old = b.policies(t, oldRules)
	s := rig.NewServiceOn(t, b.database, rig.Policies(t, oldRules), func(c *service.Config) { c.Record = b.recorded })
	for i, title := range []string{"1234567", "abc", "12345678901", "123456789012"} {
		want := []string{"success", "success", "fatal_error", "fatal_error"}[i]
		require.Equal(t, want, s.One(t, "alice", fmt.Sprintf(`{"op":"PUT","table":"items","id":"i%d","op_data":{"title":%q}}`, i, title)).Status)
	}
	require.Eventually(t, func() bool {
		content, err := os.ReadFile(b.recorded)
		return err == nil && strings.Count(string(content), "\n") == 2
	}, 20*time.Second, 5*time.Millisecond)
	return b
}

func (b *diffBundle) policies(t *testing.T, content string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "app.yaml"), content)
	return dir
}

// state is all that the writes have left in the database.
func (b *diffBundle) state(t *testing.T) string {
	t.Helper()
	return b.database.Text(t, `select concat_ws(' ', (select string_agg(id || title, ',' order by id) from items), (select count(*) from log), (select count(*) from postern.receipts),
		(select string_agg(status || attempts, ',') from postern.rejected_writes), (select count(*) from postern.rejected_actions))`)
}

// TestPolicyDiff has new policies, and what they would change.
func TestPolicyDiff(t *testing.T) {
	t.Parallel()
	b := setupDiff(t)
	before := b.state(t)
	rule := func(rules string) string {
		return "tables: {items: {allow: all, rules: [{name: short, check: size(new.title) <= 10, code: TOO_LONG, message: Too long}, " + rules + "]}}"
	}
	for _, test := range []struct {
		name, policies string
		code           int
		want           []string
	}{
		{"Same", oldRules, 0, []string{"4 writes were tried, and 0 of them would have another outcome"}},
		{"Rejects", rule("{name: shorter, check: size(new.title) <= 5, code: LONG, message: Long}"), 1, []string{
			`1 of 4 would be rejected by rule shorter of items (LONG); with the old policies: accepted`, `such as ` + b.recorded + `:1`}},
		{"Accepts", `tables: {items: {allow: all}}`, 1, []string{`2 of 4 would be accepted; with the old policies: rejected by rule short of items (TOO_LONG)`, `such as rejected write `}},
		{"LeavesItToTheApp", `tables: {items: {allow: all, rules: [{name: short, client: true, check: size(new.title) <= 10, code: TOO_LONG, message: Too long}]}}`, 1,
			[]string{`2 of 4 would be rejected by rule short of items (TOO_LONG, left to the app); with the old policies: rejected by rule short of items (TOO_LONG)`}},
		{"Fails", rule("{name: number, check: int(new.title) > 1, code: NO, message: No}"), 1, []string{
			`1 of 4 would be retried by the client because of rule number: the rule fails to evaluate; with the old policies: accepted`, `:2`}},
		{"Observes", rule("{name: shorter, mode: observe, check: size(new.title) <= 5, code: LONG, message: Long}"), 0, []string{"0 of them would have"}},
		{"Closes", `tables: {things: {table: items, allow: all}}`, 1, []string{`2 of 4 would be rejected in items (UNAUTHORIZED); with`, `2 of 4 would be rejected in items (UNAUTHORIZED); with the old policies: accepted`}},
		{"Mistake", `tables: {nowhere: {allow: all}}`, 2, []string{`the database has no table public.nowhere`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, code := policy(t, b.database.LoginURL, "diff", b.old, b.policies(t, test.policies), "--record", b.recorded)
			require.Equal(t, test.code, code, output)
			for _, want := range test.want {
				require.Contains(t, output, want)
			}
			require.Equal(t, before, b.state(t), "nothing is written")
		})
	}
}

// TestPolicyDiffSources has where writes come from, and how they are chosen.
func TestPolicyDiffSources(t *testing.T) {
	t.Parallel()
	b := setupDiff(t)
	closed := b.policies(t, `tables: {things: {table: items, allow: all}}`)
	b.database.Exec(t, `delete from postern.rejected_identities where id = (select id from postern.rejected_writes order by first_at limit 1)`)
	for _, test := range []struct {
		name           string
		args           []string
		tried, untried int
	}{
		{"RejectedAlone", nil, 1, 1},
		{"Recorded", []string{"--record", b.recorded}, 3, 1},
		{"Later", []string{"--record", b.recorded, "--since", "0h"}, 0, 0},
		{"Skip", []string{"--record", b.recorded, "--skip", "3"}, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			output, _ := policy(t, b.database.LoginURL, append([]string{"diff", b.old, closed, "--json"}, test.args...)...)
			var report struct {
				Tried, Changed int
				Changes        []struct {
					Count    int
					Old, New map[string]any
					Examples []string
				}
				Untried map[string]int
			}
			require.NoError(t, json.Unmarshal([]byte(output), &report), output)
			require.Equal(t, test.tried, report.Tried, output)
			require.Equal(t, test.untried, report.Untried["its author's role and claims are not stored"], output)
			require.Equal(t, test.tried > 0, len(report.Changes) > 0)
			for _, change := range report.Changes {
				require.Equal(t, map[string]any{"outcome": "UNAUTHORIZED", "table": "items"}, change.New)
				require.Len(t, change.Examples, min(change.Count, 3))
			}
		})
	}
	for _, wrong := range [][]string{{"diff", b.old}, {"diff", b.old, closed, "--since", "x"}, {"diff", b.old, closed, "--record", b.old + "/none"}, {"diff", b.old, closed, "--record", b.old + "/app.yaml"}} {
		output, code := policy(t, b.database.LoginURL, wrong...)
		require.Equal(t, 2, code, output)
	}
	output, code := policy(t, "", "diff", b.old, closed)
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "Set DATABASE_URL, or give --database")
}

// TestPolicyDiffInterrupted has Ctrl-C while the first write waits for a lock.
func TestPolicyDiffInterrupted(t *testing.T) {
	t.Parallel()
	b := setupDiff(t)
	conn, err := pgx.Connect(t.Context(), b.database.OwnerURL)
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `lock table items in share mode`)
	require.NoError(t, err)
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), []string{"DATABASE_URL=" + b.database.LoginURL}, rig.Command(t),
		"policy", "diff", b.policies(t, `tables: {items: {allow: all}}`), b.old, "--record", b.recorded)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.Eventually(t, func() bool {
		return b.database.Text(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) != "0"
	}, 20*time.Second, 5*time.Millisecond)
	ended := make(chan int, 1)
	go func() { ended <- p.Signal(os.Interrupt) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = p.Await(ctx, regexp.MustCompile(`(finishing what has begun)`))
	require.NoError(t, err, p.Output())
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, conn.Close(t.Context()))
	require.Equal(t, 2, <-ended, p.Output())
	require.Contains(t, p.Output(), "1 of 1 would be rejected by rule short of items (TOO_LONG)")
	require.Contains(t, p.Output(), "interrupted: go on with --skip 1")
}
