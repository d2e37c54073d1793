package model_test

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

// value is one that a client sends, and what Postgres is to make of it.
type value struct {
	sent  string // JSON
	text  string // in Postgres' text form
	null  bool
	wrong bool // it is not of its column's type, which shows without a database
}

var null = value{sent: "null", null: true}

// literal is the value in SQL.
func (v value) literal() string {
	if v.null {
		return "null"
	}
	return literal(v.text)
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// encode is text as a JSON string.
func encode(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err) // the generators make valid UTF-8
	}
	return string(out)
}

// kind is a type of column with values that clients send for it. There are few,
// so that rows collide on them.
type kind struct {
	sql    string
	fits   []value
	unfit  []value  // Postgres refuses the text, or a trigger does
	wrong  []string // JSON that is refused before
	checks []string // constraints, %s being the column
	more   *rapid.Generator[value]
}

func plain(texts ...string) (values []value) {
	for _, text := range texts {
		values = append(values, value{sent: encode(text), text: text})
	}
	return values
}

func pairs(sentAndText ...string) (values []value) {
	for i := 0; i < len(sentAndText); i += 2 {
		values = append(values, value{sent: sentAndText[i], text: sentAndText[i+1]})
	}
	return values
}

func numbers[N int64 | int32](g *rapid.Generator[N]) *rapid.Generator[value] {
	return rapid.Map(g, func(n N) value { return value{sent: fmt.Sprint(n), text: fmt.Sprint(n)} })
}

// The words that the triggers of the random schemas listen to.
const (
	raising = "raise" // P0001
	filling = "full"  // 53100, which is nobody's fault
	kept    = "keep"  // the row's DELETE is cancelled
	late    = "late"  // P0001, at the end of the transaction
)

