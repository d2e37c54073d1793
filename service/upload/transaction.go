package upload

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Unreadable is what is known of a transaction that cannot be read as it was sent: one of
// its strings is not Unicode, a name appears twice, it nests too deep, a row has
// more columns than any table, or an id is no integer. Its form is one that is known, and
// the other transactions of the request do not depend on it.
type Unreadable struct {
	Sent      []byte // the transaction, byte for byte
	Rejection Rejection
}

// fault is the error of a transaction that is Unreadable.
type fault struct{ *Malformed }

func (f fault) Unwrap() error { return f.Malformed }

// form is how a transaction is sent. The zero form is the write API's.
type form struct {
	list jsontext.Value // of operations, if it is a body of its own: {"batch": […]} or {"crud": […]}; else nil
	verb Op             // if it is a body that is its only operation, the HTTP method; else empty
}

// countOperations counts up to one operation of the list more than most.
func (f form) countOperations(most int) int {
	n, _ := scan(f.list, 2, most)
	return n
}

// decode decodes a transaction. It is Unreadable if it is at fault by itself.
// If it is a list, it also returns the transaction id of each operation.
func (d *decoder) decode(sent []byte, form form) (t Transaction, ids []string, err error) {
	operations, deepest := scan(sent, operationDepth-transactionDepth+1, math.MaxInt)
	if form.list != nil {
		operations = form.countOperations(math.MaxInt)
	}
	d.reset(sent, sent)
	d.form, d.most = form, operations
	t, err = d.transaction()
	if deepest > MaxDepth-transactionDepth+1 && (err == nil || errors.As(err, new(*jsontext.SyntacticError))) {
		err = fault{&Malformed{pathAtDepth(sent), fmt.Sprintf("arrays and objects nest deeper than %d levels", MaxDepth)}}
	}
	if errors.As(err, new(fault)) || errors.As(err, new(*jsontext.SyntacticError)) { // its outline was JSON
		return unreadable(sent, operations, form, malformed(err))
	}
	return t, d.ids, err
}

// unreadable is a transaction with what can be read of it: ids, tables and kinds of
// operations.
func unreadable(sent []byte, operations int, form form, why *Malformed) (Transaction, []string, error) {
	readable := plain(sent)
	d := newDecoder(readable, readable, true)
	d.form, d.most = form, operations
	t, err := d.transaction()
	if err != nil {
		return Transaction{}, nil, err
	}
	index := -1
	if list, rest, _ := strings.Cut(why.Path, "["); form.verb != "" {
		index = 0
	} else if list == "crud" || list == "batch" {
		_, _ = fmt.Sscanf(rest, "%d]", &index)
	}
	if index >= len(t.Operations) {
		index = -1
	}
	t.Unreadable = &Unreadable{Sent: sent, Rejection: Rejection{Code: InvalidData, Message: why.Error(), Operation: index}}
	return t, d.ids, nil
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
	if d.form.verb != "" {
		op, _, err := d.operation()
		return Transaction{Operations: []Operation{op}}, err
	}
	var id string
	list := "crud"
	err = d.object(func(name string) (err error) {
		switch {
		case name == "transaction_id" || name == "transactionId" || name == "tx_id":
			if err = d.once(&id, name); err == nil {
				t.ID, err = d.integer()
			}
		case name == "crud" || name == "batch" && d.form.list != nil:
			list = name
			t.Operations, err = d.crud()
		case d.form.list != nil: // frame has checked it
			err = d.SkipValue()
		default:
			err = d.skip(name, "transaction_id", "crud")
		}
		return err
	})
	if err == nil && t.Operations == nil {
		err = &Malformed{list, "is required: send an array of operations, which may be empty"}
	}
	return t, err
}

// crud reads the operations.
func (d *decoder) crud() (operations []Operation, err error) {
	list := make([]Operation, 0, d.most)
	present, err := d.array(func() error {
		operation, id, err := d.operation()
		list = append(list, operation)
		if d.form.list != nil {
			d.ids = append(d.ids, id)
		}
		return err
	})
	if !present {
		return nil, err
	}
	return list, err
}

// The members of an operation.
const (
	opID = iota
	transactionID
	rowID
	verb
	table
	data
	previous
	metadata
	unknown
)

