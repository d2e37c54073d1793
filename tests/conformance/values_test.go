package conformance_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// valueSchema has a column of every kind of type.
const valueSchema = `
create extension if not exists hstore;
create extension if not exists citext;
create type mood as enum ('sad', 'so-so', 'happy "!"');
create type address as (street text, number int, tags text[]);
create type place as (name text, at address);
create domain positive as int check (value > 0);
create domain short as varchar(5);
create domain shorter as short;
create table v (
  id text primary key,
  bool bool, int2 int2, int4 int4, int8 int8, numeric numeric, price numeric(10,2), float4 float4, float8 float8, money money,
  text text, varchar varchar(5), bpchar char(3), name name, citext citext, bytea bytea, uuid uuid,
  date date, time time, timetz timetz, timestamp timestamp, timestamptz timestamptz, interval interval,
  json json, jsonb jsonb, hstore hstore, xml xml, tsvector tsvector, inet inet, cidr cidr, macaddr macaddr, bit bit(3), varbit varbit,
  point point, box box, mood mood, positive positive, shorter shorter,
  ints int[], texts text[], moods mood[], jsons jsonb[], stamps timestamptz[], boxes box[], bools bool[], grid int[][],
  address address, place place, addresses address[],
  int4range int4range, numrange numrange, tstzrange tstzrange, daterange daterange, ranges int4range[], int4multirange int4multirange
);
grant select, insert, update, delete on v to authenticated;`

func setupValues(t *testing.T) *testBundle {
	t.Helper()
	return setupSchema(t, valueSchema, `tables: {v: {allow: all}}`)
}

