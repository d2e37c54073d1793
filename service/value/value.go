// Package value turns a client's JSON value into a column's value, in the text
// form that Postgres reads, or says why the column cannot hold it.
//
// It does not decide who may write a column, and it uses no database. Postgres
// still checks what depends on its own state: constraints, the range of a float,
// the text of a type without a rule here.
package value

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// Unfit is the error for a value that a column cannot hold.
type Unfit struct {
	Table, Column, Type string
	Value               string // the first 40 characters of its JSON
	Problem             string // what to send instead, or what Postgres said
}

func (u *Unfit) Error() string {
	return fmt.Sprintf("%s.%s cannot hold %s: %s", u.Table, u.Column, u.Value, u.Problem)
}

// NewUnfit describes a problem with a value for a column.
func NewUnfit(table *catalog.Table, c *catalog.Column, value jsontext.Value, problem string) *Unfit {
	return &Unfit{table.String(), c.Name, c.TypeName, short(string(value)), problem}
}

// Convert returns a client's value in the text form that Postgres reads as the
// column's type. NULL is nil. It may be a slice of what was sent. The error is an *Unfit.
//
// SQLite has no booleans, dates, JSON or arrays, so PowerSync's SDKs send these
// as integers and text. Convert keeps what a value means: a number keeps every
// digit, and a time with an offset stays the same point in time. The text "null",
// which older Swift SDKs send for NULL, is NULL if the column may be NULL and has no such
// value.
//
// Postgres then stores its own form of the value. It keeps microseconds, rounds a
// numeric to its declared scale and a float to its width, and sorts the names of
// jsonb. It also reads the text of the types that have no rule here.
func Convert(table *catalog.Table, c *catalog.Column, value jsontext.Value) ([]byte, error) {
	if value.Kind() == 'n' || string(value) == `"null"` && !c.NotNull && !hasTextNull(c.Type) {
		return nil, nil
	}
	if sent, ok := asSent(c, value); ok {
		return sent, nil
	}
	text, err := Text(c.Type, value)
	if err == nil {
		err = errors.Join(checkLength(c, text), checkPrecision(c, text))
	}
	if err != nil {
		return nil, NewUnfit(table, c, value, err.Error())
	}
	return []byte(text), nil
}

// asSent is a text for a column that holds any text, as a slice of what was sent. It is not
// ok if something has to be checked or changed.
func asSent(c *catalog.Column, value jsontext.Value) (text []byte, ok bool) {
	_, limited := maxLength(c)
	if limited || c.Type.Kind != catalog.Base || scalars[c.Type.Name] != nil ||
		value.Kind() != '"' || bytes.IndexByte(value, '\\') >= 0 || bytes.IndexByte(value, 0) >= 0 || !utf8.Valid(value) {
		return nil, false
	}
	end := len(value) - 1
	return value[1:end:end], true
}

// hasTextNull reports whether the text "null" may be a value of the type: a text, JSON's
// null, or base64. Of a type without a rule here, Postgres decides.
func hasTextNull(t *catalog.Type) bool {
	switch t.Kind {
	case catalog.Array, catalog.Composite, catalog.Range, catalog.Multirange:
		return false
	case catalog.Enum:
		return slices.Contains(t.Labels, "null")
	}
	return scalars[t.Name] == nil || t.Name == "json" || t.Name == "jsonb" || t.Name == "bytea"
}

// Text returns a value in the text form that Postgres reads as the type. The
// value must not be null. The error says what to send instead.
func Text(t *catalog.Type, value jsontext.Value) (string, error) {
	text, err := unquote(value)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(text, 0) {
		return "", errors.New(`Postgres cannot store the character \u0000: remove it`)
	}
	switch t.Kind {
	case catalog.Array:
		return arrayText(t, value.Kind(), text, 1)
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

// Respells reports whether Text may write a value of the type in another way than it was
// sent. If the column has become a text, such a value must not be stored as it is.
func Respells(t *catalog.Type) bool {
	switch t.Kind {
	case catalog.Base:
		return slices.Contains([]string{"bool", "bytea", "date", "time", "timestamp", "timestamptz"}, t.Name)
	case catalog.Enum:
		return false
	}
	return true
}

// unquote returns the text of a JSON string, and any other value as it is.
func unquote(value jsontext.Value) (string, error) {
	switch {
	case value.Kind() != '"':
		return string(value), nil
	case bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value):
		return string(value[1 : len(value)-1]), nil
	}
	unquoted, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "", errors.New("the text is not valid Unicode: send UTF-8 without lone surrogates")
	}
	return string(unquoted), nil
}

// checkLength checks the declared length of a varchar(n) or char(n). The error
// of Postgres would not name the column.
func checkLength(c *catalog.Column, text string) error {
	most, limited := maxLength(c)
	// Postgres cuts off the spaces beyond the length, as the SQL standard asks.
	if limited && utf8.RuneCountInString(strings.TrimRight(text, " ")) > most {
		return fmt.Errorf("send at most %d characters", most)
	}
	return nil
}

// modifierHeader is what Postgres adds to the length or the precision and scale
// of a type in pg_attribute.atttypmod (VARHDRSZ).
const modifierHeader = 4

// maxLength returns the n of a varchar(n) or char(n). limited reports whether
// there is one.
func maxLength(c *catalog.Column) (most int, limited bool) {
	if c.Type.Name != "varchar" && c.Type.Name != "bpchar" || c.Modifier < modifierHeader {
		return 0, false
	}
	return int(c.Modifier) - modifierHeader, true
}

// short cuts text after 40 characters, so that it can be part of a message.
func short(text string) string { return cut(text, 40) }

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
