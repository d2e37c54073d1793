package conformance_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service"
	"postern/service/local"
	"postern/tests/rig"
)

const (
	decisionSchema = `
		create table docs (id text primary key, title text, qty int, updated_at timestamptz, owner uuid);
		create table changes (row_id text, field text, previous jsonb, value jsonb);
		create table plain (id text primary key, title text check (title <> 'unchecked'));
		create table hidden (id text primary key, title text);
		grant select, insert, update, delete on docs, changes, plain, hidden to authenticated;
		create function trouble() returns trigger language plpgsql as $$ begin
			if new.title = 'trouble' then raise sqlstate '54000'; end if;
			if new.title = 'suppressed' then return null; end if;
			return new;
		end $$;
		create trigger trouble before insert or update on plain for each row execute function trouble();
		alter table hidden enable row level security;
		create policy p on hidden to authenticated using (title <> 'theirs');
		insert into docs (id, title, qty, updated_at) values ('late', 'a', 10, now()), ('merged', 'a', 10, now());
		insert into plain values ('p', 'a'), ('gone', 'a');
		insert into hidden values ('theirs', 'theirs'), ('mine', 'mine')`
	decisionPolicies = `
tables:
  docs: {allow: all, conflict: {columns: {title: {newest: updated_at}, qty: increment}}}
  whole: {table: docs, allow: all, conflict: {newest: updated_at}}
  kept: {table: plain, allow: all, history: changes, put: insert}
  erased: {table: plain, allow: all, history: changes}
  plain: {allow: all, rules: [{name: no-bad-title, on: [create, update], check: new.title != 'bad', code: BAD, message: No}]}
  read: {table: plain, allow: all, rules: [{name: r, on: [update], check: "old.title != 'locked'", code: LOCKED, message: No}]}
  hidden: {allow: all}
  observed: {table: plain, allow: all, mode: observe, rules: [{name: never, check: "new.title != 'a'", code: N, message: No}, {name: passes, check: "new.title != 'b'", code: N, message: No}, {name: stored, on: [update], check: "old.title != 'a'", code: N, message: No}]}
  coded: {table: plain, allow: all}`
)

