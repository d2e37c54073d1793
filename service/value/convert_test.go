package value_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/catalog"
	"postern/service/value"
)

func base(name string) *catalog.Type { return &catalog.Type{Name: name, Kind: catalog.Base} }

// column is one named c of a type, without a modifier.
func column(t *catalog.Type) *catalog.Column {
	return &catalog.Column{Name: "c", TypeName: t.Name, Type: t, Modifier: -1}
}

func arrayOf(t *catalog.Type) *catalog.Type {
	return &catalog.Type{Name: "_" + t.Name, Kind: catalog.Array, Of: t}
}

var (
	table   = &catalog.Table{Schema: "public", Name: "t"}
	mood    = &catalog.Type{Name: "mood", Kind: catalog.Enum, Labels: []string{"sad", "happy"}}
	address = &catalog.Type{Name: "address", Kind: catalog.Composite, Fields: []catalog.Field{{Name: "street", Type: base("text")}, {Name: "number", Type: base("int4")}}}
	span    = &catalog.Type{Name: "int4range", Kind: catalog.Range, Of: base("int4")}
	spans   = &catalog.Type{Name: "int4multirange", Kind: catalog.Multirange, Of: span}
)

func TestConvert(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		of   *catalog.Type
		sent string
		want string
	}{
		{"BoolFromOne", base("bool"), `1`, "true"},
		{"BoolFromZero", base("bool"), `0`, "false"},
		{"BoolFromTextOne", base("bool"), `"1"`, "true"},
		{"BoolFromDartsFloat", base("bool"), `1.0`, "true"},
		{"BoolFromTrue", base("bool"), `true`, "true"},
		{"BoolFromTextTrue", base("bool"), `"true"`, "true"},
		{"IntKeepsEveryDigit", base("int8"), `9007199254740993`, "9007199254740993"},
		{"IntFromText", base("int8"), `"9223372036854775807"`, "9223372036854775807"},
		{"IntFromDartsFloat", base("int4"), `1.0`, "1"},
		{"IntFromAnExponent", base("int4"), `1e3`, "1000"},
		{"IntFromTrue", base("int4"), `true`, "1"},
		{"IntAtItsLowest", base("int2"), `-32768`, "-32768"},
		{"NumericKeepsEveryDigit", base("numeric"), `123456789012345678901234567890.123456789`, "123456789012345678901234567890.123456789"},
		{"NumericFromText", base("numeric"), `"1.50"`, "1.50"},
		{"FloatInfinity", base("float8"), `"-Infinity"`, "-Infinity"},
		{"Text", base("text"), `"a\nb"`, "a\nb"},
		{"EmptyText", base("text"), `""`, ""},
		{"TextFromANumber", base("text"), `1.50`, "1.50"},
		{"UUIDInCapitals", base("uuid"), `"9A1F0F4E-0B1D-4C59-8F0E-2F1F2F0A0001"`, "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001"},
		{"UUIDWithoutHyphens", base("uuid"), `"9a1f0f4e0b1d4c598f0e2f1f2f0a0001"`, "9a1f0f4e-0b1d-4c59-8f0e-2f1f2f0a0001"},
		{"JSONFromText", base("jsonb"), `"{\"a\":[1,2]}"`, `{"a":[1,2]}`},
		{"JSONFromJSON", base("jsonb"), `{"a":1}`, `{"a":1}`},
		{"ByteaFromBase64", base("bytea"), `"AAEC"`, `\x000102`},
		{"ByteaFromBase64WithoutPadding", base("bytea"), `"AAE"`, `\x0001`},
		{"ByteaFromHex", base("bytea"), `"\\x00ff"`, `\x00ff`},
		{"Date", base("date"), `"2026-11-23"`, "2026-11-23"},
		{"DateFromMidnight", base("date"), `"2026-11-23T00:00:00.000Z"`, "2026-11-23"},
		{"TimestamptzFromJavaScript", base("timestamptz"), `"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.960+00"},
		{"TimestamptzWithoutAZoneIsUTC", base("timestamptz"), `"2026-11-23 14:29:30"`, "2026-11-23 14:29:30+00"},
		{"TimestamptzAsTheServerSentIt", base("timestamptz"), `"2026-11-23 15:50:30.906557Z"`, "2026-11-23 15:50:30.906557+00"},
		{"TimestamptzWithAnOffset", base("timestamptz"), `"2026-11-23T15:50:30+05:30"`, "2026-11-23 15:50:30+05:30"},
		{"TimestampWithAnOffsetBecomesUTC", base("timestamp"), `"2026-11-23T15:50:30+05:30"`, "2026-11-23 10:20:30"},
		{"InfinityAsPowerSyncSpellsIt", base("timestamptz"), `"0000-01-01 00:00:00Z"`, "-infinity"},
		{"Time", base("time"), `"15:50:30"`, "15:50:30"},
		{"Enum", mood, `"happy"`, "happy"},
		{"ArrayFromJSON", arrayOf(base("text")), `["a","b\"c",null]`, `{"a","b\"c",NULL}`},
		{"ArrayFromJSONText", arrayOf(base("int4")), `"[1,2]"`, `{"1","2"}`},
		{"ArrayFromPostgresText", arrayOf(base("text")), `"{a,b}"`, `{a,b}`},
		{"ArrayOfArrays", arrayOf(base("int4")), `[[1],[2]]`, `{{"1"},{"2"}}`},
		{"CompositeFromJSON", address, `{"street":"High St","number":7}`, `("High St","7")`},
		{"CompositeWithoutAField", address, `{"number":7}`, `(,"7")`},
		{"CompositeFromPostgresText", address, `"(\"High St\",7)"`, `("High St",7)`},
		{"RangeFromJSON", span, `{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1}`, `["1","5")`},
		{"EmptyRange", span, `"empty"`, "empty"},
		{"RangeWithoutABound", span, `{"lower":1}`, `["1",]`},
		{"Multirange", spans, `[{"lower":1,"upper":5}]`, `{["1","5"]}`},
		{"UnknownTypeIsPostgresToJudge", base("inet"), `"10.0.0.1"`, "10.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := value.Convert(table, column(test.of), jsontext.Value(test.sent))
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestConvertNull(t *testing.T) {
	t.Parallel()
	for _, of := range []*catalog.Type{base("bool"), base("text"), mood, arrayOf(base("text")), address, span} {
		got, err := value.Convert(table, column(of), jsontext.Value("null"))
		require.NoError(t, err)
		require.Nil(t, got, of.Name)
	}
}

func TestConvertRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		of      *catalog.Type
		sent    string
		problem string
	}{
		{"BoolTwo", base("bool"), `2`, "send 0, 1, true or false"},
		{"IntFraction", base("int4"), `1.5`, "send a whole number"},
		{"IntOutOfRange", base("int2"), `32768`, "at most 16 bits"},
		{"IntEmptyText", base("int4"), `""`, "send a whole number"},
		{"NumericText", base("numeric"), `"abc"`, "send a number"},
		{"TextNUL", base("text"), `"\u0000"`, "NUL"},
		{"UUID", base("uuid"), `"notauuid"`, "send a UUID"},
		{"JSONText", base("jsonb"), `"{a"`, "the text is not JSON"},
		{"JSONBNUL", base("jsonb"), `{"a":"\u0000"}`, `\u0000`},
		{"Base64", base("bytea"), `"%"`, "send base64 text"},
		{"NoSuchDay", base("date"), `"2026-02-30"`, "send a date"},
		{"DateWithATime", base("date"), `"2026-11-23T10:00:00Z"`, "without a time of day"},
		{"TimestamptzEpochWithoutAPolicy", base("timestamptz"), `1764000000`, "send a date and time"},
		{"NoSuchTime", base("timestamptz"), `"2026-11-23T25:00:00Z"`, "there is no such date or time"},
		{"Enum", mood, `"angry"`, "send one of sad, happy"},
		{"ArrayNumber", arrayOf(base("int4")), `1`, "send a JSON array"},
		{"ArrayElement", arrayOf(base("int4")), `[1,"x"]`, "element 2: send a whole number"},
		{"CompositeField", address, `{"number":"x"}`, "field number: send a whole number"},
		{"CompositeUnknownField", address, `{"no":1}`, `the type has no field "no"`},
		{"RangeBound", span, `{"lower":"x"}`, "lower: send a whole number"},
		{"MultirangeNumber", spans, `1`, "send a JSON array of ranges"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := value.Convert(table, column(test.of), jsontext.Value(test.sent))
			var unfit *value.Unfit
			require.True(t, errors.As(err, &unfit), "%v", err)
			require.Contains(t, unfit.Problem, test.problem)
			require.Equal(t, "public.t", unfit.Table)
			require.Equal(t, "c", unfit.Column)
		})
	}
}

// TestUnfitMessage is what a developer reads: table, column, type, and the value's first
// 40 characters.
func TestUnfitMessage(t *testing.T) {
	t.Parallel()
	_, err := value.Convert(table, column(base("int4")), jsontext.Value(`"`+strings.Repeat("x", 60)+`"`))
	require.EqualError(t, err, `public.t.c is int4: "`+strings.Repeat("x", 39)+`… does not fit: send a whole number`)
}

func TestDeclaredLength(t *testing.T) {
	t.Parallel()
	c := &catalog.Column{Name: "c", TypeName: "character varying(3)", Type: base("varchar"), Modifier: 7}
	got, err := value.Convert(table, c, jsontext.Value(`"äöü  "`))
	require.NoError(t, err, "Postgres cuts spaces beyond the length")
	require.Equal(t, "äöü  ", string(got))
	_, err = value.Convert(table, c, jsontext.Value(`"abcd"`))
	require.ErrorContains(t, err, "it has more than 3 characters")
}

func TestMoment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sent, want string
		unit             value.TimeUnit
	}{
		{"Seconds", `1764000000`, `"2025-11-24T16:00:00Z"`, value.Seconds},
		{"Milliseconds", `1764000000123`, `"2025-11-24T16:00:00.123Z"`, value.Milliseconds},
		{"Text", `"1764000000"`, `"2025-11-24T16:00:00Z"`, value.Seconds},
		{"Before1970", `-1`, `"1969-12-31T23:59:59Z"`, value.Seconds},
		{"ADateStaysOne", `"2026-11-23"`, `"2026-11-23"`, value.Seconds},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.unit.Moment(jsontext.Value(test.sent))
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
	_, err := value.Seconds.Moment(jsontext.Value(`1e17`))
	require.ErrorContains(t, err, "between the years 0 and 9999")
}

