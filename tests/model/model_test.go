// Package model holds Postern against a naive server that executes one statement
// after the other: random transactions over random schemas, the same rows and the
// same outcomes.
//
//	go test ./tests/model -rapid.checks 500 -timeout 30m
//
// A failure prints the schema, the policies, every request up to it, and the
// seed that makes them again.
package model_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postern/tests/rig"
)

func TestMain(m *testing.M) {
	if os.Getenv("RAPID_CHECKS") == "" {
		// Half a minute, as part of all tests, and a fifth of the cases with -short. The
		// flag sets another number.
		if err := flag.Set("rapid.checks", "24"); err != nil {
			panic(err)
		}
	}
	rig.Main(m)
}

// caseTB lets the rig set up for one of rapid's cases, which ends before the test
// does.
type caseTB struct {
	testing.TB
	r *rapid.T
}

func (c caseTB) Cleanup(f func())                  { c.r.Cleanup(f) }
func (c caseTB) Context() context.Context          { return c.r.Context() }
func (c caseTB) Errorf(format string, args ...any) { c.r.Errorf(format, args...) }
func (c caseTB) Fatalf(format string, args ...any) { c.r.Fatalf(format, args...) }
func (c caseTB) FailNow()                          { c.r.FailNow() }

// newDatabase is one that goes with the case.
func newDatabase(t testing.TB, ddl string) *rig.Database {
	t.Helper()
	var d *rig.Database
	t.Cleanup(func() { // after the pools on it have been closed
		config := d.Owner.Config().ConnConfig
		name := pgx.Identifier{config.Database}.Sanitize()
		config.Database = "postgres"
		conn, err := pgx.ConnectConfig(context.Background(), config)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), "drop database "+name+" with (force)")
		require.NoError(t, err)
	})
	d = rig.NewDatabase(t)
	d.Exec(t, ddl)
	return d
}

// TestSameAsOneStatementAtATime has a case for each schema, in which many requests
// of two users meet the rows that those before have left.
func TestSameAsOneStatementAtATime(t *testing.T) {
	t.Parallel()
	total, reordered, rejected := 0, 0, 0
	rapid.Check(t, func(r *rapid.T) {
		tb := caseTB{t, r}
		s := rapid.Custom(drawSchema).Draw(r, "schema")
		service := rig.NewServiceOn(tb, newDatabase(tb, s.ddl), rig.Policies(tb, s.policies))
		conn, err := pgx.Connect(r.Context(), newDatabase(tb, s.ddl).OwnerURL)
		require.NoError(tb, err)
		r.Cleanup(func() { _ = conn.Close(context.Background()) })
		m := &model{ctx: r.Context(), schema: s, conn: conn, answered: map[string]outcome{}}

		sent, rejections, lastID := map[string][]*transaction{}, map[string]rejection{}, 0
		for range 1 + rapid.IntRange(0, 60).Draw(r, "requests") + rapid.IntRange(0, 60).Draw(r, "more requests") {
			q := rapid.Custom(func(r *rapid.T) request { return drawRequest(r, s, sent, &lastID) }).Draw(r, "request")
			sent[q.user] = append(sent[q.user], q.transactions...)
			var answers []outcome
			for _, result := range service.Upload(tb, q.user, q.body()).Results(tb) {
				answers = append(answers, observed(result))
			}
			require.Len(tb, answers, len(q.transactions))
			err := m.explain(q, answers, service.Database.Text(tb, s.dumpSQL()))
			if errors.Is(err, errTooLong) {
				t.Log(err) // and the two databases may now differ
				return
			}
			if err != nil {
				r.Fatalf("%v\nPostern's answers: %v", err, answers)
			}
			m.remember(rejections)
			total += len(answers)
		}
		stored := service.Database.Text(tb, `select coalesce(string_agg(concat_ws(' ', substring(transaction::text from '^{"transaction_id":(\d+)'), subject, code, coalesce(operation_index, -1)), E'\n'), '')
			from postern.rejected_writes where transaction::text like '{"transaction_id":%'`)
		require.ElementsMatch(tb, lines(rejections), strings.FieldsFunc(stored, func(c rune) bool { return c == '\n' }), "the rejected writes that are remembered")
		reordered, rejected = reordered+m.reordered, rejected+len(rejections)
	})
	t.Logf("%d transactions, %d rejected, %d in another order than the client's", total, rejected, reordered)
}
