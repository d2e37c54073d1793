package apply

import (
	"bytes"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// answer is what the guards of an operation say; the zero value lets it through.
type answer struct {
	dropped   string // why the operation is dropped without a word
	rejection *upload.Rejection
}

// guards are builder.guard's conditions on a stored row, in the same order: the
// first that does not hold decides.
func (e *evaluation) guards(stored row) (answer, error) {
	for _, guard := range []func(row) (answer, error){e.guardOwner, e.guardImmutable, e.guardConflict} {
		if said, err := guard(stored); err != nil || said != (answer{}) {
			return said, err
		}
	}
	return answer{}, nil
}

func (e *evaluation) guardOwner(stored row) (answer, error) {
	if e.policy.Owner == "" {
		return answer{}, nil
	}
	c := e.table.Column(e.policy.Owner)
	subject, err := e.table.Convert(c, quoted(e.who.Subject))
	if err != nil {
		return answer{rejection: unfit(err)}, nil
	}
	same, err := e.is(stored, c, subject)
	if err != nil || same {
		return answer{}, err
	}
	return answer{rejection: &upload.Rejection{Code: upload.Unauthorized, Message: "the row exists and is not yours to change"}}, nil
}

func (e *evaluation) guardImmutable(stored row) (answer, error) {
	if e.sent.Op != upload.Put || e.policy.Put == policies.Insert {
		return answer{}, nil
	}
	for _, name := range e.policy.Immutable {
		c := e.table.Column(name)
		at := e.indexOf(c)
		if at < e.keys || e.isAssigned(c) {
			continue
		}
		same, err := e.is(stored, c, e.values[at])
		if err != nil {
			return answer{}, err
		}
		if !same {
			return answer{rejection: &upload.Rejection{Code: upload.ImmutableColumn, Message: "a column of the row keeps its first value"}}, nil
		}
	}
	return answer{}, nil
}

func (e *evaluation) guardConflict(stored row) (answer, error) {
	switch e.policy.Conflict.Strategy {
	case policies.Newest:
		return e.guardNewest(stored)
	case policies.Version:
		return e.guardVersioned(stored)
	case policies.Server:
		return e.guardSame(stored, answer{dropped: "the row has changed meanwhile, and the server's stays"})
	case policies.Reject:
		return e.guardSame(stored, e.conflict(stored))
	}
	return answer{}, nil
}

func (e *evaluation) conflict(stored row) answer {
	details := map[string]any{}
	for name, v := range stored {
		if v.unknown == nil {
			details[name] = v.String()
		}
	}
	return answer{rejection: &upload.Rejection{Code: upload.Conflict, Message: "the row has changed since it was last synced", Details: map[string]any{"row": details}}}
}

func (e *evaluation) guardNewest(stored row) (answer, error) {
	c := e.table.Column(e.policy.Conflict.Columns[0])
	at := e.indexOf(c)
	if at < 0 {
		return answer{}, nil
	}
	is := stored[c.Name]
	switch {
	case is.unknown != nil:
		return answer{}, &Undecidable{e.operation, is.unknown.why}
	case is.text == nil:
		return answer{}, nil
	case e.values[at] != nil:
		order, certain := compare(c, is.text, e.values[at])
		if !certain {
			return answer{}, e.incomparable(c)
		}
		if order <= 0 {
			return answer{}, nil
		}
	}
	return answer{dropped: "the stored row is newer"}, nil
}

func (e *evaluation) guardVersioned(stored row) (answer, error) {
	c := e.table.Column(e.policy.Conflict.Columns[0])
	counted := e.counted
	if at := e.indexOf(c); at >= 0 {
		counted = e.values[at]
	}
	expected, ok := e.previous[c]
	if !ok {
		if counted == nil {
			return answer{}, nil
		}
		if n, ok := new(big.Rat).SetString(string(counted)); ok {
			expected = []byte(n.Sub(n, big.NewRat(1, 1)).RatString())
		}
	}
	same := false
	if expected != nil {
		var err error
		if same, err = e.is(stored, c, expected); err != nil {
			return answer{}, err
		}
	}
	if same {
		return answer{}, nil
	}
	return e.conflict(stored), nil
}

// guardSame expects every value that the client had before its change.
func (e *evaluation) guardSame(stored row, no answer) (answer, error) {
	if e.sent.Op == upload.Put && e.previous == nil {
		return no, nil
	}
	for i := range e.table.Columns {
		c := &e.table.Columns[i]
		previous, ok := e.previous[c]
		if !ok {
			continue
		}
		same, err := e.is(stored, c, previous)
		if err != nil {
			return answer{}, err
		}
		if !same {
			return no, nil
		}
	}
	return answer{}, nil
}

// is reports whether a stored value is another one, NULL being equal to NULL.
func (e *evaluation) is(stored row, c *catalog.Column, other []byte) (bool, error) {
	v := stored[c.Name]
	if v.unknown != nil {
		return false, &Undecidable{e.operation, v.unknown.why}
	}
	same, certain := equal(c, v.text, other)
	if !certain {
		return false, e.incomparable(c)
	}
	return same, nil
}

func (e *evaluation) incomparable(c *catalog.Column) error {
	return &Undecidable{e.operation, "Postgres alone can compare values of " + e.table.String() + "." + c.Name + ", which is " + c.TypeName}
}

// equal reports whether two values of a column are the same to Postgres, and
// whether that is certain.
func equal(c *catalog.Column, a, b []byte) (same, certain bool) {
	switch {
	case a == nil || b == nil:
		return a == nil && b == nil, true
	case bytes.Equal(a, b):
		return true, true
	case c.Type.Kind == catalog.Enum:
		return false, true
	case c.Type.Kind != catalog.Base:
		return false, false
	}
	switch c.Type.Name {
	case "bool", "text", "varchar", "json", "bytea":
		return false, true
	case "uuid":
		return strings.ReplaceAll(string(a), "-", "") == strings.ReplaceAll(string(b), "-", ""), true
	case "jsonb":
		return sameJSON(a, b)
	}
	order, certain := compare(c, a, b)
	return certain && order == 0, certain
}

// compare orders numbers and moments.
func compare(c *catalog.Column, a, b []byte) (order int, certain bool) {
	switch {
	case isNumeric(c):
		x, okX := number(c, a)
		y, okY := number(c, b)
		if !okX || !okY {
			return 0, false
		}
		return x.Cmp(y), true
	case slices.Contains([]string{"timestamptz", "timestamp", "date"}, c.Type.Name):
		x, okX := instant(c, a)
		y, okY := instant(c, b)
		return x.Compare(y), okX && okY
	}
	return 0, false
}

func isNumeric(c *catalog.Column) bool {
	return slices.Contains([]string{"int2", "int4", "int8", "oid", "numeric", "float4", "float8"}, c.Type.Name)
}

// number is a finite number with the digits that its column keeps.
func number(c *catalog.Column, text []byte) (*big.Rat, bool) {
	bits := map[string]int{"float4": 32, "float8": 64}[c.Type.Name]
	if bits == 0 {
		return new(big.Rat).SetString(string(normal(c, text)))
	}
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return nil, false
	}
	r := new(big.Rat).SetFloat64(f)
	return r, r != nil
}

