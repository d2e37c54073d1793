package plan

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
	"postern/service/value"
)

// name is the client's name of the table.
func (d *drafter) name() string { return upload.Short(d.sent.Table) }

// column is the client's name of a column, with that of its table.
func (d *drafter) column(c *catalog.Column) string {
	return d.name() + "." + d.policy.ClientName(c.Name)
}

func quoted(text string) jsontext.Value {
	value, err := jsontext.AppendQuote(nil, text)
	if err != nil { // invalid UTF-8, which the decoder refuses
		return jsontext.Value(`""`)
	}
	return value
}

func mismatch(format string, args ...any) *upload.Rejection {
	return &upload.Rejection{Code: upload.SchemaMismatch, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *upload.Rejection {
	return &upload.Rejection{Code: upload.InvalidData, Message: fmt.Sprintf(format, args...)}
}

// misfit is the rejection of a write that the table cannot take as it is. The reason is
// for the app's developer.
func (d *drafter) misfit(reason string) *upload.Rejection {
	r := mismatch("rows of %s cannot be written", d.name())
	r.Details = map[string]any{"table": d.name(), "reason": reason}
	return r
}

// unfit is the rejection of a value that does not fit its column.
func (d *drafter) unfit(err error) *upload.Rejection {
	return unfit(err, d.name(), d.policy)
}

// unfit has the client's names of the table and its column.
func unfit(err error, name string, policy *policies.Table) *upload.Rejection {
	var u *value.Unfit
	if !errors.As(err, &u) {
		return &upload.Rejection{Code: upload.InvalidData, Message: err.Error()}
	}
	named := *u
	named.Table, named.Column = name, policy.ClientName(u.Column)
	return &upload.Rejection{
		Code: upload.InvalidData, Message: named.Error(),
		Details: map[string]any{"table": named.Table, "column": named.Column, "type": named.Type, "value": named.Value},
	}
}

// Unfit is the rejection of a value that Postgres could not read, for a table that
// clients know by name and policy.
func Unfit(name string, policy *policies.Table, table *catalog.Table, column *catalog.Column, text, reason string) *upload.Rejection {
	return unfit(value.NewUnfit(table, column, quoted(text), reason), name, policy)
}
