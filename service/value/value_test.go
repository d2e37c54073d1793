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

var notes = &catalog.Table{Schema: "public", Name: "notes"}

func base(name string) *catalog.Type { return &catalog.Type{Name: name, Kind: catalog.Base} }

func array(of *catalog.Type) *catalog.Type { return &catalog.Type{Kind: catalog.Array, Of: of} }

// newColumns has a column of every kind of type, under the type's name. A domain
// is none of them: its columns have the type below it.
func newColumns() map[string]*catalog.Column {
	address := &catalog.Type{Name: "address", Kind: catalog.Composite, Fields: []catalog.Field{
		{Name: "street", Type: base("text")}, {Name: "number", Type: base("int4")}, {Name: "tags", Type: array(base("text"))},
	}}
	place := &catalog.Type{Name: "place", Kind: catalog.Composite, Fields: []catalog.Field{{Name: "name", Type: base("text")}, {Name: "at", Type: address}}}
	int4range := &catalog.Type{Name: "int4range", Kind: catalog.Range, Of: base("int4")}
	mood := &catalog.Type{Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", `happy "!"`}}
	types := map[string]*catalog.Type{
		"text": base("text"), "inet": base("inet"), "mood": mood, "address": address, "place": place,
		"int4[]": array(base("int4")), "text[]": array(base("text")), "jsonb[]": array(base("jsonb")), "box[]": array(base("box")),
		"bool[]": array(base("bool")), "mood[]": array(mood), "timestamptz[]": array(base("timestamptz")), "address[]": array(address), "int4range[]": array(int4range),
		"int4range": int4range, "tstzrange": {Name: "tstzrange", Kind: catalog.Range, Of: base("timestamptz")},
		"int4multirange": {Name: "int4multirange", Kind: catalog.Multirange, Of: int4range}, "empty": {Name: "empty", Kind: catalog.Composite},
	}
	for name := range scalars {
		types[name] = base(name)
	}
	columns := map[string]*catalog.Column{
		"varchar(5)":     {Name: "short", TypeName: "character varying(5)", Type: base("varchar"), Modifier: 5 + modifierHeader},
		"varchar":        {Name: "varchar", TypeName: "character varying", Type: base("varchar"), Modifier: -1},
		"char(3)":        {Name: "char", TypeName: "character(3)", Type: base("bpchar"), Modifier: 3 + modifierHeader},
		"positive":       {Name: "positive", TypeName: "positive", Type: base("int4"), Modifier: -1},                     // a domain over integer
		"shorter":        {Name: "shorter", TypeName: "shorter", Type: base("varchar"), Modifier: 4 + modifierHeader},    // a domain over varchar(4)
		"numeric(10,2)":  {Name: "price", TypeName: "numeric(10,2)", Type: base("numeric"), Modifier: modifier(10, 2)},   // cents
		"numeric(10,-3)": {Name: "price", TypeName: "numeric(10,-3)", Type: base("numeric"), Modifier: modifier(10, -3)}, // thousands
		"timestamptz(3)": {Name: "at", TypeName: "timestamp(3) with time zone", Type: base("timestamptz"), Modifier: 3},
	}
	for name, t := range types {
		columns[name] = &catalog.Column{Name: name, TypeName: name, Type: t, Modifier: -1}
	}
	return columns
}

// modifier is pg_attribute.atttypmod of a numeric(precision, scale).
func modifier(precision, scale int32) int32 { return precision<<16 | scale&0x7ff + modifierHeader }

// conversion is one case: a JSON value for a column, and the text that Postgres
// gets, or what is said of the value.
type conversion struct{ name, column, sent, want, problem string }

func testConversions(t *testing.T, cases []conversion) {
	t.Helper()
	columns := newColumns()
	for _, c := range cases {
		t.Run(c.column+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, columns, c.column)
			got, err := Convert(notes, columns[c.column], jsontext.Value(c.sent))
			if c.problem == "" {
				require.NoError(t, err)
				require.NotNil(t, got, "nil is NULL")
				require.Equal(t, c.want, string(got))
				return
			}
			var unfit *Unfit
			require.ErrorAs(t, err, &unfit)
			require.Equal(t, c.problem, unfit.Problem)
			require.Nil(t, got)
		})
	}
}

