package upload

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// framed is the outline of a body. Its parts are slices of the body.
type framed struct {
	clientID, userID jsontext.Value
	form             string // transactions, or crud or batch if the body is a list of operations; empty if it is none
	list             jsontext.Value
	transactions     [][]byte // at most MaxTransactions
	count            int      // of transactions
}

// frame finds the transactions of a body. What is wrong inside a transaction does not
// matter here as long as it is clear where the transaction ends: nothing but its strings
// and names may be wrong. Of a body that is a single operation, nothing else is checked.
func frame(body []byte, single bool) (*framed, error) {
	f, err := outline(body, body, single)
	if errors.As(err, new(*jsontext.SyntacticError)) {
		if f, err := outline(body, plain(body), single); err == nil {
			return f, nil
		}
	}
	return f, err
}

// outline reads the outline of a body from a readable copy, in which each part has the
// same place.
func outline(body, readable []byte, single bool) (*framed, error) {
	f := &framed{}
	d := newDecoder(readable, body, true)
	if kind := d.PeekKind(); kind != '{' && kind != jsontext.KindInvalid {
		return nil, &Malformed{"", "the body must be an object, not " + kindName(kind)}
	}
	var device, user string
	once := func(sent *string, name string) error {
		if *sent == name {
			return d.fail("appears twice in the same object")
		}
		return d.once(sent, name)
	}
	err := d.object(func(name string) (err error) {
		if single {
			return d.SkipValue()
		}
		switch name {
		case "client_id":
			if err = once(&device, name); err == nil {
				f.clientID, err = d.value()
			}
		case "user_id":
			if err = once(&user, name); err == nil {
				f.userID, err = d.value()
			}
		case "transactions":
			if err = once(&f.form, name); err == nil {
				err = f.readTransactions(d)
			}
		case "crud", "batch":
			if err = once(&f.form, name); err == nil {
				f.list, err = d.value()
			}
		case "transaction_id", "transactionId", "tx_id": // of a list
			err = d.SkipValue()
		default:
			err = d.skip(name, "client_id", "user_id", "transactions", "crud", "batch")
		}
		return err
	})
	if err == nil {
		if _, after := d.ReadToken(); !errors.Is(after, io.EOF) {
			err = &Malformed{"", "the body must be one object, and something follows it"}
		}
	}
	return f, err
}

// readTransactions finds where each transaction begins and ends.
func (f *framed) readTransactions(d *decoder) error {
	present, err := d.array(func() error {
		sent, err := d.value()
		if f.count++; f.count <= MaxTransactions {
			f.transactions = append(f.transactions, sent)
		}
		return err
	})
	if !present {
		f.form = ""
	}
	return err
}

// plain is a copy of JSON in which strings have no control characters and no unknown
// escapes, and arrays and objects that nest twice as deep as they may are empty, because
// JSON decoders give up at some depth. Each part keeps its place.
func plain(body []byte) []byte {
	body = bytes.Clone(body)
	inString, depth := false, 0
	for i := 0; i < len(body); i++ {
		c, tooDeep := body[i], depth > 2*MaxDepth
		switch {
		case inString && c == '\\' && isEscape(body[i+1:]):
			if i++; tooDeep {
				body[i-1], body[i] = ' ', ' '
			}
			continue
		case c == '"':
			inString = !inString
		case inString && (c == '\\' || c < ' '):
			body[i] = '?'
		case !inString && (c == '{' || c == '['):
			depth++
		case !inString && (c == '}' || c == ']'):
			depth--
			tooDeep = depth > 2*MaxDepth
		}
		if tooDeep {
			body[i] = ' '
		}
	}
	return body
}

// isEscape reports whether what follows a backslash is an escape of JSON.
func isEscape(rest []byte) bool {
	if len(rest) == 0 || bytes.IndexByte([]byte(`"\/bfnrtu`), rest[0]) < 0 {
		return false
	}
	return rest[0] != 'u' || len(rest) > 4 && len(bytes.Trim(rest[1:5], "0123456789abcdefABCDEF")) == 0
}

// isList reports whether the body is a list of operations.
func (f *framed) isList() bool { return f.form == "crud" || f.form == "batch" }

// countOperations counts up to one operation more than most.
func (f *framed) countOperations(body []byte, most int) int {
	if f.isList() {
		return form{list: f.list}.countOperations(most)
	}
	n, _ := scan(body, operationDepth, most)
	return n
}

// The depths at which objects begin in a body: {"transactions":[{"crud":[{…
const (
	transactionDepth = 3
	operationDepth   = 5
)

// scan takes one pass over JSON. It counts the objects at a depth, up to one more than
// most, and finds the greatest depth.
func scan(body []byte, at, most int) (objects, deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
			if c == '{' && depth == at {
				if objects++; objects > most {
					return objects, deepest
				}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return objects, deepest
}