var kinds = []*kind{
	{sql: "text", fits: append(plain("a", "b", "it's", `q"\`, "", "Ω💥", kept), pairs(`1.50`, "1.50", `{"a": 1}`, `{"a": 1}`)...),
		unfit: plain(raising, late, filling), wrong: []string{`"a\u0000b"`}, checks: []string{"length(%s) < 5", "%s <> 'b'"},
		more: rapid.Map(rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }), func(s string) value { return value{sent: encode(s), text: s} })},
	{sql: "integer", fits: pairs(`1`, "1", `2`, "2", `0`, "0", `-3`, "-3", `"5"`, "5", `7.0`, "7", `true`, "1", `2147483647`, "2147483647"),
		wrong: []string{`"abc"`, `3.5`, `2147483648`, `""`}, checks: []string{"%s >= 0", "%s <> 5"}, more: numbers(rapid.Int32())},
	{sql: "bigint", fits: pairs(`1`, "1", `9007199254740993`, "9007199254740993", `"-9223372036854775808"`, "-9223372036854775808", `1e3`, "1000"),
		wrong: []string{`9223372036854775808`, `"1,5"`}, checks: []string{"%s <> 1000"}, more: numbers(rapid.Int64())},
	{sql: "numeric", fits: pairs(`1.50`, "1.50", `"12345678901234567890.123456789"`, "12345678901234567890.123456789", `-0.1`, "-0.1", `"NaN"`, "NaN"), wrong: []string{`"1,5"`, `"0x10"`}, checks: []string{"%s > 0"}},
	{sql: "numeric(6,2)", fits: pairs(`1.5`, "1.5", `59.96999999999999`, "59.96999999999999"), wrong: []string{`"much"`, `123456.1`}},
	{sql: "double precision", fits: pairs(`0.1`, "0.1", `"-Infinity"`, "-Infinity", `-2`, "-2"), unfit: pairs(`1e309`, "1e309"), wrong: []string{`"x"`}},
	{sql: "varchar(4)", fits: plain("a", "ab", "äöüß", "Ω💥"), wrong: []string{`"abcde"`}},
	{sql: "boolean", fits: pairs(`1`, "t", `0`, "f", `"1"`, "t", `false`, "f", `1.0`, "t"), wrong: []string{`2`, `"yes"`}},
	{sql: "timestamptz", fits: pairs(`"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.96+00", `"2026-11-23 14:29:30"`, "2026-11-23 14:29:30+00", `"2026-11-23T15:50:30+05:30"`, "2026-11-23 10:20:30+00"),
		wrong: []string{`"2026-13-01T00:00:00Z"`, `"tomorrow"`, `1795449030`}},
	{sql: "date", fits: pairs(`"2026-11-23"`, "2026-11-23", `"2026-11-24T00:00:00.000Z"`, "2026-11-24"), wrong: []string{`"2026-02-30"`, `"2026-11-23T15:50:30Z"`}},
	{sql: "jsonb", fits: pairs(`"{\"a\":[1,null]}"`, `{"a": [1, null]}`, `{"a":9007199254740993}`, `{"a": 9007199254740993}`, `"[]"`, "[]", `7`, "7", `"\"s\""`, `"s"`), wrong: []string{`"text"`, `"{\"a\":\"\\u0000\"}"`}},
	{sql: "integer[]", fits: pairs(`"[1, 2, null]"`, "{1,2,NULL}", `[3]`, "{3}", `"{4,5}"`, "{4,5}", `"[]"`, "{}"), wrong: []string{`"[1,\"x\"]"`, `"7"`}},
	{sql: "text[]", fits: pairs(`"[\"a,b\",\"c\\\"d\",null]"`, `{"a,b","c\"d",NULL}`, `["NULL",""]`, `{"NULL",""}`), wrong: []string{`"x"`}},
	{sql: "mood", fits: plain("sad", `happy "!"`), wrong: []string{`"angry"`, `1`}},
	{sql: "positive", fits: pairs(`5`, "5", `"6"`, "6"), unfit: pairs(`-5`, "-5"), wrong: []string{`"five"`}},
	{sql: "uuid", fits: plain("8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10", "00000000-0000-4000-8000-000000000001"), wrong: []string{`"8d2ad2f5"`}},
	{sql: "bytea", fits: pairs(`"AAEC/w=="`, `\x000102ff`, `"AAEC/w"`, `\x000102ff`, `"\\x0Aff"`, `\x0aff`), wrong: []string{`"not base64!"`, `7`}},
	{sql: "int4range", fits: pairs(`{"lower":1,"upper":5,"upper_exclusive":true}`, "[1,5)", `"empty"`, "empty"), unfit: pairs(`"[5,1]"`, "[5,1]"), wrong: []string{`{"lower":"x"}`}},
}

const enums = `
create type mood as enum ('sad', 'so-so', 'happy "!"');
create domain positive as integer check (value > 0);`

// keyKinds are the types of keys, with the keys of all rows there will ever be.
var keyKinds = []*kind{
	{sql: "text", fits: plain("a", "b", "it's", ""), wrong: []string{`"\u0000"`}},
	{sql: "integer", fits: pairs(`1`, "1", `"2"`, "2", `3`, "3"), wrong: []string{`"x"`}},
	{sql: "bigint", fits: pairs(`1`, "1", `2`, "2", `9007199254740993`, "9007199254740993"), wrong: []string{`"one"`}},
	{sql: "uuid", fits: pairs(`"00000000-0000-4000-8000-00000000000a"`, "00000000-0000-4000-8000-00000000000a",
		`"00000000-0000-4000-8000-00000000000B"`, "00000000-0000-4000-8000-00000000000b", `"00000000-0000-4000-8000-00000000000c"`, "00000000-0000-4000-8000-00000000000c"), wrong: []string{`"nope"`}},
}

// flaw is what may be wrong with a transaction.
type flaw int

const (
	none  flaw = iota
	wrong      // it shows without a database
	unfit      // Postgres or a trigger refuses it
)

// draw is a value for a column of the kind.
func (k *kind) draw(r *rapid.T, f flaw) value {
	switch {
	case f == wrong && oneIn(r, 12):
		return value{sent: one(r, k.wrong), wrong: true}
	case f == unfit && len(k.unfit) > 0 && oneIn(r, 3):
		return one(r, k.unfit)
	case k.more != nil && oneIn(r, 6):
		return k.more.Draw(r, "value")
	}
	return one(r, k.fits)
}

// oneIn is true about once in n times, and shrinks to false.
func oneIn(r *rapid.T, n int) bool { return rapid.IntRange(1, n).Draw(r, fmt.Sprintf("1/%d", n)) == n }

func one[V any](r *rapid.T, values []V) V {
	return values[rapid.IntRange(0, len(values)-1).Draw(r, "which")]
}
