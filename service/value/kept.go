package value

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"postern/service/catalog"
)

// maxNumber is the length of a number's text up to which it is compared.
const maxNumber = 100

// Kept reports whether Postgres stores a value unchanged, as far as expressions can
// tell. It says no for structures, for types with many spellings, and for a value that is
// cut or rounded to its column's size.
func Kept(c *catalog.Column, text []byte) bool {
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
			return false // computing it may take long
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

// normal is a value as its column returns it: a numeric has its declared scale.
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

// modifierOffset is what Postgres adds to a type's modifier (VARHDRSZ).
const modifierOffset = 4
