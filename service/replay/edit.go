package replay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/upload"
)

// Edit sets a value that an operation sends. If the operation does not send the column,
// the value is added.
type Edit struct {
	Operation int    // index within the transaction
	Column    string // the client's name
	Value     jsontext.Value
}

// ErrEdit says that an edit is impossible.
var ErrEdit = errors.New("the edit is impossible")

// edit returns a transaction with other values.
func edit(t upload.Transaction, edits []Edit) (upload.Transaction, error) {
	t = t.Clone()
	for _, e := range edits {
		if e.Operation < 0 || e.Operation >= len(t.Operations) {
			return t, fmt.Errorf("%w: there is no operation %d: they count from 0 to %d", ErrEdit, e.Operation, len(t.Operations)-1)
		}
		op := &t.Operations[e.Operation]
		switch {
		case op.Op == upload.Delete:
			return t, fmt.Errorf("%w: operation %d is a DELETE, which has no values: dismiss the write", ErrEdit, e.Operation)
		case e.Column == "":
			return t, fmt.Errorf("%w: name the column as the client does", ErrEdit)
		case !e.Value.IsValid():
			return t, fmt.Errorf(`%w: the value of %s is not JSON: write "text" in quotes, a number, true, false, null, an array or an object`, ErrEdit, e.Column)
		}
		at := slices.IndexFunc(op.Data, func(m upload.Member) bool { return m.Name == e.Column })
		if at < 0 {
			at, op.Data = len(op.Data), append(op.Data, upload.Member{Name: e.Column})
		}
		op.Data[at].Value = e.Value
	}
	return t, nil
}
