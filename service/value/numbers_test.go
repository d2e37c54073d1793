package value

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIntegers(t *testing.T) {
	t.Parallel()
	const (
		problem = "send a whole number"
		range2  = "send a whole number from -32768 to 32767"
		range4  = "send a whole number from -2147483648 to 2147483647"
		range8  = "send a whole number from -9223372036854775808 to 9223372036854775807"
	)
	testConversions(t, []conversion{
		{"Number", "int4", `42`, "42", ""},
		{"Text", "int4", `"42"`, "42", ""},
		{"NegativeText", "int4", `"-1"`, "-1", ""},
		{"Dart", "int4", `3.0`, "3", ""},
		{"Exponent", "int4", `1e3`, "1000", ""},
		{"ExponentMakesItWhole", "int4", `1.25e2`, "125", ""},
		{"NegativeExponent", "int4", `1200e-2`, "12", ""},
		{"True", "int4", `true`, "1", ""},
		{"False", "int4", `false`, "0", ""},
		{"NegativeZero", "int4", `-0.0`, "0", ""},
		{"Fraction", "int4", `3.5`, "", problem},
		{"SmallFraction", "int4", `1e-400`, "", problem},
		{"EmptyText", "int4", `""`, "", problem},
		{"Word", "int4", `"abc"`, "", problem},
		{"Space", "int4", `" 1"`, "", problem},
		{"Hexadecimal", "int4", `"0x10"`, "", problem},
		{"Object", "int4", `{}`, "", problem},
		{"Least", "int2", `-32768`, "-32768", ""},
		{"Most", "int2", `32767`, "32767", ""},
		{"TooLarge", "int2", `32768`, "", range2},
		{"Least", "int4", `-2147483648`, "-2147483648", ""},
		{"LeastFromDart", "int4", `-2147483648.0`, "-2147483648", ""},
		{"TooLarge", "int4", `2147483648`, "", range4},
		{"TooSmallFromDart", "int4", `-2147483649.0`, "", range4},
		{"Beyond2To53", "int8", `9007199254740993`, "9007199254740993", ""},
		{"Beyond2To53FromDart", "int8", `9007199254740993.0`, "9007199254740993", ""},
		{"Most", "int8", `"9223372036854775807"`, "9223372036854775807", ""},
		{"TooLarge", "int8", `9223372036854775808`, "", range8},
		{"FarTooLarge", "int8", `1e400`, "", range8},
		{"Domain", "positive", `5`, "5", ""},
		{"Domain", "positive", `"five"`, "", problem},
	})
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	const problem = "send a number"
	testConversions(t, []conversion{
		{"EveryDigit", "numeric", `0.1234567890123456789012345678901234567890`, "0.1234567890123456789012345678901234567890", ""},
		{"Text", "numeric", `"12345678901234567890.5"`, "12345678901234567890.5", ""},
		{"Exponent", "numeric", `1e21`, "1e21", ""},
		{"NotANumber", "numeric", `"NaN"`, "NaN", ""},
		{"True", "numeric", `true`, "1", ""},
		{"DecimalComma", "numeric", `"1,5"`, "", problem},
		{"Hexadecimal", "numeric", `"0x10"`, "", problem},
		{"Space", "numeric", `" 1"`, "", problem},
		{"EmptyText", "numeric", `""`, "", problem},
		{"PointAlone", "numeric", `"."`, "", problem},
		{"ExponentOfFourDigits", "numeric", `1e1000`, "", problem},
		{"Array", "numeric", `[1]`, "", problem},
		{"Number", "float8", `0.1`, "0.1", ""},
		{"Large", "float8", `1.7976931348623157e308`, "1.7976931348623157e308", ""},
		{"Infinity", "float8", `"-Infinity"`, "-Infinity", ""},
		{"False", "float8", `false`, "0", ""},
		{"Word", "float8", `"x"`, "", problem},
		{"Text", "float4", `".5"`, ".5", ""},
	})
}

func TestWholePart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		places     int
		want       string
		exact      bool
	}{
		{"Whole", "12", 0, "12", true},
		{"Plus", "+12", 0, "12", true},
		{"Fraction", "-12.5", 0, "-12", false},
		{"OnlyAFraction", "-.5", 0, "0", false},
		{"ZeroFraction", "12.00", 0, "12", true},
		{"PointAtTheEnd", "12.", 0, "12", true},
		{"LeadingZeros", "007", 0, "7", true},
		{"Exponent", "1.5e3", 0, "1500", true},
		{"NegativeExponent", "1500E-3", 0, "1", false},
		{"BelowOne", "1e-5", 0, "0", false},
		{"ZeroBelowOne", "0e-5", 0, "0", true},
		{"PlacesToTheRight", "1.2345", 3, "1234", false},
		{"PlacesBeyondTheDigits", "1.2", 3, "1200", true},
		{"PlacesToTheLeft", "12000", -3, "12", true},
		{"PlacesToTheLeftWithARest", "12001", -3, "12", false},
		{"ManyDigits", strings.Repeat("9", 1_000_000) + ".0", 0, strings.Repeat("9", 1_000_000), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, exact := wholePart(c.text, c.places)
			require.True(t, c.want == got, "got %.40s", got)
			require.Equal(t, c.exact, exact)
		})
	}
}

// TestPrecision has what a numeric(p, s) can hold after it is rounded.
func TestPrecision(t *testing.T) {
	t.Parallel()
	const (
		cents     = "send a number with at most 8 digits before the decimal point"
		thousands = "send a number with at most 13 digits before the decimal point"
	)
	testConversions(t, []conversion{
		{"Most", "numeric(10,2)", `99999999.99`, "99999999.99", ""},
		{"Least", "numeric(10,2)", `-99999999.99`, "-99999999.99", ""},
		{"RoundedDown", "numeric(10,2)", `99999999.994999`, "99999999.994999", ""},
		{"RoundedUpTooFar", "numeric(10,2)", `99999999.995`, "", cents},
		{"RoundedUp", "numeric(10,2)", `99999998.995`, "99999998.995", ""},
		{"OneDigitMore", "numeric(10,2)", `100000000`, "", cents},
		{"Negative", "numeric(10,2)", `-1e8`, "", cents},
		{"Exponent", "numeric(10,2)", `1e7`, "1e7", ""},
		{"ZeroWithExponent", "numeric(10,2)", `0e100`, "0e100", ""},
		{"Infinite", "numeric(10,2)", `"Infinity"`, "", cents},
		{"NotANumber", "numeric(10,2)", `"NaN"`, "NaN", ""},
		{"Thousands", "numeric(10,-3)", `9999999999499`, "9999999999499", ""},
		{"TooManyThousands", "numeric(10,-3)", `9999999999500`, "", thousands},
	})
}
