package examples_test

import (
	"fmt"
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
