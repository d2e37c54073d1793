package value

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKept(t *testing.T) {
	t.Parallel()
	columns := newColumns()
	for _, c := range []struct {
		name, column, text string
		want               bool
	}{
		{"Text", "text", "a", true},
		{"Label", "mood", "sad", true},
		{"UUID", "uuid", "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", true},
		{"Domain", "positive", "5", true},
		{"Array", "int4[]", "{1}", false},
		{"Composite", "address", "(a,1,)", false},
		{"Range", "int4range", "[1,5]", false},
		{"TypeWithManySpellings", "inet", "10.0.0.1", false},
		{"AnyLength", "varchar", "abcdef", true},
		{"AsLongAsItMayBe", "varchar(5)", "ÄÖÜßé", true},
		{"SpacesAreCutOff", "varchar(5)", "12345 ", false},
		{"SpacesAreAdded", "char(3)", "ab", false},
		{"FewDigits", "float4", "0.1", true},
		{"TooManyDigits", "float4", "16777217", false},
		{"NotANumber", "float4", "NaN", true},
		{"TooLarge", "float4", "1e39", false},
		{"WithoutAScale", "numeric", "0.123456789", true},
		{"Rounded", "numeric(10,2)", "1.005", false},
		{"InScale", "numeric(10,2)", "1.5", true},
		{"ZerosBeyondTheScale", "numeric(10,2)", "1.5000", true},
		{"Exponent", "numeric(10,2)", "1e3", true},
		{"ExponentBeyondTheScale", "numeric(10,2)", "1e-3", false},
		{"ManyDigits", "numeric(10,2)", strings.Repeat("1", 100_000), true},
		{"NotANumber", "numeric(10,2)", "NaN", true},
		{"RoundedToThousands", "numeric(10,-3)", "1500", false},
		{"WholeThousands", "numeric(10,-3)", "2000", true},
		{"Microseconds", "timestamptz", "2026-11-23 15:50:30.906557+00", true},
		{"BelowAMicrosecond", "timestamptz", "2026-11-23 15:50:30.9065571+00", false},
		{"Precision", "timestamptz(3)", "2026-11-23 15:50:30.906+00", false},
		{"Infinity", "timestamp", "infinity", true},
	} {
		t.Run(c.column+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, columns, c.column)
			require.Equal(t, c.want, Kept(columns[c.column], []byte(c.text)))
		})
	}
	for name, column := range columns {
		t.Run(name+"/Null", func(t *testing.T) {
			t.Parallel()
			require.True(t, Kept(column, nil))
		})
	}
}
