package upload

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/go-json-experiment/json/jsontext"
)

// Unreadable is what is known of a transaction that cannot be read as it was sent: one of
// its strings is not Unicode, a name appears twice, it nests too deep, a row has
// more columns than any table, or an id is no integer. Its form is that of the write API, and the other transactions of the request
// do not depend on it.
type Unreadable struct {
	Sent      []byte // the transaction, byte for byte
	Rejection Rejection
}

// fault is the error of a transaction that is Unreadable.
type fault struct{ *Malformed }

func (f fault) Unwrap() error { return f.Malformed }

// decodeTransaction decodes a transaction. It is Unreadable if it is at fault by itself.
func decodeTransaction(sent []byte, names map[string]string) (Transaction, error) {
	operations, deepest := scan(sent, operationDepth-transactionDepth+1, math.MaxInt)
	d := newDecoder(sent, sent, false)
	d.most, d.names = operations, names
	t, err := d.transaction()
	if err == nil && deepest > MaxDepth-transactionDepth+1 {
		err = fault{&Malformed{pathAtDepth(sent), fmt.Sprintf("arrays and objects nest deeper than %d levels", MaxDepth)}}
	}
	if errors.As(err, new(fault)) || errors.As(err, new(*jsontext.SyntacticError)) { // its outline was JSON
		return unreadable(sent, operations, malformed(err))
	}
	return t, err
}

// unreadable is a transaction with what can be read of it: ids, tables and kinds of
// operations.
func unreadable(sent []byte, operations int, why *Malformed) (Transaction, error) {
	readable := plain(sent)
	d := newDecoder(readable, readable, true)
	d.most = operations
	t, err := d.transaction()
	if err != nil {
		return Transaction{}, err
	}
	index := -1
	if _, err := fmt.Sscanf(why.Path, "crud[%d]", &index); err != nil || index >= len(t.Operations) {
		index = -1
	}
	t.Unreadable = &Unreadable{Sent: sent, Rejection: Rejection{Code: InvalidData, Message: why.Error(), Operation: index}}
	return t, nil
}

// pathAtDepth is the path to the value that nests too deep in a transaction.
func pathAtDepth(sent []byte) string {
	d := jsontext.NewDecoder(bytes.NewBuffer(sent))
	for {
		if _, err := d.ReadToken(); err != nil || d.StackDepth() > MaxDepth-transactionDepth+1 {
			return dotted(d.StackPointer())
		}
	}
}

// transaction reads the transaction's object.
func (d *decoder) transaction() (t Transaction, err error) {
	err = d.object(func(name string) (err error) {
		switch name {
		case "transaction_id":
			t.ID, err = d.integer()
		case "crud":
			t.Operations, err = d.crud()
		default:
			err = d.SkipValue()
		}
		return err
	})
	if err == nil && t.Operations == nil {
		err = &Malformed{"crud", "is required: send an array of operations, which may be empty"}
	}
	return t, err
}

// crud reads the operations.
func (d *decoder) crud() (operations []Operation, err error) {
	list := make([]Operation, 0, d.most)
	present, err := d.array(func() error {
		operation, err := d.operation()
		list = append(list, operation)
		return err
	})
	if !present {
		return nil, err
	}
	return list, err
}

// otherNames are the names that the SDKs' own JSON and older demos have for members of
// the write API. They are refused: a member that is ignored would be a write that is lost.
var otherNames = map[string]string{"type": "table", "data": "op_data", "opData": "op_data", "old": "previous_values", "previousValues": "previous_values"}

func (d *decoder) operation() (op Operation, err error) {
	var verb string
	var has struct{ id, op, table bool }
	err = d.object(func(name string) (err error) {
		switch name {
		case "op_id":
			op.OpID, err = d.integer()
		case "transaction_id": // of the transaction, which says it itself
			_, err = d.integer()
		case "id":
			op.ID, has.id, err = d.text(nil)
		case "op":
			verb, has.op, err = d.text(d.names)
		case "table":
			op.Table, has.table, err = d.text(d.names)
		case "op_data":
			op.Data, err = d.members()
		case "previous_values":
			op.Previous, err = d.members()
		case "metadata":
			op.Metadata, _, err = d.text(nil)
		default:
			if err = d.SkipValue(); err == nil && otherNames[name] != "" {
				err = d.fail("is not a member of the write API: send it as " + otherNames[name])
			}
		}
		return err
	})
	if err != nil {
		return op, err
	}
	for _, field := range []struct {
		name string
		sent bool
	}{{"id", has.id}, {"op", has.op}, {"table", has.table}} {
		if !field.sent {
			return op, &Malformed{dotted(d.StackPointer()) + "." + field.name, "is required: send a string"}
		}
	}
	op.Op = Op(verb)
	if op.Op != Put && op.Op != Patch && op.Op != Delete {
		return op, &Malformed{dotted(d.StackPointer()) + ".op", fmt.Sprintf("must be PUT, PATCH or DELETE, not %s", quoteShort(verb))}
	}
	return op, nil
}

// members reads an object and keeps the spelling of its values. It is nil for null.
func (d *decoder) members() (list []Member, err error) {
	if d.PeekKind() == 'n' {
		return nil, d.SkipValue()
	}
	if d.lenient { // nothing uses the values
		return nil, d.object(func(string) error { return d.SkipValue() })
	}
	d.row = d.row[:0]
	err = d.object(func(name string) error {
		value, err := d.value()
		d.row = append(d.row, Member{Name: name, Value: value})
		return err
	})
	return append(make([]Member, 0, len(d.row)), d.row...), err
}
