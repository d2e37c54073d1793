package catalog

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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

// Convert turns a client's value into the text that Postgres reads as the
// column's type; nil is NULL. Numbers keep every digit. Types without a rule of
// their own take the client's text as it is, and Postgres judges it.
//
// The rules follow what PowerSync's SDKs send: SQLite has no booleans, dates,
// JSON or arrays, so these arrive as integers and text.
func (t *Table) Convert(c *Column, value jsontext.Value) (*string, error) {
	if value.Kind() == 'n' {
		return nil, nil
	}
	text, err := plain(value)
	if err == nil {
		if strings.ContainsRune(text, 0) {
			err = errors.New("Postgres text cannot hold the character NUL")
		} else {
			text, err = c.convert(value.Kind(), text)
		}
	}
	if err != nil {
		return nil, &Unfit{t.String(), c.Name, c.Type, short(string(value)), err.Error()}
	}
	return &text, nil
}

// plain is a string's characters, or any other value as it was spelled.
func plain(value jsontext.Value) (string, error) {
	if value.Kind() != '"' {
		return string(value), nil
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}

func (c *Column) convert(kind jsontext.Kind, text string) (string, error) {
	if c.Array {
		return arrayText(c, kind, text)
	}
	return scalarText(c.Base, kind, text)
}

func scalarText(base string, kind jsontext.Kind, text string) (string, error) {
	switch base {
	case "bool":
		return boolText(text)
	case "int2", "int4", "int8":
		return intText(text)
	case "numeric", "float4", "float8":
		return numberText(kind, text)
	case "json", "jsonb":
		return jsonText(kind, text)
	case "bytea":
		return byteaText(kind, text)
	case "timestamptz":
		return timestamptzText(kind, text)
	}
	return text, nil
}

func boolText(text string) (string, error) {
	switch text {
	case "1", "1.0", "true":
		return "true", nil
	case "0", "0.0", "false":
		return "false", nil
	}
	return "", errors.New("send 0, 1, true or false")
}

// intText accepts integers, also spelled with a zero fraction as Dart does.
func intText(text string) (string, error) {
	switch text {
	case "true":
		return "1", nil
	case "false":
		return "0", nil
	}
	if whole, zeros, ok := strings.Cut(text, "."); ok && whole != "" && zeros != "" && strings.Trim(zeros, "0") == "" {
		text = whole
	}
	if !integer.MatchString(text) {
		if exact, ok := exactInteger(text); ok {
			return exact, nil
		}
		return "", errors.New("send a whole number")
	}
	return text, nil
}

var (
	integer = regexp.MustCompile(`^[+-]?[0-9]+$`)
	number  = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$`)
)

// exactInteger reads spellings with an exponent, as JavaScript prints numbers
// from 1e21, where they are whole.
func exactInteger(text string) (string, bool) {
	if !number.MatchString(text) {
		return "", false
	}
	ratio, ok := new(big.Rat).SetString(text)
	if !ok || !ratio.IsInt() {
		return "", false
	}
	return ratio.Num().String(), true
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

// jsonText takes JSON sent as JSON, and JSON inside a string, which is how it
// comes out of a SQLite text column. Text that is not JSON is refused rather
// than stored as a JSON string, which would read back as something else.
func jsonText(kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && !jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)) {
		return "", errors.New("the text is not JSON")
	}
	return text, nil
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
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return "", errors.New("send base64 text")
	}
	return `\x` + hex.EncodeToString(raw), nil
}

var zoneless = regexp.MustCompile(`^\d{4,}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?)?$`)

// timestamptzText reads a timestamp without a zone as UTC, whatever the zone of
// the database session.
func timestamptzText(kind jsontext.Kind, text string) (string, error) {
	if kind != '"' {
		return "", errors.New("send an ISO 8601 date and time")
	}
	if zoneless.MatchString(text) {
		if len(text) == len("2026-11-23") {
			return text + " 00:00:00+00", nil
		}
		return text + "+00", nil
	}
	return text, nil
}

// arrayText turns a JSON array into Postgres' array form; text that is already
// of that form passes.
func arrayText(c *Column, kind jsontext.Kind, text string) (string, error) {
	trimmed := strings.TrimSpace(text)
	if kind == '"' && strings.HasPrefix(trimmed, "{") {
		return text, nil
	}
	if !strings.HasPrefix(trimmed, "[") {
		return "", errors.New("send a JSON array")
	}
	var elements []jsontext.Value
	if err := json.Unmarshal([]byte(text), &elements, jsontext.AllowDuplicateNames(true)); err != nil {
		return "", errors.New("the text is not a JSON array")
	}
	return arrayLiteral(c, elements)
}

func arrayLiteral(c *Column, elements []jsontext.Value) (string, error) {
	var out strings.Builder
	out.WriteByte('{')
	for i, element := range elements {
		if i > 0 {
			out.WriteByte(',')
		}
		text, err := elementText(c, element)
		if err != nil {
			return "", fmt.Errorf("element %d: %w", i+1, err)
		}
		out.WriteString(text)
	}
	out.WriteByte('}')
	return out.String(), nil
}

func elementText(c *Column, element jsontext.Value) (string, error) {
	json := c.Base == "json" || c.Base == "jsonb"
	switch {
	case element.Kind() == 'n':
		return "NULL", nil
	case element.Kind() == '[' && !json:
		return arrayText(c, element.Kind(), string(element))
	}
	text, err := plain(element)
	if json {
		text = string(element) // an array of JSON sent as JSON: a string in it is a JSON string
	} else if err == nil {
		text, err = scalarText(c.Base, element.Kind(), text)
	}
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(text, 0) {
		return "", errors.New("Postgres text cannot hold the character NUL")
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

func short(s string) string {
	const most = 40
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
