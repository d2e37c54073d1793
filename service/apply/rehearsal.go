package apply

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"postern/service/plan"
	"postern/service/upload"
)

// Did is what an operation did to its row.
type Did string

// What an operation can do.
const (
	Inserted  Did = "inserted"
	Updated   Did = "updated"
	Deleted   Did = "deleted"
	Merged    Did = "merged into the existing row" // a PUT
	Unchanged Did = "left the row unchanged"
	Ignored   Did = "ignored: the row does not exist"
	Hidden    Did = "written: the user may not see the row"
	Dropped   Did = "dropped by the conflict strategy"
	Triggered Did = "suppressed or replaced by a trigger"
)

// Effect is what one operation did, in a rehearsal.
type Effect struct {
	Operation     int // index within the transaction
	Did           Did
	Before, After jsontext.Value // the whole row as a JSON object; nil if there is none
	Kept          []string       // columns that were sent, and hold another value now
	Resolved      []plan.Resolution
	Statement     plan.Statement // that did it
}

// Changed are the columns whose values differ, sorted.
func (e Effect) Changed() (columns []string) {
	var before, after map[string]jsontext.Value
	if e.Before == nil || e.After == nil || json.Unmarshal(e.Before, &before) != nil || json.Unmarshal(e.After, &after) != nil {
		return nil
	}
	for name, value := range after {
		if !bytes.Equal(before[name], value) {
			columns = append(columns, name)
		}
	}
	slices.Sort(columns)
	return columns
}

// rehearsal watches the operations of one transaction.
type rehearsal struct {
	conn    *pgx.Conn
	seesAll bool // the login role sees every row; otherwise rows are watched as the user
	watched []*watched
}

// watched is an operation and its row before and after.
type watched struct {
	operation     int
	op            upload.Op
	names         []string // the columns that were sent
	before, after [][]byte
	noRow         string // why the operation touched no row, as postern.explain_no_row says it
	resolved      []plan.Resolution
	statement     plan.Statement
}

// watch puts queries of the row around an operation.
func (h *rehearsal) watch(r *request, op upload.Operation, run step) []step {
	bare := r.planner(r.now)
	bare.Set = r.set.WithoutRules()
	row, rejection := bare.StoredRow(op)
	asUser := !h.seesAll && !r.single.AsLogin
	if rejection != nil || asUser && !slices.Contains(row.Table.Grants[r.who.Role], "select") {
		return []step{run} // it says itself what is wrong, or its row cannot be read
	}
	w := &watched{operation: run.index, op: op.Op, names: row.Names, statement: run.Statement}
	h.watched = append(slices.DeleteFunc(h.watched, func(other *watched) bool { return other.operation == w.operation }), w)
	run.save = func(row [][]byte) {
		if len(row) > 0 {
			w.noRow = string(row[0])
			w.resolved = run.operation.Resolved(w.noRow)
		}
	}
	read := func(save func([][]byte)) []step {
		query := step{kind: session, transaction: run.transaction, index: -1, Statement: row.Statement, save: save}
		if asUser || r.single.AsLogin {
			return []step{query}
		}
		return []step{ours(session, `select set_config('role', 'none', true)`), query, ours(session, `select set_config('role', $1, true)`, []byte(r.who.Role))}
	}
	return slices.Concat(read(func(row [][]byte) { w.before = row }), []step{run}, read(func(row [][]byte) { w.after = row }))
}

func (r *rehearsal) effects() (effects []Effect) {
	for _, w := range r.watched {
		effects = append(effects, w.effect())
	}
	return effects
}

func (w *watched) effect() Effect {
	e := Effect{Operation: w.operation, Resolved: w.resolved, Statement: w.statement}
	if w.before != nil {
		e.Before = w.before[0]
	}
	if w.after != nil {
		e.After = w.after[0]
		for i, name := range w.names {
			if string(w.after[i+1]) != "t" {
				e.Kept = append(e.Kept, name)
			}
		}
	}
	switch {
	case w.noRow == "DROPPED":
		e.Did, e.Kept = Dropped, nil
	case w.noRow == "TRIGGER":
		e.Did = Triggered
	case e.Before == nil && e.After == nil && w.op == upload.Put:
		e.Did = Hidden
	case e.Before == nil && e.After == nil:
		e.Did = Ignored
	case e.Before == nil:
		e.Did = Inserted
	case e.After == nil:
		e.Did = Deleted
	case bytes.Equal(e.Before, e.After):
		e.Did = Unchanged
	case w.op == upload.Put:
		e.Did = Merged
	default:
		e.Did = Updated
	}
	return e
}
