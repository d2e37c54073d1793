package value

import (
	"strings"
	"testing"
)

func TestBooleans(t *testing.T) {
	t.Parallel()
	const problem = "send 0, 1, true or false"
	testConversions(t, []conversion{
		{"One", "bool", `1`, "true", ""},
		{"Zero", "bool", `0`, "false", ""},
		{"OneAsText", "bool", `"1"`, "true", ""},
		{"ZeroAsText", "bool", `"0"`, "false", ""},
		{"DartsOne", "bool", `1.0`, "true", ""},
		{"DartsZero", "bool", `0.0`, "false", ""},
		{"True", "bool", `true`, "true", ""},
		{"False", "bool", `false`, "false", ""},
		{"TrueAsText", "bool", `"true"`, "true", ""},
		{"FalseAsText", "bool", `"false"`, "false", ""},
		{"PostgresTrue", "bool", `"t"`, "true", ""},
		{"PostgresFalse", "bool", `"f"`, "false", ""},
		{"Two", "bool", `2`, "", problem},
		{"EmptyText", "bool", `""`, "", problem},
		{"Yes", "bool", `"yes"`, "", problem},
		{"Array", "bool", `[1]`, "", problem},
	})
}

func TestTexts(t *testing.T) {
	t.Parallel()
	const noNUL = `Postgres cannot store the character \u0000: remove it`
	testConversions(t, []conversion{
		{"Text", "text", `"it's \"a\\b\" Ω💥"`, `it's "a\b" Ω💥`, ""},
		{"EmptyText", "text", `""`, "", ""},
		{"NullAsText", "text", `"null"`, "null", ""},
		{"NumberKeepsItsDigits", "text", `1.50`, "1.50", ""},
		{"Boolean", "text", `true`, "true", ""},
		{"Object", "text", `{"a": 1}`, `{"a": 1}`, ""},
		{"NUL", "text", `"a\u0000b"`, "", noNUL},
		{"LoneSurrogate", "text", `"\ud800"`, "", "the text is not valid Unicode: send UTF-8 without lone surrogates"},
		{"NUL", "uuid", `"\u0000"`, "", noNUL},
		{"TypeWithoutARule", "inet", `"10.0.0.1"`, "10.0.0.1", ""},
		{"AsLongAsItMayBe", "varchar(5)", `"ÄÖÜßé"`, "ÄÖÜßé", ""},
		{"TooLong", "varchar(5)", `"123456"`, "", "send at most 5 characters"},
		{"SpacesBeyondTheLength", "varchar(5)", `"12345  "`, "12345  ", ""},
		{"AnyLength", "varchar", `"123456"`, "123456", ""},
		{"Shorter", "char(3)", `"ab"`, "ab", ""},
		{"TooLong", "char(3)", `"abcd"`, "", "send at most 3 characters"},
		{"DomainTooLong", "shorter", `"12345"`, "", "send at most 4 characters"},
		{"Label", "mood", `"happy \"!\""`, `happy "!"`, ""},
		{"UnknownLabel", "mood", `"angry"`, "", `send one of sad, happy "!"`},
		{"LabelInOtherCase", "mood", `"SAD"`, "", `send one of sad, happy "!"`},
	})
}