func TestValues(t *testing.T) {
	t.Parallel()
	b := setupValues(t)
	const refused = "\x00"
	for i, test := range []struct{ column, sent, stored string }{
		{"bool", `1`, "true"}, {"bool", `0`, "false"}, {"bool", `"1"`, "true"}, {"bool", `"0"`, "false"}, {"bool", `1.0`, "true"}, {"bool", `true`, "true"}, {"bool", `"false"`, "false"},
		{"bool", `2`, refused}, {"bool", `""`, refused}, {"bool", `"yes"`, refused}, {"bool", `null`, "<null>"},
		{"int2", `32767`, "32767"}, {"int2", `32768`, refused}, {"int2", `-32768`, "-32768"}, {"int4", `"42"`, "42"}, {"int4", `3.0`, "3"}, {"int4", `3.5`, refused}, {"int4", `""`, refused},
		{"int4", `"abc"`, refused}, {"int4", `2147483648`, refused}, {"int4", `1e3`, "1000"}, {"int4", `true`, "1"}, {"int4", `-2147483648`, "-2147483648"}, {"int4", `-2147483648.0`, "-2147483648"},
		{"int8", `9007199254740993`, "9007199254740993"}, {"int8", `"9223372036854775807"`, "9223372036854775807"}, {"int8", `9223372036854775808`, refused}, {"int8", `1e400`, refused},
		{"numeric", `0.1234567890123456789012345678901234567890`, "0.1234567890123456789012345678901234567890"}, {"numeric", `"12345678901234567890.5"`, "12345678901234567890.5"},
		{"numeric", `1e21`, "1000000000000000000000"}, {"numeric", `"NaN"`, "NaN"}, {"numeric", `"1,5"`, refused}, {"numeric", `"0x10"`, refused}, {"numeric", `" 1"`, refused},
		{"price", `"19.99"`, "19.99"}, {"price", `59.96999999999999`, "59.97"}, {"price", `123456789.1`, refused},
		{"float8", `0.1`, "0.1"}, {"float8", `1.7976931348623157e308`, "1.7976931348623157e+308"}, {"float8", `1e309`, refused}, {"float8", `"-Infinity"`, "-Infinity"}, {"float4", `0.5`, "0.5"},
		{"text", `"a\\b\"c'd"`, `a\b"c'd`}, {"text", `1.50`, "1.50"}, {"text", `true`, "true"}, {"text", `{"a": 1}`, `{"a": 1}`}, {"text", `"a\u0000b"`, refused}, {"text", `""`, ""}, {"text", `"null"`, "null"},
		{"varchar", `"12345"`, "12345"}, {"varchar", `"ÄÖÜßé"`, "ÄÖÜßé"}, {"varchar", `"123456"`, refused}, {"shorter", `"123456"`, refused}, {"bpchar", `"ab"`, "ab"}, {"name", `"x"`, "x"}, {"citext", `"Ab"`, "Ab"},
		{"bytea", `"AAEC/w=="`, `\x000102ff`}, {"bytea", `"AAEC/w"`, `\x000102ff`}, {"bytea", `"\\x0Aff"`, `\x0aff`}, {"bytea", `"\\x0"`, refused}, {"bytea", `"not base64!"`, refused}, {"bytea", `7`, refused}, {"bytea", `""`, `\x`},
		{"uuid", `"8D2AD2F5-5A5B-4C52-9E5E-1F1F6C9A6A10"`, "8d2ad2f5-5a5b-4c52-9e5e-1f1f6c9a6a10"}, {"uuid", `"8d2ad2f5"`, refused},
		{"date", `"2026-11-23"`, "2026-11-23"}, {"date", `"2026-11-23T00:00:00.000Z"`, "2026-11-23"}, {"date", `"2026-11-23T15:50:30Z"`, refused}, {"date", `"2026-02-30"`, refused}, {"date", `20261123`, refused},
		{"time", `"15:50"`, "15:50:00"}, {"time", `"15:50:30.5"`, "15:50:30.5"}, {"time", `"2026-11-23 15:50:30"`, refused}, {"timetz", `"15:50:30+02"`, "15:50:30+02"},
		{"timestamp", `"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.96"}, {"timestamp", `"2026-11-23T15:50:30+05:30"`, "2026-11-23 10:20:30"}, {"timestamp", `"2026-11-23 01:50:30.5-0330"`, "2026-11-23 05:20:30.5"},
		{"timestamp", `"2026-11-23 15:50+05"`, "2026-11-23 10:50:00"}, {"timestamp", `"2026-11-23 15:50:30"`, "2026-11-23 15:50:30"}, {"timestamp", `1795449030`, refused},
		{"timestamptz", `"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.96+00"}, {"timestamptz", `"2026-11-23 14:29:30"`, "2026-11-23 14:29:30+00"}, {"timestamptz", `"2026-11-23"`, "2026-11-23 00:00:00+00"},
		{"timestamptz", `"2026-11-23 15:50:30.906557Z"`, "2026-11-23 15:50:30.906557+00"}, {"timestamptz", `"2026-11-23T15:50:30+05:30"`, "2026-11-23 10:20:30+00"}, {"timestamptz", `"tomorrow"`, refused}, {"timestamptz", `"now"`, refused},
		{"timestamptz", `"2026-02-29"`, refused}, {"timestamptz", `"2024-02-29"`, "2024-02-29 00:00:00+00"}, {"timestamptz", `"2026-11-23T24:00:00Z"`, "2026-11-24 00:00:00+00"}, {"timestamptz", `"2026-11-23T24:00:01Z"`, refused},
		{"timestamptz", `"2016-12-31T23:59:60Z"`, "2017-01-01 00:00:00+00"}, {"timestamptz", `"2026-11-23T10:00:00+16:00"`, refused}, {"timestamptz", `"2026-11-23T10:00:00+1545"`, "2026-11-22 18:15:00+00"}, {"time", `"25:00"`, refused}, {"time", `"24:00"`, "24:00:00"},
		{"timestamptz", `"2026-13-01T00:00:00Z"`, refused}, {"timestamptz", `1795449030`, refused}, {"timestamptz", `"infinity"`, "infinity"}, {"timestamptz", `"0000-01-01 00:00:00Z"`, "-infinity"},
		{"interval", `"1 day 02:00:00"`, "1 day 02:00:00"}, {"interval", `"P1DT2H"`, "1 day 02:00:00"},
		{"json", `"{\"a\":  1,\"b\":2}"`, `{"a":  1,"b":2}`}, {"json", `"{\"a\":1,\"a\":2}"`, refused}, {"jsonb", `"{\"a\":{\"b\":1},\"a\":{}}"`, refused}, {"jsonb", `"{\"a\":[1,{\"b\":null}]}"`, `{"a": [1, {"b": null}]}`}, {"jsonb", `{"a":9007199254740993}`, `{"a": 9007199254740993}`}, {"jsonb", `"[1,2]"`, "[1, 2]"},
		{"jsonb", `"\"text\""`, `"text"`}, {"jsonb", `"text"`, refused}, {"jsonb", `"{\"a\":\"\\u0000\"}"`, refused}, {"jsonb", `"{\"a\":\"\\\\u0000\"}"`, `{"a": "\\u0000"}`}, {"jsonb", `"null"`, "null"}, {"jsonb", `7`, "7"}, {"jsonb", `""`, refused},
		{"hstore", `"\"a\"=>\"1\""`, `"a"=>"1"`}, {"inet", `"10.0.0.1"`, "10.0.0.1/32"}, {"inet", `"ten"`, refused}, {"cidr", `"10.0.0.0/8"`, "10.0.0.0/8"}, {"macaddr", `"08:00:2b:01:02:03"`, "08:00:2b:01:02:03"}, {"bit", `"101"`, "101"}, {"bit", `"1"`, refused},
		{"xml", `"<a>1</a>"`, "<a>1</a>"}, {"point", `"(1,2)"`, "(1,2)"}, {"box", `"(3,4),(1,2)"`, "(3,4),(1,2)"}, {"money", `"12.50"`, "$12.50"}, {"tsvector", `"'a' 'b'"`, "'a' 'b'"},
		{"mood", `"happy \"!\""`, `happy "!"`}, {"mood", `"angry"`, refused}, {"positive", `5`, "5"},
		{"ints", `"[1, 2, null]"`, "{1,2,NULL}"}, {"ints", `[1,2]`, "{1,2}"}, {"ints", `"{1,2}"`, "{1,2}"}, {"ints", `"[]"`, "{}"}, {"ints", `"[1,\"x\"]"`, refused}, {"ints", `"7"`, refused}, {"grid", `"[[1,2],[3,4]]"`, "{{1,2},{3,4}}"}, {"ints", `"[0:1]={5,6}"`, "[0:1]={5,6}"},
		{"texts", `"[\"a,b\",\"c\\\"d\",\"\\\\\",\"\",\"NULL\",null]"`, `{"a,b","c\"d","\\","","NULL",NULL}`}, {"moods", `"[\"sad\"]"`, "{sad}"}, {"moods", `"[\"angry\"]"`, refused}, {"bools", `"[1,0,true]"`, "{t,f,t}"},
		{"jsons", `[{"a":1},"s",null]`, `{"{\"a\": 1}","\"s\"",NULL}`}, {"stamps", `"[\"2026-11-23 14:29:30\"]"`, `{"2026-11-23 14:29:30+00"}`}, {"boxes", `"[\"(3,4),(1,2)\",\"(1,1),(0,0)\"]"`, "{(3,4),(1,2);(1,1),(0,0)}"},
		{"address", `"{\"street\":\"High \\\"St\\\", 1\",\"number\":7,\"tags\":[\"a b\",\"c\"]}"`, `("High ""St"", 1",7,"{""a b"",c}")`}, {"address", `{"number":7}`, "(,7,)"}, {"address", `"(x,1,)"`, "(x,1,)"}, {"address", `{"zip":1}`, refused}, {"address", `"[1]"`, refused},
		{"place", `{"name":"home","at":{"street":"S","number":1,"tags":null}}`, `(home,"(S,1,)")`}, {"addresses", `[{"street":"S"},null]`, `{"(S,,)",NULL}`},
		{"int4range", `"{\"lower\":1,\"upper\":5,\"lower_exclusive\":0,\"upper_exclusive\":1}"`, "[1,5)"}, {"int4range", `"[1,5]"`, "[1,6)"}, {"int4range", `"empty"`, "empty"}, {"int4range", `"\"empty\""`, "empty"}, {"int4range", `{"lower":null,"upper":5,"upper_exclusive":true}`, "(,5)"},
		{"numrange", `{"lower":1.5,"upper":2.5,"lower_exclusive":true,"upper_exclusive":false}`, "(1.5,2.5]"}, {"tstzrange", `{"lower":"2026-11-23 14:29:30","upper":null}`, `["2026-11-23 14:29:30+00",)`}, {"int4range", `{"lower":"x"}`, refused}, {"daterange", `{"lower":"2026-11-23","upper":"2026-11-25","upper_exclusive":1}`, "[2026-11-23,2026-11-25)"},
		{"ranges", `[{"lower":1,"upper":2,"upper_exclusive":1}]`, `{"[1,2)"}`}, {"int4multirange", `[{"lower":1,"upper":2,"upper_exclusive":1},{"lower":7,"upper":9,"upper_exclusive":1}]`, "{[1,2),[7,9)}"}, {"int4multirange", `"{[1,2)}"`, "{[1,2)}"},
	} {
		t.Run(fmt.Sprintf("%s/%s", test.column, test.sent), func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprint(i)
			result := b.One(t, "alice", op("PUT", "v", id, fmt.Sprintf("%q:%s", test.column, test.sent)))
			if test.stored == refused {
				require.Equal(t, "fatal_error", result.Status)
				require.Equal(t, "INVALID_DATA", result.FailedOperation.ErrorCode)
				if test.column != "price" && test.sent != `1e309` && test.column != "bit" {
					require.Equal(t, test.column, result.FailedOperation.Details["column"], result.FailedOperation.Message)
				}
				return
			}
			require.Equal(t, "success", result.Status, "%+v", result.FailedOperation)
			cast := fmt.Sprintf(`coalesce(%q::text, '<null>')`, test.column)
			require.Equal(t, test.stored, b.db.Text(t, `select `+cast+` from v where id = $1`, id))
		})
	}
}

