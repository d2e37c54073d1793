package examples_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/upload"
	"postern/tests/rig"
)

// ruled are policies with a number of rules over what was sent.
func ruled(t testing.TB, rules int) *policies.Live {
	var yaml strings.Builder
	yaml.WriteString("tables:\n  todos:\n    allow: all\n    rules:\n")
	for i := range rules {
		fmt.Fprintf(&yaml, "      - {name: r%d, when: has(data.title), check: size(data.title) <= %d && new.qty >= 0, code: NO, message: No}\n", i, 200+i)
	}
	if rules == 0 {
		return rig.Policies(t, "tables: {todos: {allow: all}}")
	}
	return rig.Policies(t, yaml.String())
}

func batch(t testing.TB, operations int) upload.Transaction {
	crud := make([]string, operations)
	for i := range crud {
		crud[i] = op("PUT", "todos", uuid.NewString(), fmt.Sprintf(`"title":"task %d","qty":%d`, i, i), "")
	}
	return transaction(t, strings.Join(crud, ","))
}

// BenchmarkRules is what rules over what was sent cost in transactions of 1 and of 100
// operations, the database included, as a ratio to none.
func BenchmarkRules(b *testing.B) {
	me := as(b, ann, nil)
	for _, operations := range []int{1, 100} {
		var none time.Duration
		for _, rules := range []int{0, 1, 5, 20} {
			w := newWorld(b, testdata, ruled(b, rules))
			b.Run(fmt.Sprintf("Operations/%d/Rules/%d", operations, rules), func(b *testing.B) {
				for b.Loop() {
					require.Equal(b, upload.Success, w.apply(b, me, batch(b, operations)).Status)
				}
				none = report(b, operations, rules, none)
			})
		}
	}
}

// BenchmarkStored is what rules cost that need more than was sent: the row as it was, the
// row as it will be, and a row of another table.
func BenchmarkStored(b *testing.B) {
	me := as(b, ann, nil)
	none := map[int]time.Duration{}
	for i, rule := range []struct{ name, yaml string }{
		{"None", ""},
		{"Old", "{name: r, check: old == null || old.qty <= new.qty, code: NO, message: No}"},
		{"New", "{name: r, check: '!new.done', code: NO, message: No}"},
		{"LookupOfAnother", "{name: r, lookup: {other: select archived from lists where id = $id}, check: lookup.other == null, code: NO, message: No}"},
		{"LookupOfTheTable", "{name: r, lookup: {other: select qty from todos where id = $id}, check: lookup.other == null, code: NO, message: No}"},
	} {
		live := rig.Policies(b, "tables: {todos: {allow: all, rules: ["+rule.yaml+"]}}")
		w := newWorld(b, testdata, live)
		require.NoError(b, w.prepare(b, live))
		for _, operations := range []int{1, 100} {
			b.Run(fmt.Sprintf("Operations/%d/%s", operations, rule.name), func(b *testing.B) {
				for b.Loop() {
					require.Equal(b, upload.Success, w.apply(b, me, batch(b, operations)).Status)
				}
				none[operations] = report(b, operations, i, none[operations])
			})
		}
	}
}

// BenchmarkNames is what five rules cost that share a lookup or an expression, by a let
// or a function, beside rules in which it is written out.
func BenchmarkNames(b *testing.B) {
	const (
		sql   = "select archived from lists where id = $new.list_id"
		check = "size(data.title) <= 200 && data.title.matches('^task [0-9]+$')"
	)
	five := func(rule string) (rules string) {
		for i := range 5 {
			rules += fmt.Sprintf("{name: r%d, on: [create, update], code: NO, message: No, %s}, ", i, rule)
		}
		return "rules: [" + rules + "]"
	}
	me := as(b, ann, nil)
	var none time.Duration
	for i, named := range []struct{ name, top, policy string }{
		{"None", "", ""},
		{"Expressions", "", five("check: \"" + check + "\"")},
		{"Function", "functions: {\"isTask(t string)\": \"size(t) <= 200 && t.matches('^task [0-9]+$')\"}", five("check: isTask(data.title)")},
		{"LetOfAnExpression", "", "let: {isTask: \"" + check + "\"}, " + five("check: isTask")},
		{"Lookups", "", five("lookup: {l: " + sql + "}, check: lookup.l == null || !lookup.l.archived")},
		{"LetOfALookup", "", "let: {l: {lookup: " + sql + "}}, " + five("check: l == null || !l.archived")},
	} {
		live := rig.Policies(b, named.top+"\ntables: {todos: {allow: all, "+named.policy+"}}")
		w := newWorld(b, testdata, live)
		require.NoError(b, w.prepare(b, live))
		b.Run(named.name, func(b *testing.B) {
			for b.Loop() {
				require.Equal(b, upload.Success, w.apply(b, me, batch(b, 100)).Status)
			}
			none = report(b, 100, i, none)
		})
	}
}