// instant is a moment as precise as its column keeps it, in microseconds at best.
// Infinite ones are not compared here.
func instant(c *catalog.Column, text []byte) (time.Time, bool) {
	at, err := policies.ParseMoment(string(text))
	precision := time.Microsecond
	for digits := c.Modifier; digits >= 0 && digits < 6; digits++ {
		precision *= 10
	}
	return at.Round(precision), err == nil && !bytes.HasSuffix(text, []byte("infinity"))
}

// sameJSON compares jsonb: the order of members, spaces and the spelling of
// numbers do not count. Where a name appears twice only Postgres knows.
func sameJSON(a, b []byte) (same, certain bool) {
	x, y := jsontext.Value(bytes.Clone(a)), jsontext.Value(bytes.Clone(b))
	if x.Canonicalize() != nil || y.Canonicalize() != nil {
		return false, false
	}
	// The canonical form takes numbers for floats: only what is equal in it and
	// differs in digits beyond them is not certain.
	if !bytes.Equal(x, y) {
		return false, true
	}
	return true, !bytes.ContainsAny(a, "123456789") || longest(a) <= 15 && longest(b) <= 15
}

// longest is the length of the longest run of digits.
func longest(text []byte) (most int) {
	run := 0
	for _, c := range text {
		if c >= '0' && c <= '9' {
			run++
			most = max(most, run)
		} else {
			run = 0
		}
	}
	return most
}
