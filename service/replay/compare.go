package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
	"postern/service/plan"
	"postern/service/upload"
)

// Operation is an operation of a rejected write, beside the row as it is now.
type Operation struct {
	Op       upload.Op      `json:"op"`
	Table    string         `json:"table"`
	ID       string         `json:"id"`
	Failed   bool           `json:"failed,omitzero"` // it caused the rejection
	Metadata string         `json:"metadata,omitzero"`
	Wanted   []Value        `json:"wanted,omitzero"`
	Now      jsontext.Value `json:"now,omitzero"` // the whole row; null if there is none, absent if Unread says why
	Unread   string         `json:"unread,omitzero"`
	AsAuthor bool           `json:"as_author,omitzero"` // Now is what the author of the write sees

	Target *catalog.Table `json:"-"` // nil if no policy maps the table
}

// Value is a value that was sent, beside the row's.
type Value struct {
	Name   string         `json:"name"`   // the client's name of the column
	Column string         `json:"column"` // the database's name
	Wanted jsontext.Value `json:"wanted"`
	Stored jsontext.Value `json:"stored,omitzero"` // Wanted as the column would hold it; absent if that is not known
	Now    jsontext.Value `json:"now,omitzero"`
}

// Compare reads the row that an operation writes, beside the values that were sent. If
// the connection may not read every row, it is read as the author, who may see less. If
// author is nil, the error is then ErrCannotRead, and the operation has no row.
func Compare(ctx context.Context, db *pgxpool.Pool, set *policies.Set, tables *catalog.Snapshot, op upload.Operation, author *identity.Identity) (Operation, error) {
	out := Operation{Op: op.Op, Table: op.Table, ID: op.ID, Metadata: op.Metadata}
	now := map[string]jsontext.Value{}
	table, row, err := storedRow(ctx, db, set, tables, op, nil)
	if errors.Is(err, ErrCannotRead) && author != nil {
		out.AsAuthor = true
		table, row, err = storedRow(ctx, db, set, tables, op, author)
	}
	out.Target = table
	var unmapped *upload.Rejection
	switch {
	case errors.As(err, &unmapped):
		out.Unread, err = unmapped.Message, nil
	case errors.Is(err, ErrCannotRead):
	case err != nil:
		return out, err
	case row == nil:
		out.Now = jsontext.Value("null")
	default:
		out.Now = row
		if err := json.Unmarshal(row, &now); err != nil {
			return out, fmt.Errorf("decoding the row as it is now: %w", err)
		}
	}
	stored := storedValues(ctx, db, set, tables, op)
	policy, _ := set.Decide(op)
	for _, m := range op.Data {
		value := Value{Name: m.Name, Column: m.Name, Wanted: m.Value, Stored: stored[m.Name]}
		if policy != nil {
			if name, ok := policy.Column(m.Name); ok {
				value.Column = name
			}
		}
		value.Now = now[value.Column]
		out.Wanted = append(out.Wanted, value)
	}
	return out, err
}

// storedValues are the values that an operation sends as their columns would hold them,
// by the client's names: 1 is true in a boolean column. It is empty if Postgres refuses
// one of them, as a domain's constraint does.
func storedValues(ctx context.Context, db *pgxpool.Pool, set *policies.Set, tables *catalog.Snapshot, op upload.Operation) map[string]jsontext.Value {
	p := &plan.Planner{Set: set, Tables: tables}
	query, rejection := p.SentRow(op)
	if rejection != nil || len(query.Names) == 0 {
		return nil
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil
	}
	defer conn.Release()
	result := conn.Conn().PgConn().ExecParams(ctx, query.SQL, query.Args, nil, nil, nil).Read()
	if result.Err != nil {
		return nil
	}
	values := make(map[string]jsontext.Value, len(query.Names))
	for i, name := range query.Names {
		if values[name] = result.Rows[0][i]; result.Rows[0][i] == nil {
			values[name] = jsontext.Value("null")
		}
	}
	return values
}
