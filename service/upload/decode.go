package upload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxTransactions is the write API's bound on the transactions of a request.
	MaxTransactions = 50
	// MaxDepth bounds the nesting of arrays and objects in a body. The API needs five
	// levels. The rest is for columns whose values are JSON.
	MaxDepth = 64
)

// Malformed is the error of a body that does not have the write API's form.
type Malformed struct {
	Path    string // such as transactions[0].crud[2].op; empty for the body itself
	Problem string
}

func (m *Malformed) Error() string {
	if m.Path == "" {
		return m.Problem
	}
	return m.Path + ": " + m.Problem
}

// TooMany is the error of a body with more operations than a limit.
type TooMany struct{ Limit int }

func (t *TooMany) Error() string {
	return fmt.Sprintf("the upload has more than %d operations: send fewer transactions in one request; a single transaction of this size needs a larger POSTERN_MAX_OPERATIONS on the server", t.Limit)
}

// DecodeBatch decodes the body of POST /api/data: the write API's, or one of the older
// forms of README.md. It ignores members beside the transactions that it does not know,
// because newer clients may send more. In an operation it ignores none. Every error is a
// *Malformed. A transaction that is at fault by itself is no error: see
// Transaction.Unreadable.
//
// The batch's values are slices of the body, which must not change any more.
func DecodeBatch(body []byte) (Batch, error) { return DecodeBatchWithin(body, math.MaxInt) }

// DecodeBatchWithin is DecodeBatch for at most maxOperations operations. They are counted
// before any is decoded. The error may also be a *TooMany.
func DecodeBatchWithin(body []byte, maxOperations int) (Batch, error) {
	body = withoutMark(body)
	f, err := frame(body, false)
	if err != nil {
		return Batch{}, malformed(err)
	}
	if f.countOperations(body, maxOperations) > maxOperations {
		return Batch{}, &TooMany{maxOperations}
	}
	switch {
	case f.form == "":
		return Batch{}, &Malformed{"transactions", `is required: {"transactions": [{"crud": [...]}]}`}
	case !f.isList() && (f.count < 1 || f.count > MaxTransactions):
		return Batch{}, &Malformed{"transactions", fmt.Sprintf("must hold 1 to %d transactions, not %d", MaxTransactions, f.count)}
	}
	batch := Batch{StatusOnly: f.isList()}
	if batch.UserID, err = text("user_id", f.userID); err != nil {
		return Batch{}, err
	}
	var nameless error
	batch.ClientID, nameless = text("client_id", f.clientID)
	if f.isList() {
		batch.Transactions, err = decodeList(body, f.list)
	} else {
		batch.Transactions, err = DecodeTransactions(f.transactions)
	}
	if err == nil && nameless != nil {
		batch.Transactions, err = f.nameless(body, batch.Transactions, malformed(nameless))
	}
	if err != nil {
		return Batch{}, err
	}
	return batch, nil
}

// nameless makes the transactions Unreadable, because nothing can be the id of their
// device: other devices may send the same. A list becomes one transaction.
func (f *framed) nameless(body []byte, list []Transaction, why *Malformed) ([]Transaction, error) {
	if f.isList() {
		t, _, err := unreadable(body, f.countOperations(body, math.MaxInt), form{list: f.list}, why)
		return []Transaction{t}, err
	}
	for i, t := range list {
		if t.Unreadable != nil {
			continue
		}
		t, _, err := unreadable(f.transactions[i], len(t.Operations), form{}, why)
		if err != nil {
			return nil, err
		}
		list[i] = t
	}
	return list, nil
}

// withoutMark is a body without a byte-order mark, which says nothing.
func withoutMark(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\ufeff")) }

// DecodeTransactions decodes the transactions of the write API.
func DecodeTransactions(sent [][]byte) ([]Transaction, error) {
	list, d := make([]Transaction, 0, len(sent)), newDecoderOfRequest()
	for i, sent := range sent {
		transaction, _, err := d.decode(sent, form{})
		if err != nil {
			m := malformed(err)
			return nil, &Malformed{strings.TrimSuffix(fmt.Sprintf("transactions[%d].%s", i, m.Path), "."), m.Problem}
		}
		list = append(list, transaction)
	}
	return list, nil
}

// text is the id of a user or a device: a string, or a number, which is taken as its text.
// It is empty if none was sent.
func text(member string, sent jsontext.Value) (string, error) {
	switch sent.Kind() {
	case jsontext.KindInvalid, 'n':
		return "", nil
	case '0':
		return string(sent), nil
	case '"':
		unquoted, err := jsontext.AppendUnquote(nil, sent)
		if err != nil {
			return "", &Malformed{member, "is not valid Unicode: " + err.Error()}
		}
		if bytes.IndexByte(unquoted, 0) >= 0 {
			return "", &Malformed{member, "must not contain U+0000"}
		}
		return string(unquoted), nil
	}
	return "", &Malformed{member, "must be a string, not " + kindName(sent.Kind())}
}

// malformed turns a decoder's error into one for the author of the client.
func malformed(err error) *Malformed {
	var (
		known     *Malformed
		syntactic *jsontext.SyntacticError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &syntactic):
		problem := syntactic.Err.Error()
		if errors.Is(err, jsontext.ErrDuplicateName) {
			problem = "appears twice in the same object"
		}
		return &Malformed{dotted(syntactic.JSONPointer), fmt.Sprintf("%s (byte %d)", problem, syntactic.ByteOffset)}
	case errors.Is(err, io.EOF):
		return &Malformed{"", "the body is empty"}
	}
	return &Malformed{"", "the body is not JSON: " + err.Error()}
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	default:
		return "an object"
	}
}

// dotted writes a JSON pointer as a path: transactions[0].crud. A long one is cut.
func dotted(pointer jsontext.Pointer) string {
	const most = 12 // steps
	var path strings.Builder
	steps := 0
	for token := range pointer.Tokens() {
		if steps++; steps > most {
			path.WriteString("…")
			break
		}
		if _, err := strconv.Atoi(token); err == nil {
			path.WriteString("[" + token + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
		}
		path.WriteString(Short(strings.ReplaceAll(token, "\x00", "\uFFFD"))) // the message is stored as text
	}
	return path.String()
}

func quoteShort(s string) string { return strconv.Quote(Cut(s, 40)) }