// memberOf returns the member that a name stands for. Each has the name of the write API,
// and may have those of the SDKs' own JSON and of their classes.
func memberOf(name string) int {
	switch name {
	case "op_id", "client_id", "clientId":
		return opID
	case "transaction_id", "tx_id", "transactionId":
		return transactionID
	case "id":
		return rowID
	case "op":
		return verb
	case "table", "type":
		return table
	case "op_data", "data", "opData":
		return data
	case "previous_values", "old", "previousValues":
		return previous
	case "metadata":
		return metadata
	}
	return unknown
}

// members are the names that a client of the form knows, for people.
func (f form) members() string {
	if f.list != nil || f.verb != "" {
		return "id, op, table or type, op_data, data or opData, previous_values, previousValues or old, metadata, " +
			"op_id, client_id or clientId, and transaction_id, transactionId or tx_id"
	}
	return "op_id, transaction_id, id, op, table, op_data, previous_values and metadata"
}

// operation reads an operation, and the id of its transaction, which is empty if none was
// sent. An unknown member is an error: if it were ignored, a part of a write would be lost.
func (d *decoder) operation() (op Operation, transaction string, err error) {
	var names [unknown]string // as sent; empty if it was not sent, or as null
	err = d.object(func(name string) (err error) {
		member := memberOf(name)
		if member == unknown {
			if err := d.SkipValue(); err != nil {
				return err
			}
			return d.fail("is not a member of an operation: those are " + d.form.members())
		}
		if err := d.once(&names[member], name); err != nil {
			return err
		}
		sent := true
		switch member {
		case opID:
			op.OpID, err = d.integer()
		case transactionID:
			transaction, err = d.integer()
		case rowID:
			op.ID, sent, err = d.text(nil)
		case verb:
			op.Op, sent, err = d.verb()
		case table:
			op.Table, sent, err = d.text(d.names)
		case data:
			op.Data, err = d.members()
		case previous:
			op.Previous, err = d.members()
		case metadata:
			op.Metadata, _, err = d.text(nil)
		}
		if !sent {
			names[member] = ""
		}
		return err
	})
	if err != nil {
		return op, "", err
	}
	return op, transaction, d.complete(&op, &names)
}

// complete takes what an older client sends elsewhere: the kind of the operation as the
// HTTP method, and the row's id in the data. Then nothing may be missing.
func (d *decoder) complete(op *Operation, names *[unknown]string) error {
	fail := func(member, problem string) error {
		return &Malformed{strings.TrimPrefix(dotted(d.StackPointer())+"."+member, "."), problem}
	}
	if names[rowID] == "" {
		if i := slices.IndexFunc(op.Data, func(m Member) bool { return m.Name == "id" }); i >= 0 {
			if kind := op.Data[i].Value.Kind(); kind != '"' {
				return fail(names[data]+".id", "must be a string, not "+kindName(kind))
			}
			id, _ := jsontext.AppendUnquote(nil, op.Data[i].Value) // it was decoded
			op.ID, names[rowID] = string(id), "id"
			op.Data = slices.Delete(op.Data, i, i+1)
		}
	}
	if d.lenient {
		op.Data = nil
	}
	if method := d.form.verb; method != "" && names[verb] == "" {
		op.Op, names[verb] = method, "op"
	} else if method != "" && op.Op != method {
		return fail("op", fmt.Sprintf("must be %s, as the request's method, not %s", method, op.Op))
	}
	for _, required := range []struct {
		member int
		name   string
	}{{rowID, "id"}, {verb, "op"}, {table, "table"}} {
		if names[required.member] == "" {
			return fail(required.name, "is required: send a string")
		}
	}
	return nil
}

// verb reads the kind of an operation. It is not sent if it is null.
func (d *decoder) verb() (op Op, sent bool, err error) {
	text, sent, err := d.text(d.names)
	if op = Op(text); err == nil && sent && op != Put && op != Patch && op != Delete {
		err = d.fail("must be PUT, PATCH or DELETE, not " + quoteShort(text))
	}
	return op, sent, err
}

// members reads an object and keeps the spelling of its values. It is nil for null.
func (d *decoder) members() (list []Member, err error) {
	if d.PeekKind() == 'n' {
		return nil, d.SkipValue()
	}
	d.row = d.row[:0]
	err = d.object(func(name string) error {
		if d.lenient && name != "id" { // nothing uses the value
			return d.SkipValue()
		}
		value, err := d.value()
		d.row = append(d.row, Member{Name: name, Value: value})
		return err
	})
	return append(make([]Member, 0, len(d.row)), d.row...), err
}
