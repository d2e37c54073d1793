package upload

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
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

type wireBatch struct {
	ClientID     *string            `json:"client_id"`
	UserID       *string            `json:"user_id"`
	Transactions *[]wireTransaction `json:"transactions"`
}

type wireTransaction struct {
	ID   *int64           `json:"transaction_id"`
	Crud *[]wireOperation `json:"crud"`
}

type wireOperation struct {
	OpID     *int64  `json:"op_id"`
	ID       *string `json:"id"`
	Op       *string `json:"op"`
	Table    *string `json:"table"`
	TxID     *int64  `json:"transaction_id"`
	Data     members `json:"op_data"`
	Previous members `json:"previous_values"`
	Metadata *string `json:"metadata"`

	// The names that the SDKs' own JSON and older demos have for these. They are refused:
	// a member that is ignored would be a write that is lost.
	Type           jsontext.Value `json:"type"`
	SDKData        jsontext.Value `json:"data"`
	OpData         jsontext.Value `json:"opData"`
	Old            jsontext.Value `json:"old"`
	PreviousValues jsontext.Value `json:"previousValues"`
}

// otherNames are the members that have another name in the write API.
func (w wireOperation) otherNames() []struct {
	name, right string
	value       jsontext.Value
} {
	return []struct {
		name, right string
		value       jsontext.Value
	}{{"type", "table", w.Type}, {"data", "op_data", w.SDKData}, {"opData", "op_data", w.OpData}, {"old", "previous_values", w.Old}, {"previousValues", "previous_values", w.PreviousValues}}
}

// members decodes a JSON object and keeps the spelling of its values.
type members []Member

func (m *members) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	start, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch start.Kind() {
	case 'n':
		*m = nil
		return nil
	case '{':
	default:
		return fmt.Errorf("must be an object, not %s", kindName(start.Kind()))
	}
	list := members{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		column := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		list = append(list, Member{Name: column, Value: value.Clone()})
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*m = list
	return nil
}

// TooMany is the error of a body with more operations than a limit.
type TooMany struct{ Limit int }

func (t *TooMany) Error() string {
	return fmt.Sprintf("the upload has more than %d operations: send fewer transactions in one request; a single transaction of this size needs a larger POSTERN_MAX_OPERATIONS on the server", t.Limit)
}

// DecodeBatch decodes the body of POST /api/data. It ignores members that the API does
// not have, because newer clients may send more. Every error is a *Malformed.
func DecodeBatch(body []byte) (Batch, error) { return DecodeBatchWithin(body, math.MaxInt) }

// DecodeBatchWithin is DecodeBatch for at most maxOperations operations. They are counted
// before anything is decoded. The error may also be a *TooMany.
func DecodeBatchWithin(body []byte, maxOperations int) (Batch, error) {
	deep, operations := scan(body, maxOperations)
	if deep {
		return Batch{}, &Malformed{pathAtDepth(body), fmt.Sprintf("arrays and objects nest deeper than %d levels", MaxDepth)}
	}
	if operations > maxOperations {
		return Batch{}, &TooMany{maxOperations}
	}
	var wire *wireBatch
	if err := json.Unmarshal(body, &wire); err != nil {
		return Batch{}, malformed(err)
	}
	if wire == nil {
		return Batch{}, &Malformed{"", "the body must be an object, not null"}
	}
	if wire.Transactions == nil {
		return Batch{}, &Malformed{"transactions", `is required: {"transactions": [{"crud": [...]}]}`}
	}
	if n := len(*wire.Transactions); n < 1 || n > MaxTransactions {
		return Batch{}, &Malformed{"transactions", fmt.Sprintf("must hold 1 to %d transactions, not %d", MaxTransactions, n)}
	}
	batch := Batch{Transactions: make([]Transaction, 0, len(*wire.Transactions))}
	if wire.ClientID != nil {
		if batch.ClientID = *wire.ClientID; strings.Contains(batch.ClientID, "\x00") {
			return Batch{}, &Malformed{"client_id", "must not contain U+0000"}
		}
	}
	if wire.UserID != nil {
		batch.UserID = *wire.UserID
	}
	for i, w := range *wire.Transactions {
		transaction, err := w.transaction(fmt.Sprintf("transactions[%d]", i))
		if err != nil {
			return Batch{}, err
		}
		batch.Transactions = append(batch.Transactions, transaction)
	}
	return batch, nil
}