// TestDecisionLog has a line for each transaction, whatever becomes of it.
func TestDecisionLog(t *testing.T) {
	t.Parallel()
	adds := policies.CodeRule{Name: "adds", Tables: []string{"coded"}, Decide: func(_ context.Context, tx *policies.Tx) error {
		if tx.Operations[0].ID == "refused" {
			return policies.NewRejection("REFUSED", "No", -1)
		}
		added := tx.Operations[0]
		added.ID += "-added"
		tx.Operations = append(tx.Operations, added)
		return nil
	}}
	many, observing := make([]string, 25), make([]string, 25)
	for i := range many {
		many[i] = op("PUT", fmt.Sprintf("table%02d", i), "x", `"title":"a"`)
		observing[i] = fmt.Sprintf("{name: rule%02d, check: 'false', code: N, message: No}", i)
	}
	set := decisionPolicies + "\n  many: {table: plain, allow: all, mode: observe, rules: [" + strings.Join(observing, ", ") + "]}"
	const before, success = `"updated_at":"2020-01-01T00:00:00Z"`, `"outcome":"success"`
	for _, test := range []struct {
		name  string
		crud  string
		times int // that it is sent, with the same ids; 0 is once
		want  string
	}{
		{name: "Puts", crud: op("PUT", "plain", "a", `"title":"a"`) + "," + op("PUT", "plain", "b", `"title":"a"`), want: `"operations":2,"tables":["plain"],` + success + `,"rows":2,"dropped":0,"merged":0`},
		{name: "Tables", crud: op("PUT", "plain", "a", `"title":"a"`) + "," + op("PUT", "hidden", "b", `"title":"a"`), want: `"operations":2,"tables":["plain","hidden"],` + success + `,"rows":2,"dropped":0,"merged":0`},
		{name: "Empty", want: `"operations":0,"tables":[],` + success + `,"rows":0,"dropped":0,"merged":0`},
		{name: "Repeated", crud: op("PUT", "plain", "a", `"title":"a"`), times: 2, want: `"operations":1,"tables":["plain"],` + success + `,"repeated":true,"rows":0,"dropped":0,"merged":0`},
		{name: "PatchAndDelete", crud: op("PATCH", "plain", "p", `"title":"b"`) + "," + op("DELETE", "plain", "gone", ""), want: `"operations":2,"tables":["plain"],` + success + `,"rows":2,"dropped":0,"merged":0`},
		{name: "MissingRow", crud: op("PATCH", "plain", "none", `"title":"b"`) + "," + op("DELETE", "plain", "none", ""), want: `"operations":2,"tables":["plain"],` + success + `,"rows":0,"dropped":0,"merged":0`},
		{name: "ExplainedPatch", crud: op("PATCH", "hidden", "mine", `"title":"b"`) + "," + op("PATCH", "hidden", "none", `"title":"b"`), want: `"operations":2,"tables":["hidden"],` + success + `,"rows":1,"dropped":0,"merged":0`},
		{name: "NoColumns", crud: op("PATCH", "read", "p", ""), want: `"operations":1,"tables":["read"],` + success + `,"rows":0,"dropped":0,"merged":0`},
		{name: "Suppressed", crud: op("PUT", "plain", "a", `"title":"suppressed"`), want: `"operations":1,"tables":["plain"],` + success + `,"rows":0,"dropped":0,"merged":0`},
		{name: "History", crud: op("PUT", "kept", "new", `"title":"a"`) + "," + op("DELETE", "erased", "p", "") + "," + op("DELETE", "erased", "none", ""), want: `"operations":3,"tables":["kept","erased"],` + success + `,"rows":2,"dropped":0,"merged":0`},
		{name: "Dropped", crud: op("PATCH", "whole", "late", `"title":"b",`+before), want: `"operations":1,"tables":["whole"],` + success + `,"rows":0,"dropped":1,"merged":0`},
		{name: "DroppedAndMerged", crud: patch("docs", "merged", `"title":"b","qty":12,`+before, `"qty":11`), want: `"operations":1,"tables":["docs"],` + success + `,"rows":1,"dropped":1,"merged":1`},
		{name: "Rule", crud: op("PUT", "plain", "a", `"title":"a"`) + "," + op("PUT", "plain", "b", `"title":"bad"`), want: `"operations":2,"tables":["plain"],"outcome":"fatal_error","code":"BAD","operation":1,"rule":"no-bad-title","rows":0,"dropped":0,"merged":0`},
		{name: "RuleInGo", crud: op("PUT", "coded", "a", `"title":"a"`), want: `"operations":1,"tables":["coded"],` + success + `,"rows":2,"dropped":0,"merged":0`},
		{name: "RuleInGoRejects", crud: op("PUT", "coded", "refused", `"title":"a"`), want: `"operations":1,"tables":["coded"],"outcome":"fatal_error","code":"REFUSED","rule":"adds","rows":0,"dropped":0,"merged":0`},
		{name: "Observing", crud: op("PUT", "observed", "a", `"title":"a"`) + "," + op("PUT", "observed", "p", `"title":"a"`), want: `"operations":2,"tables":["observed"],` + success + `,"would_reject":["never","stored"],"rows":2,"dropped":0,"merged":0`},
		{name: "ObservingPasses", crud: op("PUT", "observed", "a", `"title":"c"`), want: `"operations":1,"tables":["observed"],` + success + `,"rows":1,"dropped":0,"merged":0`},
		{name: "ObservingBesideARule", crud: op("PUT", "observed", "a", `"title":"a"`) + "," + op("PUT", "plain", "b", `"title":"bad"`), want: `"operations":2,"tables":["observed","plain"],"outcome":"fatal_error","code":"BAD","operation":1,"rule":"no-bad-title","rows":0,"dropped":0,"merged":0`},
		{name: "ManyObserving", crud: op("PUT", "many", "a", `"title":"a"`), want: `"operations":1,"tables":["many"],` + success + `,"would_reject":["rule00","rule01","rule02","rule03","rule04","rule05","rule06","rule07","rule08","rule09","rule10","rule11","rule12","rule13","rule14","rule15","rule16","rule17","rule18","rule19"],"rows":1,"dropped":0,"merged":0`},
		{name: "Constraint", crud: op("PUT", "plain", "a", `"title":"a"`) + "," + op("PUT", "plain", "b", `"title":"unchecked"`), want: `"operations":2,"tables":["plain"],"outcome":"fatal_error","code":"CHECK_VIOLATION","operation":1,"rows":0,"dropped":0,"merged":0`},
		{name: "Hidden", crud: op("PATCH", "hidden", "theirs", `"title":"b"`), want: `"operations":1,"tables":["hidden"],"outcome":"fatal_error","code":"UNAUTHORIZED","operation":0,"rows":0,"dropped":0,"merged":0`},
		{name: "Trouble", crud: op("PUT", "plain", "a", `"title":"trouble"`), want: `"operations":1,"tables":["plain"],"outcome":"retryable_error","rows":0,"dropped":0,"merged":0`},
		{name: "ManyTables", crud: strings.Join(many, ","), want: `"operations":25,"tables":["table00","table01","table02","table03","table04","table05","table06","table07","table08","table09","table10","table11","table12","table13","table14","table15","table16","table17","table18","table19"],"outcome":"fatal_error","code":"UNAUTHORIZED","operation":0,"rows":0,"dropped":0,"merged":0`},
		{name: "LongName", crud: op("PUT", strings.Repeat("é", 101), "x", `"title":"a"`), want: `"operations":1,"tables":["` + strings.Repeat("é", 100) + `…"],"outcome":"fatal_error","code":"UNAUTHORIZED","operation":0,"rows":0,"dropped":0,"merged":0`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, lines := setupDecisions(t, decisionSchema, rig.Policies(t, set).WithCode(adds))
			for range max(test.times, 1) {
				b.Send(t, http.MethodPost, "/api/data", `{"client_id":"c","transactions":[{"transaction_id":7,"crud":[`+test.crud+`]}]}`,
					"Authorization", "Bearer "+b.Token(t, "alice"), "X-Request-Id", "from-the-app")
			}
			all := lines(t)
			require.Len(t, all, max(test.times, 1))
			last := all[len(all)-1]
			var times map[string]float64
			require.NoError(t, json.Unmarshal(last["ms"], &times))
			require.Positive(t, times["total"])
			require.Contains(t, times, "plan")
			require.NotEmpty(t, last["time"])
			delete(last, "ms")
			delete(last, "time")
			want := map[string]jsontext.Value{}
			require.NoError(t, json.Unmarshal([]byte(`{"request_id":"from-the-app","subject":"`+local.UserID("alice")+`","transaction":0,"transaction_id":"7",`+test.want+`}`), &want))
			require.Equal(t, texts(want), texts(last))
		})
	}
}

