package value

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// Arrays, composites and ranges arrive as JSON or in Postgres' own text form.
// PowerSync sends down the JSON if custom types are on, else the text form.
//
//	array       ["a", "b"]                                        {a,b}
//	composite   {"street": "High St", "number": 7}                ("High St",7)
//	range       {"lower": 1, "upper": 5, "lower_exclusive": 0,    [1,5)
//	             "upper_exclusive": 1}, or "empty"
//	multirange  an array of ranges                                {[1,5),[7,9)}

// maxDimensions is the most dimensions that Postgres lets an array have (MAXDIM).
const maxDimensions = 6

func arrayText(t *catalog.Type, kind jsontext.Kind, text string, dimension int) (string, error) {
	if dimension > maxDimensions {
		return "", fmt.Errorf("send an array of at most %d dimensions", maxDimensions)
	}
	trimmed := strings.TrimSpace(text)
	if kind == '"' && (strings.HasPrefix(trimmed, "{") || hasBounds(trimmed)) {
		return text, nil
	}
	if !strings.HasPrefix(trimmed, "[") || !isJSON(trimmed) {
		return "", errors.New("send a JSON array")
	}
	// The elements are read one by one, because there may be very many.
	d := jsontext.NewDecoder(strings.NewReader(trimmed), jsontext.AllowDuplicateNames(true))
	_, _ = d.ReadToken()
	var out strings.Builder
	out.WriteByte('{')
	for i := 1; d.PeekKind() != ']'; i++ {
		if i > 1 {
			out.WriteByte(delimiter(t))
		}
		element, err := d.ReadValue()
		if err == nil {
			text, err = elementText(t, element, dimension)
		}
		if err != nil {
			return "", fmt.Errorf("element %d: %w", i, err)
		}
		out.WriteString(text)
	}
	out.WriteByte('}')
	return out.String(), nil
}

// hasBounds recognises Postgres' form [1:3]={…}, which is no JSON array.
func hasBounds(text string) bool {
	bounds, _, ok := strings.Cut(text, "={")
	return ok && strings.HasPrefix(bounds, "[") && strings.Trim(bounds, "[]:-0123456789") == ""
}

// delimiter separates the elements of an array. box is the only type with another
// one than a comma.
func delimiter(t *catalog.Type) byte {
	if t.Of.Name == "box" {
		return ';'
	}
	return ','
}

func elementText(t *catalog.Type, element jsontext.Value, dimension int) (string, error) {
	isJSON := t.Of.Name == "json" || t.Of.Name == "jsonb"
	switch {
	case element.Kind() == 'n':
		return "NULL", nil
	case element.Kind() == '[' && !isJSON && t.Of.Kind != catalog.Multirange:
		return arrayText(t, element.Kind(), string(element), dimension+1)
	case element.Kind() == '"' && isJSON:
		return quote(string(element)), nil // inside JSON, a string is a JSON string and not JSON as text
	}
	text, err := Text(t.Of, element)
	if err != nil {
		return "", err
	}
	return quote(text), nil
}

// escaper is for text between double quotes in an array, a composite or a range.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func quote(text string) string { return `"` + escaper.Replace(text) + `"` }

// TextArray returns the text form of an array of texts without nulls.
func TextArray(elements []string) []byte {
	var list TextList
	for _, element := range elements {
		list.Add(element)
	}
	return list.Array()
}

// TextList is an array of texts without nulls that grows. The zero value has none.
type TextList struct {
	text []byte // of the array, without its end
}

// Add adds an element.
func (l *TextList) Add(element string) {
	start := byte(',')
	if len(l.text) == 0 {
		start = '{'
	}
	l.text = append(l.text, start, '"')
	if strings.ContainsAny(element, `\"`) {
		element = escaper.Replace(element)
	}
	l.text = append(append(l.text, element...), '"')
}

// Array returns the text form. Nothing is added after it.
func (l *TextList) Array() []byte {
	if len(l.text) == 0 {
		return []byte("{}")
	}
	return append(l.text, '}')
}

func compositeText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && strings.HasPrefix(strings.TrimSpace(text), "(") {
		return text, nil
	}
	var sent map[string]jsontext.Value
	if !decodeJSON(text, &sent) || sent == nil {
		return "", errors.New("send a JSON object")
	}
	if err := checkNames(text); err != nil {
		return "", err
	}
	fields := make([]string, len(t.Fields)) // an empty one is NULL
	for i, field := range t.Fields {
		value, ok := sent[field.Name]
		delete(sent, field.Name)
		if !ok || value.Kind() == 'n' {
			continue
		}
		text, err := Text(field.Type, value)
		if err != nil {
			return "", fmt.Errorf("field %s: %w", field.Name, err)
		}
		fields[i] = quote(text)
	}
	if unknown := slices.Sorted(maps.Keys(sent)); len(unknown) > 0 {
		return "", fmt.Errorf("the type has no field %q: remove it", unknown[0])
	}
	return "(" + strings.Join(fields, ",") + ")", nil
}

func rangeText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	if trimmed := strings.TrimSpace(text); kind == '"' && !strings.HasPrefix(trimmed, "{") {
		if strings.Trim(trimmed, `"`) == "empty" {
			return "empty", nil
		}
		return text, nil
	}
	var r struct {
		Lower          jsontext.Value `json:"lower"`
		Upper          jsontext.Value `json:"upper"`
		LowerExclusive jsontext.Value `json:"lower_exclusive"`
		UpperExclusive jsontext.Value `json:"upper_exclusive"`
	}
	if !decodeJSON(text, &r) {
		return "", errors.New(`send a JSON object with lower, upper, lower_exclusive and upper_exclusive, or "empty"`)
	}
	if err := checkNames(text); err != nil {
		return "", err
	}
	lower, err := boundText(t, r.Lower)
	if err != nil {
		return "", fmt.Errorf("lower: %w", err)
	}
	upper, err := boundText(t, r.Upper)
	if err != nil {
		return "", fmt.Errorf("upper: %w", err)
	}
	opening, closing := "[", "]"
	if isTrue(r.LowerExclusive) {
		opening = "("
	}
	if isTrue(r.UpperExclusive) {
		closing = ")"
	}
	return opening + lower + "," + upper + closing, nil
}

// boundText returns a range's bound. It is empty if the range has no such bound.
func boundText(t *catalog.Type, value jsontext.Value) (string, error) {
	if value == nil || value.Kind() == 'n' {
		return "", nil
	}
	text, err := Text(t.Of, value)
	if err != nil {
		return "", err
	}
	return quote(text), nil
}

func isTrue(value jsontext.Value) bool { return string(value) == "true" || string(value) == "1" }

func multirangeText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && strings.HasPrefix(strings.TrimSpace(text), "{") {
		return text, nil
	}
	var ranges []jsontext.Value
	if !decodeJSON(text, &ranges) || ranges == nil {
		return "", errors.New("send a JSON array of ranges")
	}
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		part, err := Text(t.Of, r)
		if err != nil {
			return "", fmt.Errorf("range %d: %w", i+1, err)
		}
		parts[i] = part
	}
	return "{" + strings.Join(parts, ",") + "}", nil
}

func decodeJSON(text string, into any) bool {
	return json.Unmarshal([]byte(text), into, jsontext.AllowDuplicateNames(true)) == nil
}
