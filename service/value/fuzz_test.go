package value

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/catalog"
)

// types is one of every kind.
func types() map[string]*catalog.Column {
	base := func(name string) *catalog.Type { return &catalog.Type{Name: name, Kind: catalog.Base} }
	columns := map[string]*catalog.Column{}
	for name := range scalars {
		columns[name] = &catalog.Column{Name: name, TypeName: name, Type: base(name), Modifier: -1}
	}
	address := &catalog.Type{Name: "address", Kind: catalog.Composite, Fields: []catalog.Field{{Name: "street", Type: base("text")}, {Name: "number", Type: base("int4")}, {Name: "tags", Type: &catalog.Type{Kind: catalog.Array, Of: base("text")}}}}
	int4range := &catalog.Type{Name: "int4range", Kind: catalog.Range, Of: base("int4")}
	for name, t := range map[string]*catalog.Type{
		"text": base("text"), "mood": {Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", "happy"}},
		"texts": {Kind: catalog.Array, Of: base("text")}, "jsons": {Kind: catalog.Array, Of: base("jsonb")}, "boxes": {Kind: catalog.Array, Of: base("box")},
		"address": address, "addresses": {Kind: catalog.Array, Of: address}, "int4range": int4range, "int4multirange": {Kind: catalog.Multirange, Of: int4range},
	} {
		columns[name] = &catalog.Column{Name: name, TypeName: name, Type: t, Modifier: -1}
	}
	columns["varchar"] = &catalog.Column{Name: "varchar", TypeName: "varchar(3)", Type: base("varchar"), Modifier: 7}
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
	table := &catalog.Table{Schema: "public", Name: "t"}
	f.Fuzz(func(t *testing.T, body []byte) {
		value := jsontext.Value(body)
		if !value.IsValid() {
			return
		}
		_ = value.Compact()
		for name, column := range columns {
			text, err := Convert(table, column, value)
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
