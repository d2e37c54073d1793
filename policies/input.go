package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"postern/service/identity"
	"postern/service/upload"
)

// Row is a row's values by column; nil if there is no row.
type Row map[string]ref.Val

// Input is what expressions see of one operation. It is not safe for concurrent use.
type Input struct {
	Operation int    // index within the transaction; -1 for rules over all of it
	Policy    *Table // of the operation; nil for rules over the whole transaction
	Op        upload.Op
	ID        string
	Metadata  string
	Lookups   map[string]Row     // of the rule, by the lookup's name
	Lists     map[string]ref.Val // likewise, of lookups of rows; see ListOf
	Shared    map[string]Row     // of lets
	Each      ref.Val            // the value for which a rule over a whole transaction is evaluated; nil if there is none
	Excess    string             // a lookup with more rows than the rule may go through; empty if there is none

	*TransactionInput

	new, old, data rowValue
	lets           map[string]ref.Val // that were evaluated with these rows
}

// TransactionInput is what expressions see of a whole transaction. All its operations
// share it.
type TransactionInput struct {
	Who identity.Identity
	Now time.Time // of the transaction and its first operation; see Input.now
	Tx  []upload.Operation

	trace         Trace
	steps         uint64         // that all expressions took so far
	observedSteps uint64         // likewise those of rules that only observe
	auth          map[string]any // made when an expression first looks at it
	tx            ref.Val        // likewise
}

// New is the row as it will be.
func (in *Input) New() Row { return in.new.row }

// Old is the row as it was before the operation.
func (in *Input) Old() Row { return in.old.row }

// Data is what the client sent.
func (in *Input) Data() Row { return in.data.row }

// SetNew replaces the row as it will be. The caller must not change a row after an
// expression has seen it, which holds for SetOld and SetData too.
func (in *Input) SetNew(row Row) { in.new, in.lets = rowValue{row: row}, nil }

// SetOld replaces the row as it was.
func (in *Input) SetOld(row Row) { in.old, in.lets = rowValue{row: row}, nil }

// SetData replaces what the client sent.
func (in *Input) SetData(row Row) { in.data, in.lets = rowValue{row: row}, nil }

func (in *Input) setLet(name string, value ref.Val) {
	if in.lets == nil {
		in.lets = map[string]ref.Val{}
	}
	in.lets[name] = value
}

// now is the present of an operation. It is later for each operation than for the one
// before by a microsecond, which is what Postgres can store.
func (in *Input) now() time.Time {
	return in.Now.Add(time.Duration(max(in.Operation, 0)) * time.Microsecond)
}

// rowValue is a row with its CEL value, which all rules about the row share.
type rowValue struct {
	row  Row
	made ref.Val // nil until an expression first looks at the row
}

func (r *rowValue) value() ref.Val {
	if r.made == nil {
		r.made = r.row.value()
	}
	return r.made
}

// ResolveName gives expressions their variables.
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case "auth":
		return in.authValue(), true
	case "now":
		return types.Timestamp{Time: in.now()}, true
	case "tx":
		return in.txValue(), true
	}
	if in.Op == "" { // a rule over a whole transaction
		return in.resolveFound(name)
	}
	switch name {
	case "op":
		return strings.ToLower(string(in.Op)), true
	case "id":
		return in.ID, true
	case "metadata":
		return in.Metadata, true
	case "new":
		return in.new.value(), true
	case "old":
		return in.old.value(), true
	case "data":
		return in.data.value(), true
	case "changed":
		return in.changed(), true
	}
	return in.resolveFound(name)
}

// resolveFound resolves the names of what was found for an expression: lookups and lets.
func (in *Input) resolveFound(name string) (any, bool) {
	switch {
	case name == "each" && in.Each != nil:
		return in.Each, true
	case name == "lookup":
		lookups := make(map[string]ref.Val, len(in.Lookups)+len(in.Lists))
		for name, row := range in.Lookups {
			lookups[name] = row.value()
		}
		maps.Copy(lookups, in.Lists)
		return lookups, true
	}
	if row, ok := in.Shared[name]; ok {
		return row.value(), true
	}
	value, ok := in.lets[name]
	return value, ok
}

// ListOf is the value of a lookup of rows.
func ListOf(rows []Row) ref.Val {
	values := make([]ref.Val, len(rows))
	for i, row := range rows {
		values[i] = row.value()
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// changed are the columns whose sent value is not the stored one, without those that the
// policy sets in its place.
func (in *Input) changed() []string {
	names := []string{}
	for name, sent := range in.Data() {
		was, stored := in.Old()[name]
		if (!stored || sent.Equal(was) != types.True) && !in.Policy.overrides(name, in.Op, in.Old() != nil) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Parent implements interpreter.Activation; there is none.
func (in *Input) Parent() interpreter.Activation { return nil }

func (r Row) value() ref.Val {
	if r == nil {
		return types.NullValue
	}
	return types.NewMap(types.DefaultTypeAdapter, r)
}

func (in *TransactionInput) authValue() map[string]any {
	if in.auth == nil {
		in.auth = map[string]any{"sub": in.Who.Subject, "role": in.Who.Role, "issuer": in.Who.Issuer, "session_id": in.Who.SessionID, "claims": valueOrError("claims", in.Who.Claims)}
	}
	return in.auth
}

func (in *TransactionInput) txValue() ref.Val {
	if in.tx != nil {
		return in.tx
	}
	in.tx = newOperationsValue(in.Tx)
	return in.tx
}

// valueOrError returns the CEL value of JSON, or an error value if CEL cannot hold
// it. An expression that looks at the error value fails. If the value were missing
// instead, a rule that checks has() first would pass.
func valueOrError(name string, json []byte) ref.Val {
	value, err := fromJSON(json)
	if err != nil {
		return types.WrapErr(fmt.Errorf("%s: %w", name, err))
	}
	return value
}
