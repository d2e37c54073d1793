package policies

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/types/known/structpb"

	"postern/service/catalog"
	"postern/service/value"
)

// columnType returns the CEL type of a column. An expression must compare a nullable
// column with null before it uses it, or it fails on a null.
func columnType(c *catalog.Column) *types.Type {
	t := valueType(c.Type)
	if c.NotNull {
		return t
	}
	switch t.Kind() {
	case types.BoolKind, types.IntKind, types.DoubleKind, types.StringKind, types.TimestampKind:
		return types.NewNullableType(t)
	}
	return types.DynType
}

// valueType returns the CEL type of a Postgres type: int for whole numbers, double
// for other numbers, timestamp for dates and timestamps, dyn for JSON, and string for
// types that CEL does not have. numeric is a double too, because expressions compare
// values and do not store them.
func valueType(t *catalog.Type) *types.Type {
	switch t.Kind {
	case catalog.Array:
		return types.NewListType(types.DynType)
	case catalog.Composite, catalog.Range, catalog.Multirange:
		return types.DynType
	case catalog.Enum:
		return types.StringType
	}
	switch t.Name {
	case "bool":
		return types.BoolType
	case "int2", "int4", "int8", "oid":
		return types.IntType
	case "float4", "float8", "numeric":
		return types.DoubleType
	case "timestamptz", "timestamp", "date":
		return types.TimestampType
	case "json", "jsonb":
		return types.DynType
	}
	return types.StringType
}

var errNoValue = errors.New("CEL has no such value")

// FromText returns the CEL value of a value in Postgres' text form; nil is NULL. It
// fails for arrays, composites and ranges, whose text form it does not read.
func FromText(t *catalog.Type, text []byte) (ref.Val, error) {
	if text == nil {
		return types.NullValue, nil
	}
	switch {
	case t.Kind == catalog.Enum:
		return types.String(text), nil
	case t.Kind != catalog.Base:
		return nil, errNoValue
	case t.Name == "json" || t.Name == "jsonb":
		return fromJSON(text)
	}
	return fromPlain(valueType(t), string(text))
}

func fromPlain(t *types.Type, text string) (ref.Val, error) {
	switch t.Kind() {
	case types.BoolKind:
		return types.Bool(text == "true" || text == "t"), nil
	case types.IntKind:
		n, err := strconv.ParseInt(text, 10, 64)
		return types.Int(n), err
	case types.DoubleKind:
		f, err := parseFloat(text)
		return types.Double(f), err
	case types.TimestampKind:
		at, err := ParseMoment(text)
		return types.Timestamp{Time: at}, err
	}
	return types.String(text), nil
}

// parseFloat reads a number. A number that is too large for a float is infinite, so
// that it still compares as larger than every float.
func parseFloat(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if errors.Is(err, strconv.ErrRange) && math.IsInf(f, 0) {
		err = nil
	}
	return f, err
}

// FromSent returns the CEL value of what a client sent, for the types that FromText
// does not read: JSON, JSON in a string, or Postgres' text form. Of the text forms it
// reads an array's; the others stay text.
func FromSent(t *catalog.Type, sent jsontext.Value) (ref.Val, error) {
	switch {
	case t.Kind == catalog.Array && sent.Kind() != 'n':
		text, err := value.Text(t, sent)
		if err != nil {
			return nil, err
		}
		return fromArray(t.Of, text)
	case t.Kind == catalog.Base, t.Kind == catalog.Enum, sent.Kind() != '"':
		return FromJSON(t, sent)
	}
	text, err := jsontext.AppendUnquote(nil, sent)
	if err != nil {
		return nil, err
	}
	if inner := jsontext.Value(text); inner.IsValid(jsontext.AllowDuplicateNames(true)) {
		return FromJSON(t, inner)
	}
	return types.String(text), nil
}

// FromJSON returns the CEL value of a column's value as to_jsonb prints it.
func FromJSON(t *catalog.Type, value jsontext.Value) (ref.Val, error) {
	if value == nil || value.Kind() == 'n' {
		return types.NullValue, nil
	}
	if t.Kind != catalog.Base && t.Kind != catalog.Enum || t.Name == "json" || t.Name == "jsonb" {
		return fromJSON(value)
	}
	text := string(value)
	if value.Kind() == '"' {
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return nil, err
		}
		text = string(unquoted)
	}
	return fromPlain(valueType(t), text)
}

