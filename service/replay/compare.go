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
	Column string         `json:"column"` // the database's name
	Wanted jsontext.Value `json:"wanted"`
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
	policy, _ := set.Decide(op)
	for _, m := range op.Data {
		value := Value{Column: m.Name, Wanted: m.Value}
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
