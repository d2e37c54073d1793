package catalog

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// types is one of every kind.
func types() map[string]*Column {
	base := func(name string) *Type { return &Type{Name: name, Kind: Base} }
	columns := map[string]*Column{}
	for name := range scalars {
		columns[name] = &Column{Name: name, TypeName: name, Type: base(name), Modifier: -1}
	}
	address := &Type{Name: "address", Kind: Composite, Fields: []Field{{"street", base("text")}, {"number", base("int4")}, {"tags", &Type{Kind: Array, Of: base("text")}}}}
	int4range := &Type{Name: "int4range", Kind: Range, Of: base("int4")}
	for name, t := range map[string]*Type{
		"text": base("text"), "mood": {Name: "mood", Kind: Enum, Labels: []string{"sad", "happy"}},
		"texts": {Kind: Array, Of: base("text")}, "jsons": {Kind: Array, Of: base("jsonb")}, "boxes": {Kind: Array, Of: base("box")},
		"address": address, "addresses": {Kind: Array, Of: address}, "int4range": int4range, "int4multirange": {Kind: Multirange, Of: int4range},
	} {
		columns[name] = &Column{Name: name, TypeName: name, Type: t, Modifier: -1}
	}
	columns["varchar"] = &Column{Name: "varchar", TypeName: "varchar(3)", Type: base("varchar"), Modifier: 7}
	return columns
}

// FuzzConvert converts any JSON value to every type. What Postgres makes of the
// text is tested where there is one, in tests/conformance.
func FuzzConvert(f *testing.F) {
	for _, seed := range []string{
		`null`, `true`, `0`, `-1.50e3`, `9223372036854775808`, `"a"`, `""`, `"\u0000"`, `"\\x00ff"`, `"AAEC"`, `"2026-11-23T15:50:30.960+05:30"`, `"0000-01-01 00:00:00Z"`,
		`[1,"a",null,[2]]`, `"[1,2]"`, `"{a,b}"`, `"[0:1]={1,2}"`, `{"street":"a\"b","number":1,"tags":["x"]}`, `"(a,1,)"`, `{"lower":1,"upper":null,"upper_exclusive":1}`, `"empty"`, `[{"lower":1}]`, `"{\"a\":1}"`,
	} {
		f.Add([]byte(seed))
	}
	columns := types()
	table := &Table{Schema: "public", Name: "t"}
	f.Fuzz(func(t *testing.T, body []byte) {
		value := jsontext.Value(body)
		if !value.IsValid() {
			return
		}
		_ = value.Compact()
		for name, column := range columns {
			text, err := table.Convert(column, value)
			var unfit *Unfit
			switch {
			case err != nil:
				require.True(t, errors.As(err, &unfit))
				require.Equal(t, name, unfit.Column)
				require.LessOrEqual(t, len([]rune(unfit.Value)), 41)
			case value.Kind() == 'n':
				require.Nil(t, text)
			default:
				require.NotNil(t, text)
				require.NotContains(t, string(text), "\x00")
				if bits, ok := strings.CutPrefix(name, "int"); ok && len(bits) == 1 {
					n, _ := strconv.Atoi(bits)
					_, err := strconv.ParseInt(string(text), 10, 8*n)
					require.NoError(t, err)
				}
			}
		}
	})
}