// fromJSON returns the CEL value of JSON. Whole numbers become ints. Of a name that
// appears twice, the last value counts, as in jsonb.
func fromJSON(value []byte) (ref.Val, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(value), jsontext.AllowDuplicateNames(true))
	v, err := readJSON(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

func readJSON(d *jsontext.Decoder) (ref.Val, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return types.NullValue, nil
	case 't', 'f':
		return types.Bool(token.Bool()), nil
	case '"':
		return types.String(token.String()), nil
	case '0':
		if n, err := strconv.ParseInt(token.String(), 10, 64); err == nil {
			return types.Int(n), nil
		}
		f, err := parseFloat(token.String())
		return types.Double(f), err
	case '[':
		elements := []ref.Val{}
		for d.PeekKind() != ']' {
			element, err := readJSON(d)
			if err != nil {
				return nil, err
			}
			elements = append(elements, element)
		}
		_, err = d.ReadToken()
		return types.NewRefValList(types.DefaultTypeAdapter, elements), err
	}
	fields := map[ref.Val]ref.Val{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := types.String(name.String())
		if fields[key], err = readJSON(d); err != nil {
			return nil, err
		}
	}
	_, err = d.ReadToken()
	return types.NewRefValMap(types.DefaultTypeAdapter, fields), err
}

// The earliest and the latest timestamp in CEL. They also stand for infinite times.
var (
	farPast   = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	farFuture = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// ParseMoment reads a date or a timestamp as Postgres prints it, and as package
// catalog converts what clients send. A timestamp without a zone is UTC. Infinite
// ones and years outside 1 to 9999 become CEL's earliest or latest timestamp.
func ParseMoment(text string) (time.Time, error) {
	switch {
	case text == "infinity", strings.IndexByte(text, '-') > len("9999"):
		return farFuture, nil
	case text == "-infinity", strings.HasSuffix(text, " BC"):
		return farPast, nil
	}
	text = strings.Replace(text, " ", "T", 1)
	// Postgres reads 24:00 as the start of the next day, and :60 as the next minute.
	var later time.Duration
	if strings.Contains(text, "T24:00") {
		text, later = strings.Replace(text, "T24:00", "T00:00", 1), 24*time.Hour
	} else if at := len("2006-01-02T15:04"); len(text) >= at+3 && text[at:at+3] == ":60" {
		text, later = text[:at]+":59"+text[at+3:], time.Second
	}
	for _, layout := range []string{
		"2006-01-02", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999-07", "2006-01-02T15:04:05.999999999-0700",
		"2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006-01-02T15:04-07", "2006-01-02T15:04-0700",
	} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.Add(later), nil
		}
	}
	return time.Time{}, errNoValue
}

// toJSON returns the value of an expression as a client would send it.
func toJSON(value ref.Val) (jsontext.Value, error) {
	switch v := value.(type) {
	case types.Null:
		return jsontext.Value("null"), nil
	case types.Timestamp:
		return jsontext.Value(v.UTC().Format(`"2006-01-02T15:04:05.999999Z"`)), nil
	case types.Int:
		return jsontext.Value(strconv.FormatInt(int64(v), 10)), nil
	case types.String:
		return jsontext.AppendQuote(nil, string(v))
	case types.Bool:
		return jsontext.Value(strconv.FormatBool(bool(v))), nil
	case types.Double:
		return json.Marshal(float64(v))
	}
	native, err := value.ConvertToNative(types.JSONValueType)
	if err != nil {
		return nil, fmt.Errorf("a value of type %s cannot be written as JSON", value.Type().TypeName())
	}
	return native.(*structpb.Value).MarshalJSON()
}

// RowFromJSON reads a JSON object, the result of a lookup. A member that CEL cannot
// hold becomes an error value: an expression that looks at it fails.
func RowFromJSON(object []byte) (Row, error) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	row := make(Row, len(members))
	for name, raw := range members {
		value, err := fromJSON(raw)
		if err != nil {
			value = types.WrapErr(fmt.Errorf("%s: %w", name, err))
		}
		row[name] = value
	}
	return row, nil
}
