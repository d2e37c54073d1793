package value

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"

	"postern/service/catalog"
)

// Kept reports whether a column gives a converted value back as it was sent, as
// far as a rule's expression can tell. It is false if Postgres would cut or round
// the value. It is also false for arrays, composites, ranges, and the types that
// Postgres may spell in another way. nil is NULL.
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
	case "float4":
		return keptInFloat4(string(text))
	case "varchar":
		most, limited := maxLength(c)
		return !limited || utf8.RuneCount(text) <= most
	case "numeric":
		return keptInNumeric(c, string(text))
	case "timestamp", "timestamptz":
		_, fraction, _ := bytes.Cut(text, []byte("."))
		digits := len(fraction) - len(bytes.TrimLeft(fraction, "0123456789"))
		return (c.Modifier < 0 || c.Modifier == 6) && digits <= 6
	}
	return false
}

// keptInFloat4 compares a number with what Postgres gives back for it: the fewest
// digits that no other float4 has.
func keptInFloat4(text string) bool {
	stored, err := strconv.ParseFloat(text, 32)
	sent, _ := strconv.ParseFloat(text, 64)
	back, _ := strconv.ParseFloat(strconv.FormatFloat(stored, 'g', -1, 32), 64)
	return err == nil && (back == sent || math.IsNaN(back))
}

// keptInNumeric reports whether a number has no digits beyond a column's scale.
func keptInNumeric(c *catalog.Column, text string) bool {
	_, scale, limited := numericLimits(c)
	if !limited || !number.MatchString(text) { // no scale, or NaN
		return true
	}
	_, exact := wholePart(text, scale)
	return exact
}
