package value

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// Arrays, composites and ranges arrive as JSON, in the form that PowerSync sends
// them down when custom types are on, or in Postgres' own text form, which is
// what it sends otherwise:
//
//	array       ["a", "b"]                                        {a,b}
//	composite   {"street": "High St", "number": 7}                ("High St",7)
//	range       {"lower": 1, "upper": 5, "lower_exclusive": 0,    [1,5)
//	             "upper_exclusive": 1}, or "empty"
//	multirange  an array of ranges                                {[1,5),[7,9)}

func arrayText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	trimmed := strings.TrimSpace(text)
	if kind == '"' && (strings.HasPrefix(trimmed, "{") || dimensions(trimmed)) {
		return text, nil
	}
	var elements []jsontext.Value
	if !decodeJSON(text, &elements) || elements == nil {
		return "", errors.New("send a JSON array")
	}
	var out strings.Builder
	out.WriteByte('{')
	for i, element := range elements {
		if i > 0 {
			out.WriteByte(delimiter(t))
		}
		text, err := elementText(t, element)
		if err != nil {
			return "", fmt.Errorf("element %d: %w", i+1, err)
		}
		out.WriteString(text)
	}
	out.WriteByte('}')
	return out.String(), nil
}

// dimensions recognises the form [1:3]={…}, which no JSON array has.
func dimensions(text string) bool {
	bounds, _, ok := strings.Cut(text, "={")
	return ok && strings.HasPrefix(bounds, "[") && strings.Trim(bounds, "[]:-0123456789") == ""
}

// delimiter separates the elements of an array: box alone has its own.
func delimiter(t *catalog.Type) byte {
	if t.Of.Name == "box" {
		return ';'
	}
	return ','
}

func elementText(t *catalog.Type, element jsontext.Value) (string, error) {
	json := t.Of.Name == "json" || t.Of.Name == "jsonb"
	switch {
	case element.Kind() == 'n':
		return "NULL", nil
	case element.Kind() == '[' && !json && t.Of.Kind != catalog.Multirange:
		return arrayText(t, element.Kind(), string(element))
	}
	text, err := typeText(t.Of, element)
	if json && element.Kind() == '"' {
		text, err = string(element), nil // an array of JSON sent as JSON: a string in it is a JSON string
	}
	if err != nil {
		return "", err
	}
	return `"` + escaper.Replace(text) + `"`, nil
}

// escaper is for what stands between double quotes in the text form of an array,
// a composite or a range.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// TextArray is the text form of an array of texts without nulls.
func TextArray(elements []string) []byte {
	out := []byte{'{'}
	for i, element := range elements {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendQuoted(out, element)
	}
	return append(out, '}')
}

func appendQuoted(out []byte, element string) []byte {
	return append(append(append(out, '"'), escaper.Replace(element)...), '"')
}

func compositeText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && strings.HasPrefix(strings.TrimSpace(text), "(") {
		return text, nil
	}
	var fields map[string]jsontext.Value
	if !decodeJSON(text, &fields) || fields == nil {
		return "", errors.New("send a JSON object")
	}
	var out strings.Builder
	for i, field := range t.Fields {
		out.WriteByte("(,"[min(i, 1)])
		value, ok := fields[field.Name]
		delete(fields, field.Name)
		if !ok || value.Kind() == 'n' {
			continue
		}
		text, err := typeText(field.Type, value)
		if err != nil {
			return "", fmt.Errorf("field %s: %w", field.Name, err)
		}
		out.WriteString(`"` + escaper.Replace(text) + `"`)
	}
	for name := range fields {
		return "", fmt.Errorf("the type has no field %q", name)
	}
	out.WriteByte(')')
	return out.String(), nil
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
		return "", errors.New(`send a JSON object of lower, upper, lower_exclusive and upper_exclusive, or "empty"`)
	}
	lower, err := boundText(t, r.Lower)
	if err != nil {
		return "", fmt.Errorf("lower: %w", err)
	}
	upper, err := boundText(t, r.Upper)
	if err != nil {
		return "", fmt.Errorf("upper: %w", err)
	}
	open, closing := "[", "]"
	if truth(r.LowerExclusive) {
		open = "("
	}
	if truth(r.UpperExclusive) {
		closing = ")"
	}
	return open + lower + "," + upper + closing, nil
}

// boundText is empty for a range without that bound.
func boundText(t *catalog.Type, value jsontext.Value) (string, error) {
	if value == nil || value.Kind() == 'n' {
		return "", nil
	}
	text, err := typeText(t.Of, value)
	if err != nil {
		return "", err
	}
	return `"` + escaper.Replace(text) + `"`, nil
}

func truth(value jsontext.Value) bool { return string(value) == "true" || string(value) == "1" }

func multirangeText(t *catalog.Type, kind jsontext.Kind, text string) (string, error) {
	if kind == '"' && strings.HasPrefix(strings.TrimSpace(text), "{") {
		return text, nil
	}
	var ranges []jsontext.Value
	if !decodeJSON(text, &ranges) || ranges == nil {
		return "", errors.New("send a JSON array of ranges")
	}
	parts := make([]string, 0, len(ranges))
	for i, r := range ranges {
		part, err := typeText(t.Of, r)
		if err != nil {
			return "", fmt.Errorf("range %d: %w", i+1, err)
		}
		parts = append(parts, part)
	}
	return "{" + strings.Join(parts, ",") + "}", nil
}

func decodeJSON(text string, into any) bool {
	return json.Unmarshal([]byte(text), into, jsontext.AllowDuplicateNames(true)) == nil
}