func (w wireTransaction) transaction(path string) (Transaction, error) {
	if w.Crud == nil {
		return Transaction{}, &Malformed{path + ".crud", "is required: send an array of operations, which may be empty"}
	}
	transaction := Transaction{ID: decimal(w.ID), Operations: make([]Operation, 0, len(*w.Crud))}
	for i, o := range *w.Crud {
		operation, err := o.operation(fmt.Sprintf("%s.crud[%d]", path, i))
		if err != nil {
			return Transaction{}, err
		}
		transaction.Operations = append(transaction.Operations, operation)
	}
	return transaction, nil
}

func (w wireOperation) operation(path string) (Operation, error) {
	for _, other := range w.otherNames() {
		if other.value != nil {
			return Operation{}, &Malformed{path + "." + other.name, fmt.Sprintf("is not a member of the write API: send it as %s", other.right)}
		}
	}
	for _, field := range []struct {
		name  string
		value *string
	}{{"id", w.ID}, {"op", w.Op}, {"table", w.Table}} {
		if field.value == nil {
			return Operation{}, &Malformed{path + "." + field.name, "is required: send a string"}
		}
	}
	op := Op(*w.Op)
	if op != Put && op != Patch && op != Delete {
		return Operation{}, &Malformed{path + ".op", fmt.Sprintf("must be PUT, PATCH or DELETE, not %s", quoteShort(*w.Op))}
	}
	operation := Operation{
		OpID: decimal(w.OpID), Op: op, Table: *w.Table, ID: *w.ID,
		Data: w.Data, Previous: w.Previous,
	}
	if w.Metadata != nil {
		operation.Metadata = *w.Metadata
	}
	return operation, nil
}

func decimal(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// malformed turns the decoder's error into one for the author of the client.
func malformed(err error) *Malformed {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		problem := "must be " + typeName(semantic.GoType)
		switch {
		case semantic.Err != nil && semantic.GoType == reflect.TypeFor[members]():
			problem = semantic.Err.Error()
		case semantic.Err != nil && semantic.JSONKind == '0':
			problem += ", not " + quoteShort(string(semantic.JSONValue))
		case semantic.JSONKind != 0:
			problem += ", not " + kindName(semantic.JSONKind)
		}
		if semantic.JSONPointer == "" {
			problem = "the body " + problem
		}
		return &Malformed{dotted(semantic.JSONPointer), problem}
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		problem := syntactic.Err.Error()
		if errors.Is(err, jsontext.ErrDuplicateName) {
			problem = "appears twice in the same object"
		}
		return &Malformed{dotted(syntactic.JSONPointer), fmt.Sprintf("%s (byte %d of the body)", problem, syntactic.ByteOffset)}
	}
	return &Malformed{"", "the body is not JSON: " + err.Error()}
}

func typeName(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
		return "of another type"
	case t == reflect.TypeFor[members](), t.Kind() == reflect.Struct:
		return "an object"
	case t.Kind() == reflect.Slice:
		return "an array"
	case t.Kind() == reflect.String:
		return "a string"
	default:
		return "an integer"
	}
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

// dotted writes a JSON pointer as a path: transactions[0].crud.
func dotted(pointer jsontext.Pointer) string {
	var path strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			path.WriteString("[" + token + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
		}
		path.WriteString(Short(token))
	}
	return path.String()
}

func quoteShort(s string) string {
	const most = 40
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strconv.Quote(s)
}

// operationDepth is the depth at which an operation's object begins:
// {"transactions":[{"crud":[{…
const operationDepth = 5

// scan takes one pass over a body's bytes. It reports whether the body nests deeper than
// MaxDepth, and counts the objects at the depth of operations up to one more than most.
func scan(body []byte, most int) (deep bool, operations int) {
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
			if depth > MaxDepth {
				return true, operations
			}
			if c == '{' && depth == operationDepth {
				if operations++; operations > most {
					return false, operations
				}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false, operations
}

// pathAtDepth has the first six steps to the value that nests too deep.
func pathAtDepth(body []byte) string {
	d := jsontext.NewDecoder(strings.NewReader(string(body)))
	for {
		if _, err := d.ReadToken(); err != nil || d.StackDepth() > MaxDepth {
			const most = 6
			steps := strings.SplitN(string(d.StackPointer()), "/", most+2) // the first is empty
			return dotted(jsontext.Pointer(strings.Join(steps[:min(len(steps), most+1)], "/")))
		}
	}
}
