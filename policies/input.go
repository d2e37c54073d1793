package policies

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"postern/service/identity"
	"postern/service/upload"
)

// Row is a row's values by column; nil where there is no row.
type Row map[string]ref.Val

// Input is what expressions see of one operation.
type Input struct {
	Operation int // its index within the transaction
	Op        upload.Op
	ID        string
	Metadata  string
	New, Old  Row
	Data      Row
	Lookups   map[string]Row

	*Shared

	vars [3]seenRow // of new, old and data
}

// Shared is what all operations of a transaction have in common.
type Shared struct {
	Who identity.Identity
	Now time.Time
	Tx  []upload.Operation

	trace Trace
	steps uint64         // that expressions have taken
	auth  map[string]any // made when first needed
	tx    []any
}

// seenRow is a row and its value, so that many rules about one row share it.
type seenRow struct {
	row   Row
	value ref.Val
}

func (s *seenRow) of(row Row) ref.Val {
	if s.value == nil || reflect.ValueOf(s.row).Pointer() != reflect.ValueOf(row).Pointer() {
		s.row, s.value = row, row.value()
	}
	return s.value
}

// ResolveName gives expressions their variables.
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case "auth":
		in.prepare()
		return in.auth, true
	case "now":
		return types.Timestamp{Time: in.Now}, true
	case "tx":
		in.prepare()
		return in.tx, true
	}
	if in.Op == "" { // a whole transaction
		return nil, false
	}
	switch name {
	case "op":
		return strings.ToLower(string(in.Op)), true
	case "id":
		return in.ID, true
	case "metadata":
		return in.Metadata, true
	case "new":
		return in.vars[0].of(in.New), true
	case "old":
		return in.vars[1].of(in.Old), true
	case "data":
		return in.vars[2].of(in.Data), true
	case "lookup":
		lookups := make(map[string]ref.Val, len(in.Lookups))
		for name, row := range in.Lookups {
			lookups[name] = row.value()
		}
		return lookups, true
	}
	return nil, false
}

// Parent is part of an activation; there is none.
func (in *Input) Parent() interpreter.Activation { return nil }

func (r Row) value() ref.Val {
	if r == nil {
		return types.NullValue
	}
	values := make(map[ref.Val]ref.Val, len(r))
	for name, value := range r {
		values[types.String(name)] = value
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, values)
}

func (s *Shared) prepare() {
	if s.auth != nil {
		return
	}
	s.auth = map[string]any{"sub": s.Who.Subject, "role": s.Who.Role, "issuer": s.Who.Issuer, "session_id": s.Who.SessionID, "claims": seenJSON("claims", s.Who.Claims)}
	s.tx = make([]any, len(s.Tx))
	for i, op := range s.Tx {
		data := map[string]any{}
		for _, m := range op.Data {
			data[m.Name] = seenJSON(m.Name, m.Value)
		}
		s.tx[i] = map[string]any{"op": strings.ToLower(string(op.Op)), "table": op.Table, "id": op.ID, "metadata": op.Metadata, "data": data}
	}
}

// seenJSON is JSON that may be beyond what CEL can hold, so that looking at it
// fails: were it missing, a rule that asks has() first would let it through.
func seenJSON(name string, value []byte) ref.Val {
	seen, err := fromJSON(value)
	if err != nil {
		return types.WrapErr(fmt.Errorf("%s: %w", name, err))
	}
	return seen
}
