package value

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// scalars has the base types with a rule, by pg_type.typname. Each function takes
// the kind of the JSON value, and its text without JSON's quotes.
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

// jsonText accepts JSON as it is, and JSON inside a string, which is how SQLite
// stores it. Other text is refused. Stored as a JSON string, it would read back
// as something else.
func jsonText(kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && !isJSON(text) {
		return "", errors.New("it is not valid JSON")
	}
	return text, checkNames(text)
}

// escapedNUL finds \u0000 in JSON. The backslash of \\u0000 is itself escaped.
var escapedNUL = regexp.MustCompile(`(^|[^\\])(\\\\)*\\u0000`)

func jsonbText(kind jsontext.Kind, text string) (string, error) {
	if strings.Contains(text, `\u0000`) && escapedNUL.MatchString(text) { // the expression takes its time
		return "", errors.New(`jsonb cannot hold the character \u0000: remove it`)
	}
	return jsonText(kind, text)
}

// byteaText accepts standard base64, padded or not, and Postgres' own \x form.
func byteaText(kind jsontext.Kind, text string) (string, error) {
	if kind != '"' {
		return "", errors.New("it is not valid base64")
	}
	if strings.HasPrefix(text, `\x`) {
		if _, err := hex.DecodeString(text[2:]); err != nil {
			return "", errors.New(`after \x send an even number of hexadecimal digits`)
		}
		return text, nil
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return "", errors.New("it is not valid base64")
	}
	return `\x` + hex.EncodeToString(raw), nil
}

// uuidText writes each UUID in one form, so that equal UUIDs have equal texts.
func uuidText(_ jsontext.Kind, text string) (string, error) {
	if !isUUID(text) {
		return "", errors.New("it is not a valid id (UUID)")
	}
	if text = strings.ToLower(text); len(text) == 32 {
		text = strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
	}
	return text, nil
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