// BenchmarkActions is what a rule on create or update costs a PUT of a new row: it is met
// by what was sent, or the row is read.
func BenchmarkActions(b *testing.B) {
	me := as(b, ann, nil)
	var none time.Duration
	for i, rule := range []struct{ name, yaml string }{
		{"None", ""},
		{"CreateAndUpdate", "{name: r, on: [create, update], check: data.qty >= 0, code: NO, message: No}"},
		{"CreateThatIsMet", "{name: r, on: [create], check: data.qty >= 0, code: NO, message: No}"},
		{"UpdateThatIsNotMet", "{name: r, on: [update], check: data.qty < 0, code: NO, message: No}"},
	} {
		w := newWorld(b, testdata, rig.Policies(b, "tables: {todos: {allow: all, rules: ["+rule.yaml+"]}}"))
		b.Run(rule.name, func(b *testing.B) {
			for b.Loop() {
				require.Equal(b, upload.Success, w.apply(b, me, batch(b, 100)).Status)
			}
			none = report(b, 100, i, none)
		})
	}
}

// lists is a transaction that makes lists of nine todos each; a single operation is a list.
func lists(t testing.TB, operations int) upload.Transaction {
	crud, list := make([]string, operations), ""
	for i := range crud {
		if i%10 == 0 {
			list = uuid.NewString()
			crud[i] = op("PUT", "lists", list, fmt.Sprintf(`"name":"list %d","owner_id":%q`, i, ann), "")
			continue
		}
		crud[i] = op("PUT", "todos", uuid.NewString(), fmt.Sprintf(`"title":"task %d","qty":%d,"list_id":%q`, i, i, list), "")
	}
	return transaction(t, strings.Join(crud, ","))
}

// costs are policies for a todo, by what they have.
var costs = []struct{ name, top, table, transaction string }{
	{"none", "", "", ""},
	{"rule", "", "rules: [{name: r, check: new.qty >= 0, code: NO, message: No}]", ""},
	{"let", "", "let: {calm: new.qty >= 0}, rules: [{name: r, check: calm, code: NO, message: No}]", ""},
	{"old", "", "rules: [{name: r, check: old == null || old.qty <= new.qty, code: NO, message: No}]", ""},
	{"observe", "", "mode: observe, rules: [{name: r, check: old == null || old.qty <= new.qty, code: NO, message: No}]", ""},
	{"set", "", "set: {title: \"data.title + '!'\"}", ""},
	{"set-old", "", "set: {title: {when: old == null || old.title != new.title, value: \"new.title + '!'\"}}", ""},
	{"lookup", "", "rules: [{name: r, on: [create, update], lookup: {l: select archived from lists where id = $new.list_id}, check: lookup.l == null || !lookup.l.archived, code: NO, message: No}]", ""},
	{"let-lookup", "let: {me: {lookup: select 1 as n where $auth.sub <> ''}}", "rules: [{name: r, check: me.n == 1, code: NO, message: No}]", ""},
	{"transaction", "", "", `check: "sum(tx.of('todos').map(o, o.data.qty)) >= 0"`},
	{"transaction-lookup", "", "", "lookup: {l: select 1 as n}, check: lookup.l.n == 1"},
	{"transaction-each", "", "", "each: {lists: id, todos: list_id}, lookup: {todos: {rows: select qty from todos where list_id = $each}}, check: 'sum(lookup.todos.map(t, t.qty)) >= 0'"},
}

// BenchmarkCosts is what the parts of policies cost, the database included, as ratios to none.
// The policies take turns, so that what else the machine does hits all of them alike.
func BenchmarkCosts(b *testing.B) {
	me := as(b, ann, nil)
	worlds := make([]*world, len(costs))
	for i, c := range costs {
		yaml := c.top + "\ntables: {lists: {allow: all}, todos: {allow: all, " + c.table + "}}"
		if c.transaction != "" {
			yaml += "\ntransaction: {rules: [{name: r, code: NO, message: No, " + c.transaction + "}]}"
		}
		live := rig.Policies(b, yaml)
		worlds[i] = newWorld(b, testdata, live)
		worlds[i].Exec(b, "create index on todos (list_id)")
		require.NoError(b, worlds[i].prepare(b, live))
	}
	for operations, batch := range map[int]func(testing.TB, int) upload.Transaction{1: batch, 10: lists, 100: lists} {
		b.Run(fmt.Sprintf("Operations/%d", operations), func(b *testing.B) {
			times := make([][]time.Duration, len(costs))
			for b.Loop() {
				for i, w := range worlds {
					transaction := batch(b, operations)
					started := time.Now()
					require.Equal(b, upload.Success, w.apply(b, me, transaction).Status, costs[i].name)
					times[i] = append(times[i], time.Since(started))
				}
			}
			for i, c := range costs {
				b.ReportMetric(float64(quartile(times[i]))/float64(quartile(times[0])), c.name+"-x-none")
			}
		})
	}
}

// quartile is the time that a quarter of the times do not exceed: other programs disturb it
// less than the mean.
func quartile(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/4]
}

// report reports the time of an operation and its ratio to the one without rules,
// which it returns.
func report(b *testing.B, operations, rules int, none time.Duration) time.Duration {
	each := b.Elapsed() / time.Duration(b.N*operations)
	b.ReportMetric(float64(each.Nanoseconds()), "ns/operation")
	if rules == 0 {
		none = each
	}
	b.ReportMetric(float64(each)/float64(none), "x-none")
	return none
}