// TestValuesComeBack stores values that PowerSync has sent down, and expects
// Postgres to hold what it held: the identity, or the normal form that the doc
// comment of value.Convert names.
func TestValuesComeBack(t *testing.T) {
	t.Parallel()
	b := setupValues(t)
	for name, column := range map[string]struct {
		typ string
		gen *rapid.Generator[string] // Postgres' text form
	}{
		"int8":           {"int8", rapid.Map(rapid.Int64(), func(n int64) string { return fmt.Sprint(n) })},
		"int4":           {"int4", rapid.Map(rapid.Int32(), func(n int32) string { return fmt.Sprint(n) })},
		"float4":         {"float4", rapid.Map(rapid.Float32(), func(f float32) string { return fmt.Sprint(f) })},
		"price":          {"numeric(10,2)", rapid.StringMatching(`-?[1-9][0-9]{0,7}\.[0-9]{1,4}`)},
		"varchar":        {"varchar(5)", rapid.StringMatching(`[a-zäöü ]{0,5}`)},
		"bytea":          {"bytea", rapid.StringMatching(`\\x([0-9a-f]{2}){0,20}`)},
		"jsonb":          {"jsonb", rapid.StringMatching(`\{"[a-z]{1,5}": ?(-?[1-9][0-9]{0,20}|"[a-z]*"|null|\[true, ?\{\}\])\}`)},
		"interval":       {"interval", rapid.StringMatching(`[1-9] days ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]`)},
		"timetz":         {"timetz", rapid.StringMatching(`([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][+-]0[0-9]`)},
		"inet":           {"inet", rapid.StringMatching(`10\.[1-9][0-9]?\.[1-9][0-9]?\.[1-9][0-9]?(/[12][0-9])?`)},
		"macaddr":        {"macaddr", rapid.StringMatching(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)},
		"varbit":         {"varbit", rapid.StringMatching(`[01]{0,20}`)},
		"point":          {"point", rapid.StringMatching(`\([1-9][0-9]{0,3},-?[1-9]\.5\)`)},
		"mood":           {"mood", rapid.SampledFrom([]string{"sad", "so-so", `happy "!"`})},
		"positive":       {"positive", rapid.StringMatching(`[1-9][0-9]{0,8}`)},
		"ints":           {"int[]", rapid.StringMatching(`\{(-?[1-9][0-9]{0,8},){0,5}NULL\}`)},
		"int4multirange": {"int4multirange", rapid.StringMatching(`\{\[1,[2-9]\),\[2[0-9],3[0-9]\]\}`)},
		"tstzrange":      {"tstzrange", rapid.StringMatching(`\["20[0-9]{2}-11-23 14:29:30\+00",\)`)},
		"int2":           {"int2", rapid.Map(rapid.Int16(), func(n int16) string { return fmt.Sprint(n) })},
		"numeric":        {"numeric", rapid.StringMatching(`-?[1-9][0-9]{0,40}(\.[0-9]{1,40})?`)},
		"float8":         {"float8", rapid.Map(rapid.Float64(), func(f float64) string { return fmt.Sprint(f) })},
		"bool":           {"bool", rapid.Map(rapid.Bool(), func(v bool) string { return fmt.Sprint(v) })},
		"text":           {"text", anyText},
		"uuid":           {"uuid", rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)},
		"date":           {"date", rapid.StringMatching(`[12][0-9]{3}-(0[1-9]|1[0-2])-([01][1-9]|2[0-8])`)},
		"timestamptz":    {"timestamptz", rapid.StringMatching(`[12][0-9]{3}-(0[1-9]|1[0-2])-([01][1-9]|2[0-8]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z`)},
		"timestamp":      {"timestamp", rapid.StringMatching(`[12][0-9]{3}-(0[1-9]|1[0-2])-([01][1-9]|2[0-8]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?`)},
		"time":           {"time", rapid.StringMatching(`([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?`)},
		"texts":          {"text[]", rapid.Map(rapid.SliceOf(anyText), textArray)},
		"address":        {"address", rapid.Map(anyText, func(s string) string { return `("` + escape(s) + `",7,"{x}")` })},
		"int4range":      {"int4range", rapid.Map(rapid.Int16(), func(n int16) string { return fmt.Sprintf("[%d,%d)", n, int(n)+5) })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(r *rapid.T) {
				value := column.gen.Draw(r, "value")
				down := fmt.Sprintf("select $1::%s::text, (%s)::text", column.typ, fmt.Sprintf(cmp.Or(synced[column.typ], "$1::%s"), column.typ))
				var held, sqlite string
				require.NoError(t, b.db.Owner.QueryRow(t.Context(), down, value).Scan(&held, &sqlite))
				sent, err := json.Marshal(sqlite)
				require.NoError(t, err)
				b.succeed(t, "alice", op("PUT", "v", "back-"+name, fmt.Sprintf("%q:%s", name, sent)))
				require.Equal(t, held, b.db.Text(t, fmt.Sprintf(`select %q::text from v where id = $1`, name), "back-"+name), "sent %s", sent)
			})
		})
	}
}

// anyText is all that Postgres text can hold.
var anyText = rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })

// synced is what PowerSync makes of a value of a type where it is not Postgres'
// own text, as SQL.
var synced = map[string]string{
	"bool":        "$1::%s::int",
	"timestamptz": "to_char($1::%s at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'",
	"text[]":      "to_jsonb($1::%s)",
	"int[]":       "to_jsonb($1::%s)",
	"address":     "to_jsonb($1::%s)",
}

func textArray(elements []string) string {
	quoted := make([]string, len(elements))
	for i, e := range elements {
		quoted[i] = `"` + escape(e) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

func escape(s string) string { return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) }
