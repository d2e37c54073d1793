package apply

import (
	"bytes"
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/upload"
)

// known are the values of the row as it will be, as far as they are sent or set
// and Postgres keeps them as they are.
func (w *write) known() policies.Row {
	if w.sent.Op == upload.Delete || !w.policy.HasExpressions() {
		return nil
	}
	row := make(policies.Row, len(w.columns))
	if w.sent.Op == upload.Patch && w.table.Intercepts("UPDATE") || w.sent.Op == upload.Put && (w.table.Intercepts("INSERT") || w.table.Intercepts("UPDATE")) {
		return row // a trigger may set anything
	}
	for i, column := range w.columns {
		if !kept(column, w.values[i]) {
			continue
		}
		if value, err := policies.FromText(column.Type, w.values[i]); err == nil {
			row[column.Name] = value
		}
	}
	return row
}

// maxNumber is the length of a number's text up to which it is worth comparing.
const maxNumber = 100

// kept reports whether a value comes back from its column as it was sent, as far
// as expressions can tell. Structures, and types with many spellings, do not; nor
// does what is cut or rounded to a column's size.
func kept(c *catalog.Column, text []byte) bool {
	switch {
	case text == nil, c.Type.Kind == catalog.Enum:
		return true
	case c.Type.Kind != catalog.Base:
		return false
	}
	switch c.Type.Name {
	case "bool", "int2", "int4", "int8", "float8", "uuid", "text", "json", "jsonb", "date":
		return true
	case "float4": // which comes back in as few digits as tell it from its neighbours
		stored, err := strconv.ParseFloat(string(text), 32)
		sent, _ := strconv.ParseFloat(string(text), 64)
		back, _ := strconv.ParseFloat(strconv.FormatFloat(stored, 'g', -1, 32), 64)
		return err == nil && (back == sent || math.IsNaN(back))
	case "varchar":
		return c.Modifier < modifierOffset || utf8.RuneCount(text) <= int(c.Modifier-modifierOffset)
	case "numeric":
		if c.Modifier < modifierOffset {
			return true
		}
		if len(text) > maxNumber || bytes.ContainsAny(text, "eE") {
			return false // counting it out may take long
		}
		sent, ok := new(big.Rat).SetString(string(text))
		stored, _ := new(big.Rat).SetString(string(normal(c, text)))
		return !ok || sent.Cmp(stored) == 0
	case "timestamp", "timestamptz":
		_, fraction, _ := bytes.Cut(text, []byte("."))
		return (c.Modifier < 0 || c.Modifier == 6) && len(fraction)-len(bytes.TrimLeft(fraction, "0123456789")) <= 6
	}
	return false
}

// depends reports whether what a column will be depends on the stored row: by the
// table's conflict strategy, or because only a new row gets the value.
func (w *write) depends(column string) bool {
	if slices.Contains(w.initial, w.table.Column(column)) {
		return true
	}
	c := w.policy.Conflict
	switch c.Strategy {
	case policies.Version, policies.Increment:
		return slices.Contains(c.Columns, column)
	case policies.Fields:
		_, tracked := w.previous[w.table.Column(column)]
		return tracked
	}
	return false
}

// judgesOld reports whether a rule is asked about the row as it was.
func (w *write) judgesOld() bool {
	return len(w.rules) > 0 && (w.sent.Op != upload.Put || slices.ContainsFunc(w.rules, (*policies.Rule).LooksAtOld))
}
