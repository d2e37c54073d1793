package faults_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service"
	"postern/tests/rig"
)

// What the log says of new policies.
const reloaded, refused = `"msg":"policies reloaded"`, `"msg":"the new policies are not taken`

// changes are made to the database, or to the policies, in this order. No change alters what
// a write does. After the last one, everything is as it was before the first.
var changes = []struct{ name, sql, policies string }{
	{name: "AddColumn", sql: `alter table entries add column note text default 'none'`},
	{name: "RuleOverStoredRows", policies: strings.Replace(policies, "entries: {allow: [put, patch, delete]}",
		`entries: {allow: [put, patch, delete], rules: [{name: r, on: [patch, delete], check: "old.marker != 'never'", code: NEVER, message: No}]}`, 1)},
	{name: "WiderColumn", sql: `alter table entries alter amount type bigint`},
	{name: "DropColumn", sql: `alter table entries drop column note`},
	{name: "BrokenPolicies", policies: "tables: {entries: {allow: [everything]}}"},
	{name: "OtherType", sql: `alter table counters alter n type numeric`},
	{name: "NewPolicy", sql: `begin; drop policy own on entries; create policy own on entries to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid()); commit`},
	{name: "Lookup", policies: strings.Replace(policies, "counters: {allow: [put, patch, delete]}",
		`counters: {allow: [put, patch, delete], rules: [{name: r, lookup: {c: "select n from counters where id = $new.id"}, check: "lookup.c.n >= 0", code: NEVER, message: No}]}`, 1)},
	{name: "NewConstraint", sql: `begin; alter table entries drop constraint entries_amount_check; alter table entries add check (amount >= 0); commit`},
	{name: "NarrowerColumn", sql: `alter table entries alter amount type integer`},
	{name: "FormerType", sql: `alter table counters alter n type bigint`},
	{name: "Index", sql: `create index entries_marker on entries (marker)`},
	{name: "NewTrigger", sql: `begin; drop trigger count_up on counters; create trigger count_up before update on counters for each row execute function count_up(); commit`},
	{name: "NoIndex", sql: `drop index entries_marker`},
	{name: "FormerPolicies", policies: policies},
}

// TestChanges changes tables and policies while devices upload, over direct connections, on
// which statements are named and prepared.
func TestChanges(t *testing.T) {
	t.Parallel()
	rounds, each := 4, 400
	if testing.Short() {
		rounds, each = 1, 80
		t.Log("short: each change once instead of 4 times")
	}
	db, s := rig.NewDatabase(t), seed(t)
	setUp(t, db, users...)
	live := rig.Policies(t, policies)
	running := rig.NewServiceOn(t, db, live, func(c *service.Config) { c.DatabaseURL += "&pool_max_conns=8" })
	w := newWorld(s, func(user string) string { return running.Token(t, user) }, users, 8, each)
	for _, d := range w.devices {
		d.most = 10
	}
	w.upload(t.Context(), func() string { return running.URL })
	for i, at := range w.moments(s, rounds*len(changes)) {
		require.True(t, w.reached(at), "the devices ended early: %v", w.failed)
		change := changes[i%len(changes)]
		if change.policies != "" {
			before := strings.Count(running.Logs.String(), reloaded) + strings.Count(running.Logs.String(), refused)
			require.NoError(t, os.WriteFile(filepath.Join(live.Dir(), "test.yaml"), []byte(change.policies), 0o600))
			require.Eventually(t, func() bool {
				return strings.Count(running.Logs.String(), reloaded)+strings.Count(running.Logs.String(), refused) > before
			}, time.Minute, 10*time.Millisecond, change.name)
			continue
		}
		_, err := db.Owner.Exec(t.Context(), change.sql)
		require.NoError(t, err, change.name)
	}
	w.await(t)
	w.verify(t, db)
	require.Equal(t, 3*rounds, strings.Count(running.Logs.String(), reloaded))
	require.Equal(t, rounds, strings.Count(running.Logs.String(), refused))
}
