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
	hasTransactions  bool
	transactions     [][]byte // at most MaxTransactions
	count            int      // of transactions
}

// frame finds the transactions of a body. What is wrong inside a transaction does not
// matter here as long as it is clear where the transaction ends: nothing but its strings
// and names may be wrong.
func frame(body []byte) (*framed, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // a byte-order mark says nothing
	f, err := outline(body, body)
	if errors.As(err, new(*jsontext.SyntacticError)) {
		if f, err := outline(body, plain(body)); err == nil {
			return f, nil
		}
	}
	return f, err
}

// outline reads the outline of a body from a readable copy, in which each part has the
// same place.
func outline(body, readable []byte) (*framed, error) {
	f := &framed{}
	d := newDecoder(readable, body, true)
	if kind := d.PeekKind(); kind != '{' && kind != jsontext.KindInvalid {
		return nil, &Malformed{"", "the body must be an object, not " + kindName(kind)}
	}
	err := d.object(func(name string) (err error) {
		twice := false
		switch name {
		case "client_id":
			twice = f.clientID != nil
			f.clientID, err = d.value()
		case "user_id":
			twice = f.userID != nil
			f.userID, err = d.value()
		case "transactions":
			twice = f.hasTransactions
			f.hasTransactions, err = d.array(func() error {
				sent, err := d.value()
				if f.count++; f.count <= MaxTransactions {
					f.transactions = append(f.transactions, sent)
				}
				return err
			})
		default:
			err = d.SkipValue()
		}
		if err == nil && twice {
			err = d.fail("appears twice in the same object")
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

// plain is a copy of JSON in which strings have no control characters and no unknown
// escapes. Each part keeps its place.
func plain(body []byte) []byte {
	body = bytes.Clone(body)
	inString := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			inString = !inString
		case !inString:
		case c == '\\' && isEscape(body[i+1:]):
			i++
		case c == '\\' || c < ' ':
			body[i] = '?'
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