// TestDecisionsOfARequest has transactions of all outcomes in one request, in their order.
func TestDecisionsOfARequest(t *testing.T) {
	t.Parallel()
	b, lines := setupDecisions(t, decisionSchema, rig.Policies(t, decisionPolicies))
	put := func(title string) string {
		return `{"transaction_id":1,"crud":[` + op("PUT", "plain", title, `"title":"`+title+`"`) + `]}`
	}
	b.Upload(t, "alice", `{"client_id":"c","transactions":[`+strings.Join([]string{put("a"), put("a"), put("bad"), put("trouble"), put("b")}, ",")+`]}`)
	var got []string
	for _, line := range lines(t) {
		got = append(got, string(line["transaction"])+" "+string(line["outcome"])+" "+string(line["rows"])+" "+string(line["repeated"]))
	}
	require.Equal(t, []string{`0 "success" 1 `, `1 "success" 0 true`, `2 "fatal_error" 0 `, `3 "retryable_error" 0 `, `4 "not_attempted" 0 `}, got)
}

// TestDecisionSubject has the ways to name a user.
func TestDecisionSubject(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ setting, want string }{
		{"plain", `"` + local.UserID("alice") + `"`},
		{"hashed", `"0d9eaa0386272d8498130d909d67c0f3"`}, // of sha256sum
		{"omitted", ""},
	} {
		t.Run(test.setting, func(t *testing.T) {
			t.Parallel()
			b, lines := setupDecisions(t, decisionSchema, rig.Policies(t, decisionPolicies), func(c *service.Config) { c.DecisionSubject = test.setting })
			b.One(t, "alice", op("PUT", "plain", "a", `"title":"a"`))
			require.Equal(t, test.want, string(lines(t)[0]["subject"]))
		})
	}
}

// TestNoDecisionLog is the default.
func TestNoDecisionLog(t *testing.T) {
	t.Parallel()
	require.Empty(t, service.Default().DecisionLog)
	b := setup(t)
	b.list(t, "alice", "a")
	require.Equal(t, []string{"postern_decisions_lost_total 0"}, counted(t, b, "postern_decisions_lost_total"))
}

// TestDecisionLogThatFails has a full disk. Writes go on, the lines are counted, and the
// log says so once.
func TestDecisionLogThatFails(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		rig.Unable(t, "this system has no /dev/full")
	}
	b := &testBundle{Service: rig.NewService(t, rig.DemoPolicies(t), func(c *service.Config) { c.DecisionLog = "/dev/full" })}
	b.list(t, "alice", "a")
	b.list(t, "alice", "b")
	require.Equal(t, []string{"postern_decisions_lost_total 2"}, counted(t, b, "postern_decisions_lost_total"))
	require.Equal(t, 1, strings.Count(b.Logs.String(), "cannot write the decision log"))
}

// setupDecisions is setupSchema with a decision log that names users plainly. lines are
// those written so far.
func setupDecisions(t *testing.T, schema string, set *policies.Live, changes ...func(*service.Config)) (b *testBundle, lines func(t *testing.T) []map[string]jsontext.Value) {
	t.Helper()
	database := rig.NewDatabase(t)
	database.Exec(t, schema)
	file := filepath.Join(t.TempDir(), "decisions")
	log := func(c *service.Config) { c.DecisionLog, c.DecisionSubject = file, "plain" }
	b = &testBundle{Service: rig.NewServiceOn(t, database, set, append([]func(*service.Config){log}, changes...)...), db: database}
	return b, func(t *testing.T) (all []map[string]jsontext.Value) {
		t.Helper()
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for text := range strings.Lines(string(content)) {
			line := map[string]jsontext.Value{}
			require.NoError(t, json.Unmarshal([]byte(text), &line), text)
			all = append(all, line)
		}
		return all
	}
}

// texts are the members of a JSON object as texts.
func texts(members map[string]jsontext.Value) map[string]string {
	texts := map[string]string{}
	for name, value := range members {
		texts[name] = string(value)
	}
	return texts
}
