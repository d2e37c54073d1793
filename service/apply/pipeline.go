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
	transaction int  // index among the transactions sent; -1 if it is for all of them
	index       int  // of the operation within the transaction; -1 if it is for all of it

	operation *plan.Operation
	query     *plan.Query        // if it is one of a rule
	save      func(row [][]byte) // receives the first row, if there is one and no query
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
	entangled bool              // its transactions wait for others, which they would not do alone
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
// connection's named statements, or nil.
func exchange(ctx context.Context, conn *pgconn.PgConn, named *statements, role string, steps []step, answers plan.Answers) *failure {
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
	failed := finishAll(pipeline, closing, how, steps, answers)
	if failed != nil {
		named.failed(role, how, steps, failed)
	}
	if err := pipeline.Close(); err != nil && failed == nil {
		failed = &failure{step: ours(commit, ""), err: err}
	}
	return failed
}

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
		for _, arg := range s.Args {
			unsent += len(arg)
		}
	}
	return how, nil
}

// finishAll reads the results of all statements, up to the first that failed.
func finishAll(pipeline *pgconn.Pipeline, closing int, how []sent, steps []step, answers plan.Answers) *failure {
	for range closing {
		if _, err := pipeline.GetResults(); err != nil {
			return failedOutside(err, false)
		}
	}
	for i, s := range steps {
		if how[i].prepares {
			if _, err := pipeline.GetResults(); err != nil {
				return &failure{step: s, err: err, at: i}
			}
			how[i].prepares = false // done
		}
		save := s.save
		if s.query != nil {
			save = func(row [][]byte) { answers[s.query] = row }
		}
		if err := finish(pipeline, save); err != nil {
			return &failure{step: s, err: err, at: i}
		}
	}
	return nil
}

// finish reads the result of one statement.
func finish(pipeline *pgconn.Pipeline, save func(row [][]byte)) error {
	result, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return errors.New("the database sent an answer that belongs to no statement")
	}
	if save != nil && reader.NextRow() {
		values := reader.Values()
		row := make([][]byte, len(values))
		for i, value := range values {
			row[i] = bytes.Clone(value)
		}
		save(row)
	}
	_, err = reader.Close()
	return err
}
