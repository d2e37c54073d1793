package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/catalog"
	"postern/service/ledger"
	"postern/service/plan"
)

// maxStatements is how many named statements a connection has at most. In Postgres 15
// one takes 40 to 60 kB if its table has row-level security.
const maxStatements = 256

// Statements says how a connection sends statements.
type Statements string

// The ways of a connection.
const (
	Auto    Statements = ""        // named on a direct connection, unnamed through a pooler
	Named   Statements = "named"   // Postgres parses and plans each statement once a connection
	Unnamed Statements = "unnamed" // Postgres parses and plans each statement each time
)

// NewConnection decides how a new connection sends statements. On a direct connection
// the backend has the process id that it announced when the connection began. A pooler
// announces one of its own, and may give each database transaction to another backend.
func (s Statements) NewConnection(ctx context.Context, conn *pgx.Conn) error {
	named := s == Named
	if s == Auto {
		var pid uint32
		if err := conn.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
			return fmt.Errorf("asking for the backend's process id: %w", err)
		}
		named = pid == conn.PgConn().PID()
	}
	if named {
		conn.PgConn().CustomData()[statementsKey] = &statements{named: map[statement]*namedStatement{}, pooled: s == Named}
	}
	return nil
}

const statementsKey = "postern statements"

// statements are the named statements of one connection. They are parsed after the
// switch to the user's role, in the pipeline that needs them first. Postgres plans a
// statement again if the tables or their policies change, and checks grants each time.
// But it keeps the types of the parameters. So all are forgotten with the catalogue for
// which they were made, and after an error that another type could cause.
type statements struct {
	schema  string // Snapshot.Schema of the catalogue they are for
	pooled  bool   // a pooler shares them
	named   map[statement]*namedStatement
	dropped []string // names that the next pipeline closes
	names   int      // how many names were given; none is given twice
	clock   int      // counts the uses
}

// statement is what a name stands for. Postgres checks the rights on schemas, and
// inlines functions, for the role that parses.
type statement struct{ role, sql string }

type namedStatement struct {
	name string
	used int // the clock at the last use
}

// parseAnew prepares the prologue for a connection without named statements. Postgres plans
// such a statement anew for each of the first five operations that share it, and those of
// the function that settles the receipts each time, which takes longer than to run them. So
// it has to make plans for all values. They are as good for statements that find their row
// by its key. They may be worse for the application's own queries, which are in lookups,
// triggers and rules in Go. In a partitioned table, they would lock all partitions. A role
// may have a setting of its own.
func (a *attempt) parseAnew() {
	for i, s := range a.steps {
		if s.kind == receipts {
			a.steps[i].Statement = plan.Statement(ledger.WhenParsedAnew(ledger.Statement(s.Statement)))
		}
	}
	if slices.ContainsFunc(a.snapshot.Settings(a.who.Role), func(s catalog.Setting) bool { return s.Name == "plan_cache_mode" }) {
		return
	}
	a.steps[0].SQL += `, set_config('plan_cache_mode', 'force_generic_plan', true)` // see setup
	needsValues := func(t *transaction) bool {
		order := t.toSend()
		return order.Looks || t.hasChecks() || slices.ContainsFunc(order.Tables, func(u plan.TableUse) bool {
			return u.Table.OtherTriggers || len(u.Table.Triggers) > 0 || u.Table.Partitioned
		})
	}
	if a.needsCode() || slices.ContainsFunc(a.transactions, needsValues) {
		a.add(ours(session, `select set_config('plan_cache_mode', null, true)`))
	}
}

// statementsOf returns the named statements of a connection for a catalogue; nil if the
// connection has none.
func statementsOf(conn *pgconn.PgConn, schema string) *statements {
	s, _ := conn.CustomData()[statementsKey].(*statements)
	if s == nil {
		return nil
	}
	if s.schema != schema {
		s.forget()
		s.schema = schema
	}
	if len(s.named) >= maxStatements {
		s.dropOldest(maxStatements / 4)
	}
	return s
}

func (s *statements) dropOldest(n int) {
	keys := slices.SortedFunc(maps.Keys(s.named), func(a, b statement) int { return cmp.Compare(s.named[a].used, s.named[b].used) })
	for _, key := range keys[:n] {
		s.dropped = append(s.dropped, s.named[key].name)
		delete(s.named, key)
	}
}

func (s *statements) forget() {
	s.dropOldest(len(s.named))
}

// use returns the name of a statement. added reports that it must be prepared first.
// The name is empty if there is no room until the next pipeline.
func (s *statements) use(key statement) (name string, added bool) {
	if s == nil {
		return "", false
	}
	s.clock++
	if known := s.named[key]; known != nil {
		known.used = s.clock
		return known.name, false
	}
	if len(s.named) >= maxStatements {
		return "", false
	}
	s.names++
	name = "postern_" + strconv.Itoa(s.names)
	s.named[key] = &namedStatement{name, s.clock}
	return name, true
}

// text is what is parsed for a statement. A pooler keeps one for all connections that send
// the same text, whatever its name. So the text differs with the catalogue.
func (s *statements) text(sql string) string {
	if s != nil && s.pooled {
		return sql + " /* " + s.schema + " */"
	}
	return sql
}

// closeDropped has a pipeline close what was dropped, and returns how many results
// that adds.
func (s *statements) closeDropped(pipeline *pgconn.Pipeline) (results int) {
	if s == nil {
		return 0
	}
	for _, name := range s.dropped {
		pipeline.SendDeallocate(name)
	}
	results, s.dropped = len(s.dropped), nil
	return results
}

// failed forgets what a pipeline did not prepare because it failed before. If the
// failure may come from a statement that an earlier pipeline had prepared, it forgets
// all of them.
func (s *statements) failed(role string, how []sent, steps []step, failed *failure) {
	if s == nil {
		return
	}
	for i := range how {
		if how[i].prepares {
			delete(s.named, statement{role, steps[i].SQL})
		}
	}
	if how[failed.at].name != "" && outdates(failed.err) {
		s.forget()
		failed.outdated = true
	}
}

// outdates reports whether an error may come from a named statement that does not fit
// the tables any more, or is gone: types that differ, and "cached plan must not change
// result type", and a statement that something else has closed.
func outdates(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return pg.Code == "0A000" || pg.Code == "26000" || strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "42") && pg.Code != "42501"
}
