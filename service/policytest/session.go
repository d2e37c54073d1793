package policytest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/policies"
	"postern/service/apply"
	"postern/service/identity"
	"postern/service/plan"
	"postern/service/upload"
)

// session is an open database transaction in which transactions are rehearsed one
// after the other. Closing it rolls everything back.
type session struct {
	tx      pgx.Tx
	db      *Database
	live    *policies.Live
	applier *apply.Applier
}

func (s *session) close(ctx context.Context) { _ = s.tx.Rollback(context.WithoutCancel(ctx)) }

// rehearse does what the service would do with a transaction. The rejection is nil if
// it would be accepted.
func (s *session) rehearse(ctx context.Context, who identity.Identity, now time.Time, t upload.Transaction) ([]apply.Effect, *upload.Rejection, error) {
	effects, err := s.applier.Rehearse(ctx, slog.New(slog.DiscardHandler), s.tx.Conn(), apply.Single{Who: who, Transaction: t, Now: now})
	var rejection *upload.Rejection
	if errors.As(err, &rejection) {
		return effects, rejection, nil
	}
	return effects, nil, err
}

// give inserts rows, parents first, as the connection's own role and without the
// policies' rules. Defaults, constraints and triggers apply to them.
func (s *session) give(ctx context.Context, given rows) error {
	var t upload.Transaction
	for _, table := range sortedKeys(given) {
		for _, id := range sortedKeys(given[table]) {
			if given[table][id] == nil {
				continue
			}
			columns, err := members(given[table][id])
			if err != nil {
				return fmt.Errorf("row %q of %s: %w", id, table, err)
			}
			t.Operations = append(t.Operations, upload.Operation{Op: upload.Put, Table: table, ID: id, Data: columns})
		}
	}
	if len(t.Operations) == 0 {
		return nil
	}
	owner := identity.Identity{Role: "none", Claims: []byte("{}")}
	_, err := s.applier.Rehearse(ctx, slog.New(slog.DiscardHandler), s.tx.Conn(), apply.Single{Who: owner, Transaction: t, AsLogin: true})
	var rejection *upload.Rejection
	if errors.As(err, &rejection) && rejection.Operation >= 0 {
		op := t.Operations[rejection.Operation]
		return fmt.Errorf("row %q of %s: %s", op.ID, op.Table, rejection.Message)
	}
	if err != nil {
		return fmt.Errorf("the given rows: %w", err)
	}
	return nil
}

// stored is a row as it is now, and the columns of want that hold another value.
func (s *session) stored(ctx context.Context, table, id string, want []upload.Member) (row jsontext.Value, differing []string, err error) {
	set, err := s.live.For(s.db.Snapshot())
	if err != nil {
		return nil, nil, err
	}
	p := &plan.Planner{Set: set.Everything(), Tables: s.db.Snapshot()}
	query, rejection := p.StoredRow(upload.Operation{Op: upload.Patch, Table: table, ID: id, Data: want})
	if rejection != nil {
		return nil, nil, errors.New(rejection.Message)
	}
	result := s.tx.Conn().PgConn().ExecParams(ctx, query.SQL, query.Args, nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return nil, nil, result.Err
	}
	for i, name := range query.Names {
		if string(result.Rows[0][i+1]) != "t" {
			differing = append(differing, name)
		}
	}
	return result.Rows[0][0], differing, nil
}

// Explanation is what would become of a transaction.
type Explanation struct {
	Rejection *upload.Rejection // nil if it would be accepted
	Failed    error             // why the client would try again; nil if it would not
	Effects   []apply.Effect    // in the order in which the operations were made
	Trace     []policies.TraceEntry
}

// Explain does what the service would do with transactions, one after the other, and
// rolls back. givenPath names a file of rows that are there before; it may be empty.
func Explain(ctx context.Context, db *Database, live *policies.Live, who identity.Identity, givenPath string, transactions []upload.Transaction) ([]Explanation, error) {
	s, err := db.begin(ctx, live)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	if givenPath != "" {
		given, err := readRows(givenPath)
		if err != nil {
			return nil, err
		}
		if err := s.give(ctx, given); err != nil {
			return nil, fmt.Errorf("%s: %w", givenPath, err)
		}
	}
	explanations := make([]Explanation, len(transactions))
	for i, t := range transactions {
		e := &explanations[i]
		traced := policies.WithTrace(ctx, func(entry policies.TraceEntry) { e.Trace = append(e.Trace, entry) })
		e.Effects, e.Rejection, e.Failed = s.rehearse(traced, who, time.Now(), t)
		e.Trace = latest(e.Trace)
		if e.Failed != nil && !keepsSession(e.Failed) {
			return nil, e.Failed
		}
	}
	return explanations, nil
}

// keepsSession reports whether the database transaction can go on after an error.
func keepsSession(err error) bool {
	var failed *policies.RuleError
	var pg *pgconn.PgError
	return errors.As(err, &failed) || errors.As(err, &pg)
}

// latest drops the results of rules from before the transaction was tried again.
func latest(trace []policies.TraceEntry) []policies.TraceEntry {
	type rule struct {
		operation      int
		position, each string
	}
	last := map[rule]int{}
	for i, s := range trace {
		last[rule{s.Operation, s.Position, s.Each}] = i
	}
	kept := trace[:0]
	for i, s := range trace {
		if last[rule{s.Operation, s.Position, s.Each}] == i {
			kept = append(kept, s)
		}
	}
	return kept
}

// readRows reads a file of rows, spelled as in tests.
func readRows(path string) (rows, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var given struct {
		Rows rows `yaml:"rows"`
	}
	document, err := policies.Parse(path, content)
	if err != nil {
		return nil, err
	}
	problems, _ := document.Decode(&given)
	return given.Rows, errors.Join(problems...)
}
