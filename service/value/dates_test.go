package value

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

const (
	sendTimestamp = "send a date and time like 2026-11-23T15:50:30.960Z"
	noSuchTime    = "this date or time does not exist: send one that does"
)

func TestTimestampsWithAZone(t *testing.T) {
	t.Parallel()
	testConversions(t, []conversion{
		{"JavaScript", "timestamptz", `"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.960+00", ""},
		{"AsPowerSyncSendsIt", "timestamptz", `"2026-11-23 15:50:30.906557Z"`, "2026-11-23 15:50:30.906557+00", ""},
		{"WithoutAZoneIsUTC", "timestamptz", `"2026-11-23 14:29:30"`, "2026-11-23 14:29:30+00", ""},
		{"WithoutSeconds", "timestamptz", `"2026-11-23T14:29"`, "2026-11-23 14:29+00", ""},
		{"DateAlone", "timestamptz", `"2026-11-23"`, "2026-11-23 00:00:00+00", ""},
		{"Offset", "timestamptz", `"2026-11-23T15:50:30+05:30"`, "2026-11-23 15:50:30+05:30", ""},
		{"OffsetOfFourDigits", "timestamptz", `"2026-11-23T10:00:00+1545"`, "2026-11-23 10:00:00+1545", ""},
		{"PostgresForm", "timestamptz", `"2026-11-23 15:50:30.96+00"`, "2026-11-23 15:50:30.96+00", ""},
		{"DecimalComma", "timestamptz", `"2026-11-23T15:50:30,5Z"`, "2026-11-23 15:50:30.5+00", ""},
		{"LowerCaseZ", "timestamptz", `"2026-11-23T15:50:30z"`, "2026-11-23 15:50:30+00", ""},
		{"LeapDay", "timestamptz", `"2024-02-29"`, "2024-02-29 00:00:00+00", ""},
		{"NoLeapDay", "timestamptz", `"2026-02-29"`, "", noSuchTime},
		{"Month13", "timestamptz", `"2026-13-01T00:00:00Z"`, "", noSuchTime},
		{"EndOfTheDay", "timestamptz", `"2026-11-23T24:00:00Z"`, "2026-11-23 24:00:00+00", ""},
		{"AfterTheEndOfTheDay", "timestamptz", `"2026-11-23T24:00:01Z"`, "", noSuchTime},
		{"LeapSecond", "timestamptz", `"2016-12-31T23:59:60Z"`, "2016-12-31 23:59:60+00", ""},
		{"OffsetOf16Hours", "timestamptz", `"2026-11-23T10:00:00+16:00"`, "", noSuchTime},
		{"Infinity", "timestamptz", `"infinity"`, "infinity", ""},
		{"LowerInfinityAsPowerSyncSendsIt", "timestamptz", `"0000-01-01 00:00:00Z"`, "-infinity", ""},
		{"Number", "timestamptz", `1795449030`, "", sendTimestamp},
		{"Word", "timestamptz", `"tomorrow"`, "", sendTimestamp},
		{"PostgresWord", "timestamptz", `"now"`, "", sendTimestamp},
		{"EmptyText", "timestamptz", `""`, "", sendTimestamp},
	})
}

func TestTimestampsWithoutAZone(t *testing.T) {
	t.Parallel()
	testConversions(t, []conversion{
		{"UTC", "timestamp", `"2026-11-23T15:50:30.960Z"`, "2026-11-23 15:50:30.960", ""},
		{"AsPowerSyncSendsIt", "timestamp", `"2026-11-23 15:50:30"`, "2026-11-23 15:50:30", ""},
		{"DateAlone", "timestamp", `"2026-11-23"`, "2026-11-23 00:00:00", ""},
		{"Offset", "timestamp", `"2026-11-23T15:50:30+05:30"`, "2026-11-23 10:20:30", ""},
		{"OffsetOfFourDigits", "timestamp", `"2026-11-23 01:50:30.5-0330"`, "2026-11-23 05:20:30.5", ""},
		{"OffsetWithoutSeconds", "timestamp", `"2026-11-23 15:50+05"`, "2026-11-23 10:50:00", ""},
		{"OffsetOfZero", "timestamp", `"2026-11-23 15:50:30+00:00"`, "2026-11-23 15:50:30", ""},
		{"LeapSecondWithAnOffset", "timestamp", `"2016-12-31T23:59:60+01:00"`, "", noSuchTime},
		{"LowerInfinityAsPowerSyncSendsIt", "timestamp", `"0000-01-01 00:00:00"`, "-infinity", ""},
		{"Number", "timestamp", `1795449030`, "", sendTimestamp},
	})
}

func TestDatesAndTimes(t *testing.T) {
	t.Parallel()
	const sendDate, sendTime = "send a date like 2026-11-23, without a time of day", "send a time of day like 15:50:30"
	testConversions(t, []conversion{
		{"Date", "date", `"2026-11-23"`, "2026-11-23", ""},
		{"Midnight", "date", `"2026-11-23T00:00:00.000Z"`, "2026-11-23", ""},
		{"Infinity", "date", `"-infinity"`, "-infinity", ""},
		{"TimeOfDay", "date", `"2026-11-23T15:50:30Z"`, "", sendDate},
		{"NoSuchDay", "date", `"2026-02-30"`, "", sendDate},
		{"Number", "date", `20261123`, "", sendDate},
		{"WithoutSeconds", "time", `"15:50"`, "15:50", ""},
		{"Fraction", "time", `"15:50:30.5"`, "15:50:30.5", ""},
		{"DecimalComma", "time", `"15:50:30,5"`, "15:50:30.5", ""},
		{"EndOfTheDay", "time", `"24:00"`, "24:00", ""},
		{"Hour25", "time", `"25:00"`, "", sendTime},
		{"DateAndTime", "time", `"2026-11-23 15:50:30"`, "", sendTime},
		{"Number", "time", `1550`, "", sendTime},
	})
}

func TestTimeUnit(t *testing.T) {
	t.Parallel()
	const outOfRange = "send a time from the year 1 to the year 9999"
	for _, c := range []struct {
		name          string
		unit          TimeUnit
		sent          string
		want, problem string
	}{
		{"Seconds", Seconds, `1795449030`, `"2026-11-23T15:50:30Z"`, ""},
		{"Milliseconds", Milliseconds, `1795449030960`, `"2026-11-23T15:50:30.96Z"`, ""},
		{"NumberAsText", Milliseconds, `"1795449030960"`, `"2026-11-23T15:50:30.96Z"`, ""},
		{"Fraction", Seconds, `1795449030.906557`, `"2026-11-23T15:50:30.906557Z"`, ""},
		{"BelowAMicrosecond", Seconds, `1795449030.9065579`, `"2026-11-23T15:50:30.906557Z"`, ""},
		{"Exponent", Milliseconds, `1.795449e12`, `"2026-11-23T15:50:00Z"`, ""},
		{"Before1970", Seconds, `-1`, `"1969-12-31T23:59:59Z"`, ""},
		{"FirstMoment", Seconds, `-62135596800`, `"0001-01-01T00:00:00Z"`, ""},
		{"BeforeTheFirst", Seconds, `-62135596801`, "", outOfRange},
		{"LastMoment", Milliseconds, `253402300799999`, `"9999-12-31T23:59:59.999Z"`, ""},
		{"AfterTheLast", Milliseconds, `253402300800000`, "", outOfRange},
		{"Huge", Seconds, `1e999`, "", outOfRange},
		{"Timestamp", Seconds, `"2026-11-23T15:50:30Z"`, `"2026-11-23T15:50:30Z"`, ""},
		{"Null", Seconds, `null`, `null`, ""},
		{"Word", Seconds, `"tomorrow"`, `"tomorrow"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.unit.Timestamp(jsontext.Value(c.sent))
			if c.problem != "" {
				require.EqualError(t, err, c.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(got))
		})
	}
}
