// Package value turns a client's JSON values into the text that Postgres reads as a
// column's type, or says why it cannot. It decides nothing about who may write what, and
// sends nothing.
package value

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// Unfit says that a value cannot be a column's.
type Unfit struct {
	Table, Column, Type string
	Value               string // its first 40 characters
	Problem             string
}

func (u *Unfit) Error() string {
	return fmt.Sprintf("%s.%s is %s: %s does not fit: %s", u.Table, u.Column, u.Type, u.Value, u.Problem)
}

// Convert turns a client's value into the text that Postgres reads as the column's
// type; nil is NULL. The error is an *Unfit.
//
// The rules follow what PowerSync's SDKs send. SQLite has no booleans, dates, JSON or
// arrays, so these arrive as integers and text. Conversion loses nothing: a number keeps
// every digit, and a time with an offset becomes the same time in UTC. Postgres then
// keeps its own normal form: fractions of a second in microseconds, a numeric rounded to
// its declared scale, jsonb without duplicate names, a float with the digits that its
// width holds. Types without a rule here take the client's text unchanged, and Postgres
// judges it.
func Convert(t *catalog.Table, c *catalog.Column, value jsontext.Value) ([]byte, error) {
	if value.Kind() == 'n' {
		return nil, nil
	}
	text, err := typeText(c.Type, value)
	if err == nil {
		err = fits(c, text)
	}
	if err != nil {
		return nil, NewUnfit(t, c, value, err.Error())
	}
	return []byte(text), nil
}

// NewUnfit is the error of a value that does not fit a column.
func NewUnfit(t *catalog.Table, c *catalog.Column, value jsontext.Value, problem string) *Unfit {
	return &Unfit{t.String(), c.Name, c.TypeName, short(string(value)), problem}
}

func short(s string) string {
	const most = 40
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// fits checks a declared length. Postgres' own error for it names no column.
func fits(c *catalog.Column, text string) error {
	if c.Type.Name != "varchar" && c.Type.Name != "bpchar" || c.Modifier < modifierOffset {
		return nil
	}
	most := int(c.Modifier) - modifierOffset
	// Spaces beyond the length are cut off by the SQL standard's own rule.
	if utf8.RuneCountInString(strings.TrimRight(text, " ")) > most {
		return fmt.Errorf("it has more than %d characters", most)
	}
	return nil
}

// typeText is Postgres' text form of a value that is not null.
func typeText(t *catalog.Type, value jsontext.Value) (string, error) {
	text := string(value)
	if value.Kind() == '"' {
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "", err
		}
		text = string(unquoted)
	}
	if strings.ContainsRune(text, 0) {
		return "", errors.New("Postgres text cannot hold the character NUL")
	}
	switch t.Kind {
	case catalog.Array:
		return arrayText(t, value.Kind(), text)
	case catalog.Composite:
		return compositeText(t, value.Kind(), text)
	case catalog.Range:
		return rangeText(t, value.Kind(), text)
	case catalog.Multirange:
		return multirangeText(t, value.Kind(), text)
	case catalog.Enum:
		if !slices.Contains(t.Labels, text) {
			return "", fmt.Errorf("send one of %s", short(strings.Join(t.Labels, ", ")))
		}
		return text, nil
	}
	if convert := scalars[t.Name]; convert != nil {
		return convert(value.Kind(), text)
	}
	return text, nil
}

// scalars are the base types that have a rule, by pg_type.typname.
var scalars = map[string]func(kind jsontext.Kind, text string) (string, error){
	"bool":        boolText,
	"int2":        intText(16),
	"int4":        intText(32),
	"int8":        intText(64),
	"numeric":     numberText,
	"float4":      numberText,
	"float8":      numberText,
	"json":        jsonText,
	"jsonb":       jsonbText,
	"bytea":       byteaText,
	"uuid":        uuidText,
	"date":        dateText,
	"time":        timeText,
	"timestamp":   timestampText,
	"timestamptz": timestamptzText,
}

func boolText(_ jsontext.Kind, text string) (string, error) {
	switch text {
	case "1", "1.0", "true", "t":
		return "true", nil
	case "0", "0.0", "false", "f":
		return "false", nil
	}
	return "", errors.New("send 0, 1, true or false")
}

var number = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$`)

// intText accepts whole numbers, also spelled with a zero fraction, as Dart
// does, or with an exponent, as JavaScript does from 1e21.
func intText(bits int) func(jsontext.Kind, string) (string, error) {
	return func(_ jsontext.Kind, text string) (string, error) {
		switch text {
		case "true":
			return "1", nil
		case "false":
			return "0", nil
		}
		if n, err := strconv.ParseInt(text, 10, bits); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
		if !number.MatchString(text) {
			return "", errors.New("send a whole number")
		}
		ratio, ok := new(big.Rat).SetString(text)
		if !ok || !ratio.IsInt() {
			return "", errors.New("send a whole number")
		}
		if n := ratio.Num(); !n.IsInt64() || bits < 64 && n.BitLen() > bits-1 && n.Int64() != -1<<(bits-1) {
			return "", fmt.Errorf("send a number of at most %d bits", bits)
		}
		return ratio.Num().String(), nil
	}
}

func numberText(kind jsontext.Kind, text string) (string, error) {
	switch {
	case text == "true":
		return "1", nil
	case text == "false":
		return "0", nil
	case number.MatchString(text):
		return text, nil
	case kind == '"' && (text == "NaN" || text == "Infinity" || text == "-Infinity"):
		return text, nil
	}
	return "", errors.New("send a number")
}

// jsonText takes JSON sent as JSON, and JSON inside a string, as a SQLite text column
// holds it. Text that is not JSON is refused: stored as a JSON string it would read back
// as something else.
func jsonText(kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && !jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)) {
		return "", errors.New("the text is not JSON")
	}
	return text, nil
}

var escapedNUL = regexp.MustCompile(`(^|[^\\])(\\\\)*\\u0000`)

func jsonbText(kind jsontext.Kind, text string) (string, error) {
	if escapedNUL.MatchString(text) {
		return "", errors.New(`jsonb cannot hold the character \u0000`)
	}
	return jsonText(kind, text)
}

// byteaText takes standard base64, padded or not, or Postgres' own \x form.
func byteaText(kind jsontext.Kind, text string) (string, error) {
	if kind != '"' {
		return "", errors.New("send base64 text")
	}
	if strings.HasPrefix(text, `\x`) {
		if _, err := hex.DecodeString(text[2:]); err != nil {
			return "", errors.New(`after \x send an even number of hexadecimal digits`)
		}
		return text, nil
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return "", errors.New("send base64 text")
	}
	return `\x` + hex.EncodeToString(raw), nil
}

// isUUID accepts the usual form, and the 32 digits without hyphens.
func isUUID(text string) bool {
	hyphens := len(text) == 36
	if !hyphens && len(text) != 32 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if hyphens && (i == 8 || i == 13 || i == 18 || i == 23) {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// uuidText gives each UUID one text, so that equal UUIDs have equal texts.
func uuidText(_ jsontext.Kind, text string) (string, error) {
	if !isUUID(text) {
		return "", errors.New("send a UUID")
	}
	if text = strings.ToLower(text); len(text) == 32 {
		text = strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
	}
	return text, nil
}
