package policies

import (
	"errors"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/value"
)

var errNoArray = errors.New("this is not the text form of an array")

// fromArray reads an array in Postgres' text form. Its elements are as to_jsonb
// prints them. It fails on what only some versions of Postgres read: otherwise a rule
// might pass by a list that is not the stored one.
// See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
func fromArray(of *catalog.Type, text string) (ref.Val, error) {
	r := arrayReader{of: of, delimiter: ','}
	if of.Name == "box" {
		r.delimiter = ';'
	}
	r.rest = strings.Trim(text, arraySpace)
	if strings.HasPrefix(r.rest, "[") { // its bounds, which lists do not have
		_, list, ok := strings.Cut(r.rest, "=")
		if !ok {
			return nil, errNoArray
		}
		r.rest = strings.TrimLeft(list, arraySpace)
	}
	list, err := r.list()
	if err == nil && r.rest != "" {
		err = errNoArray
	}
	return list, err
}

const arraySpace = " \t\n\v\f\r"

type arrayReader struct {
	of        *catalog.Type
	delimiter byte
	rest      string
}

// next skips spaces and returns the byte after them; 0 at the end.
func (r *arrayReader) next() byte {
	if r.rest = strings.TrimLeft(r.rest, arraySpace); r.rest == "" {
		return 0
	}
	return r.rest[0]
}

func (r *arrayReader) list() (ref.Val, error) {
	if r.next() != '{' {
		return nil, errNoArray
	}
	r.rest = r.rest[1:]
	elements := []ref.Val{}
	if r.next() == '}' {
		r.rest = r.rest[1:]
		return types.NewRefValList(types.DefaultTypeAdapter, elements), nil
	}
	for {
		element, err := r.element()
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
		end := r.next()
		if end != r.delimiter && end != '}' {
			return nil, errNoArray
		}
		r.rest = r.rest[1:]
		if end == '}' {
			return types.NewRefValList(types.DefaultTypeAdapter, elements), nil
		}
	}
}

func (r *arrayReader) element() (ref.Val, error) {
	switch r.next() {
	case '{':
		return r.list()
	case '"':
		r.rest = r.rest[1:]
		text, err := r.upTo(`"`)
		if err != nil {
			return nil, err
		}
		r.rest = r.rest[1:]
		return fromElement(r.of, text)
	}
	before := r.rest
	text, err := r.upTo(string(r.delimiter) + `{}"`)
	if err != nil || text == "" || r.rest[0] == '"' || r.rest[0] == '{' {
		return nil, errNoArray
	}
	plain := before[:len(before)-len(r.rest)]
	switch {
	case strings.EqualFold(strings.TrimRight(plain, arraySpace), "null"):
		return types.NullValue, nil
	case plain == text:
		text = strings.TrimRight(text, arraySpace)
	case strings.TrimRight(text, arraySpace) != text:
		return nil, errNoArray // an escaped space at the end would belong to the text
	}
	return fromElement(r.of, text)
}

// upTo reads up to the first of some characters that no backslash escapes.
func (r *arrayReader) upTo(ends string) (string, error) {
	var text strings.Builder
	for i := 0; i < len(r.rest); i++ {
		c := r.rest[i]
		switch {
		case strings.IndexByte(ends, c) >= 0:
			r.rest = r.rest[i:]
			return text.String(), nil
		case c == '\\':
			if i++; i == len(r.rest) {
				return "", errNoArray
			}
			c = r.rest[i]
		}
		text.WriteByte(c)
	}
	return "", errNoArray
}

func fromElement(of *catalog.Type, text string) (ref.Val, error) {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return nil, err
	}
	switch of.Kind {
	case catalog.Base, catalog.Enum:
	case catalog.Range, catalog.Multirange:
		return types.String(text), nil
	default:
		return nil, errNoValue
	}
	if of.Name == "json" || of.Name == "jsonb" {
		return fromJSON([]byte(text))
	}
	if text, err = value.Text(of, quoted); err != nil {
		return nil, err
	}
	switch t := valueType(of); t.Kind() {
	case types.BoolKind, types.IntKind, types.DoubleKind:
		return fromPlain(t, text)
	}
	return types.String(text), nil
}
