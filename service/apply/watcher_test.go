package apply

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/plan"
	"postern/service/timing"
)

// TestSightings has what a backend was seen to run, and what a trace says of it. Times are
// in milliseconds.
func TestSightings(t *testing.T) {
	t.Parallel()
	read := func(table, sql string) step {
		return step{kind: reading, operation: &plan.Operation{Table: &catalog.Table{Schema: "public", Name: table}}, Statement: plan.Statement{SQL: sql}}
	}
	const rest = ", more than Postgres keeps of a statement"
	steps := []step{
		ours(session, `select set_config($1)`), ours(receipts, `select receipts`),
		read("lists", `select lists`), read("todos", `select lists and todos`), read("wide", `select wide`+rest),
	}
	type seen struct {
		at, since int
		query     string
		commits   bool
	}
	type found struct {
		what     string
		from, to int
	}
	for _, test := range []struct {
		name string
		seen []seen
		end  int
		want []found
	}{
		{name: "Nothing", end: 100},
		{"One", []seen{{100, 5, "select lists", false}, {150, 5, "select lists", false}}, 180, []found{{"read public.lists", 5, 180}}},
		{"SeenOnce", []seen{{100, 50, "select receipts", false}}, 120, []found{{"receipts", 50, 120}}},
		{"TwoInARow", []seen{{100, 5, "select receipts", false}, {150, 110, "select lists", false}, {200, 110, "select lists", false}}, 240, []found{{"receipts", 5, 110}, {"read public.lists", 110, 240}}},
		{"TwiceTheSame", []seen{{100, 5, "select lists", false}, {150, 100, "select lists", false}}, 200, []found{{"read public.lists", 5, 100}, {"read public.lists", 100, 200}}},
		{"ManyFast", []seen{{100, 90, "select lists", false}, {150, 120, "select lists", false}, {200, 180, "select lists", false}}, 240, nil},
		{"AtTheEnd", []seen{{100, 90, "select lists", false}, {150, 120, "select receipts", false}, {200, 120, "select receipts", false}}, 240, []found{{"receipts", 120, 240}}},
		{"Commit", []seen{{100, 5, "select lists", false}, {150, 5, "select lists", true}, {200, 5, "select lists", true}}, 240, []found{{"read public.lists", 5, 100}, {"commit", 100, 240}}},
		{"CommitAlone", []seen{{100, 5, "select lists", true}}, 140, []found{{"commit", 5, 140}}},
		{"WholeTextCounts", []seen{{100, 5, "select lists and todos", false}}, 140, []found{{"read public.todos", 5, 140}}},
		{"BeginningOfText", []seen{{100, 5, "select wide, more than", false}}, 140, []found{{"read public.wide", 5, 140}}},
		{"Unknown", []seen{{100, 5, "select receipts", false}, {150, 110, "vacuum", false}, {200, 110, "vacuum", false}}, 240, []found{{"receipts", 5, 110}}},
		{"BeforeTheRoundTrip", []seen{{100, -20, "select receipts", false}}, 140, []found{{"receipts", 0, 140}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				laps := timing.Start()
				laps.Keep()
				kept := laps.Kept()
				until := func(at int) { time.Sleep(time.Duration(at)*time.Millisecond - kept.Now()) }
				w := &watcher{slow: map[*trip]bool{}, asking: true}
				trip := &trip{watcher: w, kept: kept, steps: steps}
				trip.timer = time.AfterFunc(timing.Slow, trip.isSlow)
				for _, s := range test.seen {
					until(s.at)
					clock := time.Now().Add(time.Hour) // that of Postgres
					trip.saw(sighting{At: clock, Since: clock.Add(time.Duration(s.since-s.at) * time.Millisecond), Query: s.query, Commits: s.commits})
				}
				until(test.end)
				synctest.Wait()
				trip.end()
				var all []found
				for _, s := range kept.Statements {
					what := strings.TrimSuffix(s.Operation+" "+s.Table, " ")
					all = append(all, found{what, int(s.From.Milliseconds()), int(s.To.Milliseconds())})
				}
				require.Equal(t, test.want, all)
				require.Empty(t, w.slow)
			})
		})
	}
}