func TestKept(t *testing.T) {
	t.Parallel()
	sized := func(name string, modifier int32) *catalog.Column {
		return &catalog.Column{Name: "c", TypeName: name, Type: base(name), Modifier: modifier}
	}
	numeric52 := int32(4 + 5<<16 + 2) // numeric(5,2)
	for _, test := range []struct {
		name string
		c    *catalog.Column
		text string
		want bool
	}{
		{"Text", column(base("text")), "a", true},
		{"Enum", column(mood), "sad", true},
		{"Array", column(arrayOf(base("text"))), "{a}", false},
		{"VarcharThatFits", sized("varchar", 7), "abc", true},
		{"VarcharThatIsCut", sized("varchar", 7), "abc ", false},
		{"NumericOfItsScale", sized("numeric", numeric52), "1.50", true},
		{"NumericThatIsRounded", sized("numeric", numeric52), "1.505", false},
		{"Float4ThatIsRounded", column(base("float4")), "16777217", false},
		{"Float4", column(base("float4")), "0.5", true},
		{"TimestampOfMicroseconds", column(base("timestamptz")), "2026-11-23 15:50:30.906557+00", true},
		{"TimestampOfNanoseconds", column(base("timestamptz")), "2026-11-23 15:50:30.9065571+00", false},
		{"UnknownType", column(base("inet")), "10.0.0.1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, value.Kept(test.c, []byte(test.text)))
		})
	}
	require.True(t, value.Kept(column(arrayOf(base("text"))), nil), "NULL")
}

func TestTextArray(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"a","b\"c","d\\e",""}`, string(value.TextArray([]string{"a", `b"c`, `d\e`, ""})))
	require.Equal(t, `{}`, string(value.TextArray(nil)))
}