func TestUUIDs(t *testing.T) {
	t.Parallel()
	const uuid, problem = "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", "it is not a valid id (UUID)"
	testConversions(t, []conversion{
		{"Usual", "uuid", `"` + uuid + `"`, uuid, ""},
		{"UpperCase", "uuid", `"` + strings.ToUpper(uuid) + `"`, uuid, ""},
		{"WithoutHyphens", "uuid", `"` + strings.ReplaceAll(uuid, "-", "") + `"`, uuid, ""},
		{"TooShort", "uuid", `"8d2ad2f5"`, "", problem},
		{"HyphenElsewhere", "uuid", `"8d2ad2f55-a5b-4c52-9e5e-1f1f6c9a6a10"`, "", problem},
		{"NoHexadecimalDigit", "uuid", `"8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a1g"`, "", problem},
		{"EmptyText", "uuid", `""`, "", problem},
		{"Number", "uuid", `12345678901234567890123456789012`, "12345678-9012-3456-7890-123456789012", ""},
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	const notJSON, noNUL = "it is not valid JSON", `jsonb cannot hold the character \u0000: remove it`
	testConversions(t, []conversion{
		{"Text", "json", `"{\"a\":  1,\"b\":2}"`, `{"a":  1,"b":2}`, ""},
		{"NameTwice", "json", `"{\"a\":1,\"a\":2}"`, "", `the name "a" appears twice in one of its objects: send it once`},
		{"NameTwiceInAnObject", "jsonb", `{"b":[{"a":1},{"a":1,"c":{"a":1},"a":2}]}`, "", `the name "a" appears twice in one of its objects: send it once`},
		{"NameInTwoObjects", "jsonb", `[{"a":{"a":1}},{"a":"a"}]`, `[{"a":{"a":1}},{"a":"a"}]`, ""},
		{"NameTwiceInside", "jsonb", `"[{\"b\":{\"role\":1,\"r\\u006fle\":2}}]"`, "", `the name "role" appears twice in one of its objects: send it once`},
		{"LongNameTwice", "jsonb", `"{\"` + strings.Repeat("é", 101) + `\":1,\"` + strings.Repeat("é", 101) + `\":2}"`, "", `the name "` + strings.Repeat("é", 100) + `…" appears twice in one of its objects: send it once`},
		{"Object", "jsonb", `{"a":9007199254740993}`, `{"a":9007199254740993}`, ""},
		{"ObjectAsText", "jsonb", `"{\"a\":[1,{\"b\":null}]}"`, `{"a":[1,{"b":null}]}`, ""},
		{"ArrayAsText", "jsonb", `"[1,2]"`, "[1,2]", ""},
		{"Number", "jsonb", `7`, "7", ""},
		{"Boolean", "jsonb", `false`, "false", ""},
		{"JSONStringAsText", "jsonb", `"\"text\""`, `"text"`, ""},
		{"JSONNullAsText", "jsonb", `"null"`, "null", ""},
		{"PlainText", "jsonb", `"text"`, "", notJSON},
		{"EmptyText", "jsonb", `""`, "", notJSON},
		{"PlainText", "json", `"text"`, "", notJSON},
		{"EscapedNUL", "jsonb", `"{\"a\":\"\\u0000\"}"`, "", noNUL},
		{"EscapedNULInAnObject", "jsonb", `{"a":["\u0000"]}`, "", noNUL},
		{"EscapedNULIsText", "json", `"{\"a\":\"\\u0000\"}"`, `{"a":"\u0000"}`, ""},
		{"EscapedBackslash", "jsonb", `"{\"a\":\"\\\\u0000\"}"`, `{"a":"\\u0000"}`, ""},
	})
}

func TestBytes(t *testing.T) {
	t.Parallel()
	const problem = "it is not valid base64"
	testConversions(t, []conversion{
		{"Base64", "bytea", `"AAEC/w=="`, `\x000102ff`, ""},
		{"WithoutPadding", "bytea", `"AAEC/w"`, `\x000102ff`, ""},
		{"Empty", "bytea", `""`, `\x`, ""},
		{"PostgresForm", "bytea", `"\\x0Aff"`, `\x0Aff`, ""},
		{"HalfAByte", "bytea", `"\\x0"`, "", `after \x send an even number of hexadecimal digits`},
		{"NoBase64", "bytea", `"not base64!"`, "", problem},
		{"URLAlphabet", "bytea", `"AAEC_w"`, "", problem},
		{"BitsLeftOver", "bytea", `"AAEC/x"`, "", problem},
		{"Number", "bytea", `7`, "", problem},
	})
}
