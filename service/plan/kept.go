package plan

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"postern/service/catalog"
)

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

// normal is a value as the column gives it back: a numeric has its scale.
func normal(c *catalog.Column, text []byte) []byte {
	if c.Type.Name != "numeric" || c.Modifier < modifierOffset || text == nil {
		return text
	}
	n, ok := new(big.Rat).SetString(string(text))
	if !ok {
		return text
	}
	return []byte(n.FloatString(int((c.Modifier - modifierOffset) & 0x7ff)))
}

// modifierOffset is what Postgres adds to a type's modifier, see numeric.c.
const modifierOffset = 4
