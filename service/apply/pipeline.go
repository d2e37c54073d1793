package apply

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/plan"
	"postern/service/upload"
)

// kind is what a step of the pipeline is for.
type kind byte

const (
	receipts    kind = iota // the receipts of all transactions that get their final answer
	record                  // a rejected write
	session                 // the user's role and claims, and the database transaction
	preRequest              // PostgREST's function, which is the application's own
	reading                 // what a rule needs
	operation               //
	rule                    // the evaluation of a rule; not a statement
	constraints             // the check of what a transaction deferred
	commit                  //
)

var kindNames = [...]string{"receipts", "rejected write", "session", "pre-request", "read", "write", "rule", "constraints", "commit"}

// ofWrite reports whether a step belongs to the user's write, and is not one of
// Postern's own around it.
func (k kind) ofWrite() bool {
	switch k {
	case operation, reading, rule, constraints, commit, preRequest:
		return true
	}
	return false
}

// step is one statement of a pipeline, and what it belongs to.
type step struct {
	plan.Statement
	kind        kind
	locksAhead  bool // it locks the rows of several operations
	inLine      bool // it waits for the other requests that run one at a time
	ahead       bool // it belongs to an operation that was completed ahead of its turn
	transaction int  // index among the transactions sent; -1 if it is for all of them
	index       int  // of the operation within the transaction; -1 if it is for all of it

	operation *plan.Operation
	query     *plan.Query             // if it is one of a rule
	save      func(row [][]byte)      // receives the first row, if there is one and no query
	rows      *int                    // counts the rows that the operation touches, if somebody does
	atOnce    bool                    // Postgres sends its answer before it goes on
	completes bool                    // after it, the operation's rules can be evaluated, or those over the whole transaction
	whole     *plan.TransactionChecks // these
}

// ours is a step that belongs to no transaction.
func ours(k kind, sql string, args ...[]byte) step {
	return step{Statement: plan.Statement{SQL: sql, Args: args}, kind: k, transaction: -1, index: -1}
}

// failure is the error of one step.
type failure struct {
	step
	err       error
	rejection *upload.Rejection // of a rule; err is nil
	unsent    bool              // nothing reached the database
	at        int               // index of the step in its pipeline
	outdated  bool              // a named statement may not fit the tables any more
}

// of is the index of the transaction that failed; 0 if it was none or all of them.
func (f *failure) of() int {
	if f == nil {
		return 0
	}
	return max(f.transaction, 0)
}

// failedOutside is a failure that belongs to no step.
func failedOutside(err error, unsent bool) *failure {
	return &failure{step: ours(session, ""), err: err, unsent: unsent}
}

// flushBytes is about how many bytes of SQL and values wait in memory until they are
// sent. Sending does not wait for an answer, so it is still one round trip.
const flushBytes = 64 << 10

// sent is how a step was sent.
type sent struct {
	name     string // of its statement; empty if that is unnamed
	prepares bool   // its statement got the name in this pipeline
}

// exchange sends steps in one round trip. The first one that fails ends them. The rows
// that queries find are added to the answers. role is the user's. named are the
// connection's named statements, or nil. complete receives each step that completes its
// operation or transaction, once its result is read.
func exchange(ctx context.Context, conn *pgconn.PgConn, named *statements, role string, steps []step, answers plan.Answers, complete func(step)) *failure {
	pipeline := conn.StartPipeline(ctx)
	closing := named.closeDropped(pipeline)
	how, err := send(pipeline, named, role, steps)
	if err == nil {
		err = pipeline.Sync()
	}
	if err != nil {
		_ = pipeline.Close()
		return failedOutside(err, false)
	}
	failed := finishAll(pipeline, closing, how, steps, answers, complete)
	if failed != nil {
		named.failed(role, how, steps, failed)
	}
	if err := pipeline.Close(); err != nil && failed == nil {
		failed = &failure{step: ours(commit, ""), err: err}
	}
	return failed
}

// send sends steps.
func send(pipeline *pgconn.Pipeline, named *statements, role string, steps []step) ([]sent, error) {
	how := make([]sent, len(steps))
	previous, unsent := "", 0
	for i, s := range steps {
		if unsent > flushBytes {
			if err := pipeline.Flush(); err != nil {
				return nil, err
			}
			unsent = 0
		}
		if i > 0 && s.SQL == steps[i-1].SQL {
			how[i].name = how[i-1].name
		} else {
			how[i].name, how[i].prepares = named.use(statement{role, s.SQL})
		}
		if how[i].prepares {
			pipeline.SendPrepare(how[i].name, named.text(s.SQL), nil)
			unsent += len(s.SQL)
		}
		// The unnamed statement stays until the next one is parsed. A pooler in
		// transaction mode leaves it alone within a pipeline.
		if how[i].name != "" || s.SQL == previous {
			pipeline.SendQueryPrepared(how[i].name, s.Args, nil, nil)
		} else {
			pipeline.SendQueryParams(s.SQL, s.Args, nil, nil, nil)
			previous = s.SQL
			unsent += len(s.SQL)
		}
		if s.atOnce { // nobody waits for it, so it is still one round trip
			pipeline.SendFlushRequest()
		}
		for _, arg := range s.Args {
			unsent += len(arg)
		}
	}
	return how, nil
}

// finishAll reads the results of all statements, up to the first that failed.
func finishAll(pipeline *pgconn.Pipeline, closing int, how []sent, steps []step, answers plan.Answers, complete func(step)) *failure {
	for range closing {
		if _, err := pipeline.GetResults(); err != nil {
			return failedOutside(err, false)
		}
	}
	for i := range steps {
		if err := finish(pipeline, &how[i], &steps[i], answers); err != nil {
			return &failure{step: steps[i], err: err, at: i}
		}
		if steps[i].completes {
			complete(steps[i])
		}
	}
	return nil
}

// does is what a step does, in a word.
func (s *step) does() string {
	switch {
	case s.kind == operation:
		return s.operation.Privilege()
	case s.query != nil && s.query.IsLookup():
		return "lookup"
	}
	return kindNames[s.kind]
}

// table is the one that a step is about; empty if that is not known.
func (s *step) table() string {
	if s.operation == nil || s.query != nil && s.query.IsLookup() {
		return ""
	}
	return s.operation.Table.Schema + "." + s.operation.Table.Name
}

// finish reads the result of one statement.
func finish(pipeline *pgconn.Pipeline, how *sent, s *step, answers plan.Answers) error {
	if how.prepares {
		if _, err := pipeline.GetResults(); err != nil {
			return err
		}
		how.prepares = false // done
	}
	result, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return errors.New("the database sent an answer that belongs to no statement")
	}
	var row [][]byte
	if (s.save != nil || s.query != nil || s.rows != nil) && reader.NextRow() {
		values := reader.Values()
		row = make([][]byte, len(values))
		for i, value := range values {
			row[i] = bytes.Clone(value)
		}
	}
	switch {
	case row == nil:
	case s.query != nil:
		answers[s.query] = row
	case s.save != nil:
		s.save(row)
	}
	tag, err := reader.Close()
	if s.rows != nil && err == nil {
		*s.rows += s.operation.Touched(row, tag.RowsAffected())
	}
	return err
}
