package upload

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxColumns = 1600 // of a table in Postgres, and members of an object
	maxNames   = 1000 // that are remembered, so that many different ones take no more memory
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

// decoder reads JSON. Its values are slices of what was sent.
type decoder struct {
	*jsontext.Decoder
	sent    []byte
	most    int               // operations of a transaction
	names   map[string]string // of tables and columns, each once; may be nil
	row     []Member          // the one that is read
	seen    [5]nameSet        // the names of the objects that are read, by depth
	lenient bool              // it forgives what a string holds, a name that appears twice, and a number that is no id
}

// newDecoder returns a decoder of a readable copy of what was sent, in which each part has
// the same place.
func newDecoder(readable, sent []byte, lenient bool) *decoder {
	return &decoder{
		Decoder: jsontext.NewDecoder(bytes.NewBuffer(readable), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(lenient)),
		sent:    sent, lenient: lenient,
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

// array reads an array, or null as not present. element reads each element.
func (d *decoder) array(element func() error) (present bool, err error) {
	switch d.PeekKind() {
	case 'n':
		return false, d.SkipValue()
	case '[':
	default:
		return false, d.mustBe("an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return false, err
	}
	for d.PeekKind() != ']' {
		if err := element(); err != nil {
			return true, err
		}
	}
	_, err = d.ReadToken()
	return true, err
}

// object reads an object. member reads the value of each member.
func (d *decoder) object(member func(name string) error) error {
	if d.PeekKind() != '{' {
		return d.mustBe("an object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	d.seen[d.StackDepth()].clear()
	for d.PeekKind() != '}' {
		name, _, err := d.text(d.names)
		if err != nil {
			return err
		}
		if err := d.checkName(name); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// checkName refuses a name that appears twice in the object that is read. Names inside
// values do not matter here: package value checks them if the column is JSON.
func (d *decoder) checkName(name string) error {
	if d.lenient {
		return nil
	}
	seen := &d.seen[d.StackDepth()]
	switch {
	case !seen.add(name):
		return fault{&Malformed{dotted(d.StackPointer()), "appears twice in the same object"}}
	case len(seen.list) > maxColumns:
		return fault{&Malformed{dotted(d.StackPointer().Parent()), fmt.Sprintf("has more than %d members, and no table has as many columns", maxColumns)}}
	}
	return nil
}

// nameSet is a set of names. It is a list as long as it is short.
type nameSet struct {
	list []string
	all  map[string]bool // if the list is long
}

func (s *nameSet) clear() { s.list, s.all = s.list[:0], nil }

// add adds a name. It returns false if the set has it.
func (s *nameSet) add(name string) bool {
	const short = 32
	if s.all == nil && len(s.list) == short {
		s.all = map[string]bool{}
		for _, known := range s.list {
			s.all[known] = true
		}
	}
	if s.all[name] || s.all == nil && slices.Contains(s.list, name) {
		return false
	}
	if s.list = append(s.list, name); s.all != nil {
		s.all[name] = true
	}
	return true
}

// value reads a value as a slice of what was sent.
func (d *decoder) value() (jsontext.Value, error) {
	value, err := d.ReadValue()
	end := int(d.InputOffset())
	return d.sent[end-len(value) : end : end], err
}

// text reads a string. sent is false if it is null. Equal ones of names are one string in
// memory.
func (d *decoder) text(names map[string]string) (text string, sent bool, err error) {
	if kind := d.PeekKind(); kind == 'n' {
		return "", false, d.SkipValue()
	} else if kind != '"' {
		return "", false, d.mustBe("a string")
	}
	value, err := d.ReadValue()
	if err != nil {
		return "", false, err
	}
	quoted := value[1 : len(value)-1]
	if known, ok := names[string(quoted)]; ok {
		return known, true, nil
	}
	plain := !d.lenient && bytes.IndexByte(quoted, '\\') < 0
	if plain {
		text = string(quoted)
	} else {
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil && !d.lenient {
			return "", false, err
		}
		text = string(unquoted)
	}
	if plain && names != nil && len(names) < maxNames {
		names[text] = text
	}
	return text, true, nil
}

// integer reads a whole number in any spelling, such as 1.0 and 1e3, as decimal digits;
// null as an empty text.
func (d *decoder) integer() (string, error) {
	if kind := d.PeekKind(); kind == 'n' {
		return "", d.SkipValue()
	} else if kind != '0' {
		return "", d.mustBe("an integer")
	}
	sent, err := d.ReadValue()
	if err != nil {
		return "", err
	}
	whole, ok := wholeNumber(string(sent))
	if !ok && !d.lenient {
		return "", fault{&Malformed{dotted(d.StackPointer()), fmt.Sprintf("must be an integer from %d to %d, not %s", math.MinInt64, math.MaxInt64, quoteShort(string(sent)))}}
	}
	return whole, nil
}

// mustBe is the error of a value of another type.
func (d *decoder) mustBe(words string) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	return d.fail("must be " + words + ", not " + kindName(value.Kind()))
}

// fail is an error of the value that was read last.
func (d *decoder) fail(problem string) error { return &Malformed{dotted(d.StackPointer()), problem} }

// wholeNumber is the decimal digits of a JSON number in any spelling; not ok if it has a
// fraction, or does not fit 64 bits.
func wholeNumber(number string) (digits string, ok bool) {
	const most = 64 // characters; a longer number than 1.0 with many zeros is no id
	sign, exponent := "", 0
	mantissa, negative := strings.CutPrefix(number, "-")
	if negative {
		sign = "-"
	}
	if at := strings.IndexAny(mantissa, "eE"); at >= 0 {
		exponent, _ = strconv.Atoi(mantissa[at+1:]) // the largest int if it is larger
		mantissa = mantissa[:at]
	}
	if len(number) > most || max(exponent, -exponent) > most {
		return "", false
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	point := len(whole) + exponent
	all := strings.Repeat("0", max(-point, 0)) + whole + fraction + strings.Repeat("0", max(exponent, 0))
	point = max(point, 0)
	n, err := strconv.ParseInt(sign+"0"+all[:point], 10, 64)
	if err != nil || strings.Trim(all[point:], "0") != "" {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}
