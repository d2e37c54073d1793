package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/tests/rig"
)

// TestRoundTrips counts at a proxy before the database, whose delay keeps an
// answer from overtaking the rest of its request.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	database := rig.NewDatabase(t)
	database.Exec(t, shop)
	database.Exec(t, `
		create table notes (id text primary key, title text, gone boolean not null default false);
		create table changes (row_id text, field text, previous jsonb, value jsonb);
		create table parts (id text primary key, name text);
		grant select, insert, update, delete on notes, changes, parts to authenticated`)
	proxy := rig.NewProxy(t, rig.HostPort(t, database.LoginURL), rig.ProxyOptions{RoundTrip: 5 * time.Millisecond})
	url, err := proxy.URL(database.LoginURL)
	require.NoError(t, err)
	direct := *database
	direct.LoginURL = url + "&pool_max_conns=1"
	s := rig.NewServiceOn(t, &direct, rig.Policies(t, shopPolicies+`
  parts: {allow: all}
  notes: {allow: all, soft_delete: gone, history: changes}
  made: {table: notes, allow: all, rules: [{name: r, on: [create], check: new.title != 'no', code: NO, message: No}]}
  inserted: {table: notes, allow: [create], rules: [{name: r, on: [create], check: new.title != 'no', code: NO, message: No}]}
  changed: {table: notes, allow: [update]}
  observed: {table: notes, allow: all, mode: observe, rules: [{name: r, check: size(new.title) > 5, code: NO, message: No}]}
  set: {table: notes, allow: all, set: {title: "new.title + '!' + auth.sub"}}
  set_by_old: {table: notes, allow: all, set: {title: {when: old == null || old.title != new.title, value: "new.title + '!'"}}}
  set_and_ruled: {table: notes, allow: all, set: {title: {when: old != null, value: old.title}}, rules: [{name: r, check: old == null || old.title != 'no', code: NO, message: No}]}
  merged: {table: notes, allow: all, history: changes, conflict: {columns: {title: fields}}}
transaction:
  rules:
    - {name: named, each: {parts: name}, check: each != 'no', code: NO, message: No}`))
	s.One(t, "alice", op("PUT", "parents", "warm", "")) // connects
	s.AwaitTidy(t)

	request := func(transactions ...string) string {
		for i, crud := range transactions {
			transactions[i] = fmt.Sprintf(`{"transaction_id":%d,"crud":[%s]}`, time.Now().UnixNano(), crud)
		}
		return `{"transactions":[` + strings.Join(transactions, ",") + `]}`
	}
	put := func(id int) string { return op("PUT", "parents", fmt.Sprint("r", id), `"name":"x"`) }
	many := func(n int, f func(int) string) (list []string) {
		for i := range n {
			list = append(list, f(i))
		}
		return list
	}
	good, bad := put(1), op("PUT", "parents", "bad", `"name":"raise"`)
	for _, test := range []struct {
		name    string
		request string
		count   int64
	}{
		{"NothingToDo", request(""), 0},
		{"One", request(good), 1},
		{"AThousandOperations", request(strings.Join(many(1000, put), ",")), 1},
		{"FiftyTransactions", request(many(50, put)...), 1},
		{"RejectedByThePolicies", request(op("PUT", "nothing", "1", "")), 1},
		{"RejectedByThePoliciesAmongOthers", request(good, op("PUT", "nothing", "1", ""), good), 1},
		{"WithAHistoryAndASoftDelete", request(op("PUT", "notes", "1", `"title":"a"`), op("PATCH", "notes", "1", `"title":"b"`), op("DELETE", "notes", "1", ""), op("PATCH", "notes", "1", `"title":"c"`)), 1},
		{"ARuleOnCreateThatWhatWasSentMeets", request(op("PUT", "made", "m", `"title":"a"`)), 1},
		{"ARuleOnCreateThatDependsOnTheRow", request(op("PUT", "made", "m", `"title":"no"`)), 2},
		{"ARuleOnCreateOfATableThatIsInsertedInto", request(op("PUT", "inserted", "i", `"title":"no"`)), 1},
		{"ARuleThatObservesWhatWasSent", request(many(50, func(i int) string { return op("PUT", "observed", fmt.Sprint("o", i), `"title":"no"`) })...), 1},
		{"APutThatUpdates", request(op("PUT", "changed", "m", `"title":"b"`)), 1},
		{"WithAStrategyByColumn", request(op("PUT", "merged", "2", `"title":"a"`), patch("merged", "2", `"title":"b"`, `"title":"a"`), patch("merged", "2", `"title":"c"`, `"title":"a"`)), 1},
		{"HiddenRow", request(op("PATCH", "things", "theirs", `"required":"y"`)), 2},
		{"ARuleOverTheStoredRow", request(op("PUT", "ruled", "q", "")), 2},
		{"FiftyTransactionsWithSuchARule", request(many(50, func(i int) string { return op("PUT", "ruled", fmt.Sprint("r", i), "") })...), 2},
		{"SetByWhatWasSent", request(op("PUT", "set", "3", `"title":"a"`), op("PATCH", "set", "3", `"title":"b"`)), 1},
		{"SetByTheStoredRow", request(op("PUT", "set_by_old", "3", `"title":"a"`)), 2},
		{"SetByTheStoredRowAfterOthers", request(good, op("PATCH", "set_by_old", "3", `"title":"b"`)), 2},
		{"FiftyTransactionsThatSetByTheStoredRow", request(many(50, func(i int) string { return op("PUT", "set_by_old", fmt.Sprint("s", i), `"title":"a"`) })...), 3},
		{"SetByARowThatAnEarlierOperationChanges", request(op("PATCH", "set_by_old", "3", `"title":"c"`), op("PATCH", "set_by_old", "3", `"title":"d"`)), 3},
		{"SetAndRuledByTheStoredRow", request(op("PATCH", "set_and_ruled", "3", `"title":"e"`)), 3},
		{"ARuleOverRowsAsTheyWillBe", request(op("PUT", "parts", "1", `"name":"a"`), op("PATCH", "parts", "1", `"name":"b"`), op("DELETE", "parts", "1", "")), 2},
		{"FiftyTransactionsUnderThatRule", request(many(50, func(i int) string { return op("PUT", "parts", fmt.Sprint(i), `"name":"a"`) })...), 2},
		{"TwoPortions", request(strings.Join(many(plan.Portion+1, put), ",")), 3},
		{"TwoPortionsWithSuchARule", request(strings.Join(many(plan.Portion/plan.Guarded+1, func(i int) string { return op("PUT", "ruled", fmt.Sprint("r", i), "") }), ",")), 3},
		{"RejectedByTheDatabase", request(bad), 2},
		{"RejectedByTheDatabaseAmongOthers", request(good, bad, good), 3},
	} {
		before := proxy.RoundTrips()
		s.Upload(t, "alice", test.request).Results(t)
		require.Equal(t, test.count, proxy.RoundTrips()-before, test.name)
	}
	again := request(many(50, put)...)
	s.Upload(t, "alice", again)
	before := proxy.RoundTrips()
	s.Upload(t, "alice", again).Results(t)
	require.Equal(t, int64(2), proxy.RoundTrips()-before, "a second arrival: it fails, and its answers are read")
}