func TestNull(t *testing.T) {
	t.Parallel()
	for name, column := range newColumns() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Convert(notes, column, jsontext.Value("null"))
			require.NoError(t, err)
			require.Nil(t, got)
		})
	}
}

// TestNullAsText has the text that older Swift SDKs send for NULL. The columns that can
// hold it keep it.
func TestNullAsText(t *testing.T) {
	t.Parallel()
	kept := map[string]string{
		"text": "null", "varchar": "null", "varchar(5)": "null", "shorter": "null", "inet": "null",
		"json": "null", "jsonb": "null", "bytea": `\x9ee965`,
	}
	for name, column := range newColumns() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Convert(notes, column, jsontext.Value(`"null"`))
			if name == "char(3)" {
				require.ErrorContains(t, err, "send at most 3 characters")
				return
			}
			require.NoError(t, err)
			require.Equal(t, kept[name], string(got))
			require.Equal(t, kept[name] == "", got == nil)
			if got == nil {
				required := *column
				required.NotNull = true
				got, err := Convert(notes, &required, jsontext.Value(`"null"`))
				require.True(t, err != nil || got != nil, "here or by Postgres, it is refused")
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	t.Parallel()
	columns := newColumns()
	for _, c := range []struct{ name, column, sent, message string }{
		{"TableColumnAndValue", "int4", `"abc"`, `public.notes.int4 cannot hold "abc": send a whole number`},
		{"TypeWithItsLength", "varchar(5)", `"123456"`, `public.notes.short cannot hold "123456": send at most 5 characters`},
		{"FortyCharacters", "int4", `"` + strings.Repeat("x", 38) + `"`, `public.notes.int4 cannot hold "` + strings.Repeat("x", 38) + `": send a whole number`},
		{"FirstFortyCharacters", "int4", `"` + strings.Repeat("Ω", 100) + `"`, `public.notes.int4 cannot hold "` + strings.Repeat("Ω", 39) + `…: send a whole number`},
		{"InsideAStructure", "place", `{"at":{"tags":["a"],"number":"x"}}`, `public.notes.place cannot hold {"at":{"tags":["a"],"number":"x"}}: field at: field number: send a whole number`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Convert(notes, columns[c.column], jsontext.Value(c.sent))
			require.EqualError(t, err, c.message)
		})
	}
}

// FuzzConvert converts any JSON value to every type. tests/conformance tests what
// Postgres makes of the text.
func FuzzConvert(f *testing.F) {
	for _, seed := range []string{
		`null`, `true`, `0`, `-1.50e3`, `9223372036854775808`, `"a"`, `""`, `"\u0000"`, `"\\x00ff"`, `"AAEC"`, `"2026-11-23T15:50:30.960+05:30"`, `"0000-01-01 00:00:00Z"`,
		`[1,"a",null,[2]]`, `"[1,2]"`, `"{a,b}"`, `"[0:1]={1,2}"`, `{"street":"a\"b","number":1,"tags":["x"]}`, `"(a,1,)"`, `{"lower":1,"upper":null,"upper_exclusive":1}`, `"empty"`, `[{"lower":1}]`, `"{\"a\":1}"`,
	} {
		f.Add([]byte(seed))
	}
	columns := newColumns()
	f.Fuzz(func(t *testing.T, body []byte) {
		sent := jsontext.Value(body)
		if !sent.IsValid() {
			return
		}
		_ = sent.Compact()
		for name, column := range columns {
			text, err := Convert(notes, column, sent)
			var unfit *Unfit
			switch {
			case err != nil:
				require.True(t, errors.As(err, &unfit))
				require.Equal(t, column.Name, unfit.Column)
				require.LessOrEqual(t, len([]rune(unfit.Value)), 41)
			case sent.Kind() == 'n':
				require.Nil(t, text)
			default:
				require.NotNil(t, text)
				require.NotContains(t, string(text), "\x00")
				if bits, ok := strings.CutPrefix(name, "int"); ok && len(bits) == 1 {
					n, _ := strconv.Atoi(bits)
					_, err := strconv.ParseInt(string(text), 10, 8*n)
					require.NoError(t, err)
				}
				_ = Kept(column, text)
			}
		}
		if timestamp, err := Milliseconds.Timestamp(sent); err == nil {
			require.True(t, timestamp.IsValid())
		}
	})
}
