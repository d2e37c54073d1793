package value

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArrays(t *testing.T) {
	t.Parallel()
	const problem = "send a JSON array"
	testConversions(t, []conversion{
		{"JSON", "int4[]", `[1, 2, null]`, `{"1","2",NULL}`, ""},
		{"JSONAsText", "int4[]", `"[1, 2, null]"`, `{"1","2",NULL}`, ""},
		{"Empty", "int4[]", `"[]"`, `{}`, ""},
		{"PostgresForm", "int4[]", `"{1,2}"`, `{1,2}`, ""},
		{"PostgresFormWithBounds", "int4[]", `"[0:1]={5,6}"`, `[0:1]={5,6}`, ""},
		{"TwoDimensions", "int4[]", `"[[1,2],[3,4]]"`, `{{"1","2"},{"3","4"}}`, ""},
		{"SixDimensions", "int4[]", strings.Repeat("[", 6) + "1" + strings.Repeat("]", 6), `{{{{{{"1"}}}}}}`, ""},
		{"SevenDimensions", "int4[]", strings.Repeat("[", 7) + "1" + strings.Repeat("]", 7), "",
			strings.Repeat("element 1: ", 6) + "send an array of at most 6 dimensions"},
		{"ElementOfOtherType", "int4[]", `[1,"x"]`, "", "element 2: send a whole number"},
		{"ElementInside", "int4[]", `[[1],[2,"x"]]`, "", "element 2: element 2: send a whole number"},
		{"Number", "int4[]", `7`, "", problem},
		{"NumberAsText", "int4[]", `"7"`, "", problem},
		{"Object", "int4[]", `{"a":1}`, "", problem},
		{"EmptyText", "int4[]", `""`, "", problem},
		{"Texts", "text[]", `["a,b","c\"d","\\","","NULL",null]`, `{"a,b","c\"d","\\","","NULL",NULL}`, ""},
		{"NumbersAsTexts", "text[]", `[1.50,true]`, `{"1.50","true"}`, ""},
		{"NUL", "text[]", `["\u0000"]`, "", `element 1: Postgres cannot store the character \u0000: remove it`},
		{"Booleans", "bool[]", `"[1,0,true]"`, `{"true","false","true"}`, ""},
		{"Labels", "mood[]", `["sad"]`, `{"sad"}`, ""},
		{"UnknownLabel", "mood[]", `["angry"]`, "", `element 1: send one of sad, happy "!"`},
		{"Timestamps", "timestamptz[]", `["2026-11-23 14:29:30"]`, `{"2026-11-23 14:29:30+00"}`, ""},
		{"JSONValues", "jsonb[]", `[{"a":1},"s",[1],null]`, `{"{\"a\":1}","\"s\"","[1]",NULL}`, ""},
		{"Boxes", "box[]", `["(3,4),(1,2)","(1,1),(0,0)"]`, `{"(3,4),(1,2)";"(1,1),(0,0)"}`, ""},
		{"Composites", "address[]", `[{"street":"S"},null]`, `{"(\"S\",,)",NULL}`, ""},
		{"Ranges", "int4range[]", `[{"lower":1,"upper":2,"upper_exclusive":1}]`, `{"[\"1\",\"2\")"}`, ""},
	})
}

func TestComposites(t *testing.T) {
	t.Parallel()
	const problem = "send a JSON object"
	testConversions(t, []conversion{
		{"JSON", "address", `{"street":"High \"St\", 1","number":7,"tags":["a b","c"]}`, `("High \"St\", 1","7","{\"a b\",\"c\"}")`, ""},
		{"JSONAsText", "address", `"{\"street\":\"S\",\"number\":\"7\"}"`, `("S","7",)`, ""},
		{"FieldsInOtherOrder", "address", `{"number":7,"street":"S"}`, `("S","7",)`, ""},
		{"FieldLeftOut", "address", `{"number":7}`, `(,"7",)`, ""},
		{"NullField", "address", `{"street":null}`, `(,,)`, ""},
		{"EmptyField", "address", `{"street":""}`, `("",,)`, ""},
		{"PostgresForm", "address", `"(x,1,)"`, `(x,1,)`, ""},
		{"UnknownFields", "address", `{"zip":1,"area":2}`, "", `the type has no field "area": remove it`},
		{"FieldOfOtherType", "address", `{"number":"x"}`, "", "field number: send a whole number"},
		{"Array", "address", `"[1]"`, "", problem},
		{"Text", "address", `"High St"`, "", problem},
		{"Inside", "place", `{"name":"home","at":{"street":"S","number":1,"tags":null}}`, `("home","(\"S\",\"1\",)")`, ""},
		{"NameTwice", "place", `"{\"name\":\"a\",\"name\":\"b\"}"`, "", `the name "name" appears twice in one of its objects: send it once`},
		{"WithoutFields", "empty", `{}`, `()`, ""},
	})
}

func TestRanges(t *testing.T) {
	t.Parallel()
	testConversions(t, []conversion{
		{"AsPowerSyncSendsIt", "int4range", `"{\"lower\":1,\"upper\":5,\"lower_exclusive\":0,\"upper_exclusive\":1}"`, `["1","5")`, ""},
		{"BooleansForBounds", "int4range", `{"lower":1,"upper":5,"lower_exclusive":true,"upper_exclusive":false}`, `("1","5"]`, ""},
		{"WithoutLowerBound", "int4range", `{"lower":null,"upper":5,"upper_exclusive":true}`, `[,"5")`, ""},
		{"WithoutBounds", "int4range", `{}`, `[,]`, ""},
		{"NameTwice", "int4range", `"{\"lower\":1,\"lower\":2}"`, "", `the name "lower" appears twice in one of its objects: send it once`},
		{"Empty", "int4range", `"empty"`, `empty`, ""},
		{"EmptyAsJSON", "int4range", `"\"empty\""`, `empty`, ""},
		{"PostgresForm", "int4range", `"[1,5]"`, `[1,5]`, ""},
		{"LowerOfOtherType", "int4range", `{"lower":"x"}`, "", "lower: send a whole number"},
		{"UpperOfOtherType", "int4range", `{"upper":1.5}`, "", "upper: send a whole number"},
		{"Number", "int4range", `7`, "", `send a JSON object with lower, upper, lower_exclusive and upper_exclusive, or "empty"`},
		{"Timestamps", "tstzrange", `{"lower":"2026-11-23 14:29:30","upper":null}`, `["2026-11-23 14:29:30+00",]`, ""},
		{"Multirange", "int4multirange", `[{"lower":1,"upper":2,"upper_exclusive":1},"[7,9)"]`, `{["1","2"),[7,9)}`, ""},
		{"MultirangeAsText", "int4multirange", `"[{\"lower\":1}]"`, `{["1",]}`, ""},
		{"MultirangeEmpty", "int4multirange", `[]`, `{}`, ""},
		{"MultirangePostgresForm", "int4multirange", `"{[1,2)}"`, `{[1,2)}`, ""},
		{"MultirangeOfOtherType", "int4multirange", `[{"lower":1},{"lower":"x"}]`, "", "range 2: lower: send a whole number"},
		{"MultirangeNumber", "int4multirange", `7`, "", "send a JSON array of ranges"},
	})
}

func TestTextArray(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		elements []string
		want     string
	}{
		{"None", nil, `{}`},
		{"Plain", []string{"a", "b"}, `{"a","b"}`},
		{"Special", []string{"", "NULL", "a,b", "{}", `"`, `\`, " "}, `{"","NULL","a,b","{}","\"","\\"," "}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, string(TextArray(c.elements)))
		})
	}
}
