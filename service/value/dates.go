package value

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// isoTimestamp is an ISO 8601 date, with or without a time and a zone. JavaScript,
// Dart, Swift, Kotlin and SQLite's functions print this form, and PowerSync sends
// it down.
var isoTimestamp = regexp.MustCompile(`^(\d{4,6}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?) ?(Z|z|[+-]\d\d(?::?\d\d)?)?)?$`)

var isoTime = regexp.MustCompile(`^\d\d:\d\d(:\d\d([.,]\d+)?)?$`)

// TimeUnit is the unit of a number that counts from 1970-01-01T00:00:00Z. Its
// value is how many decimal places it is above a microsecond.
type TimeUnit int

// The two units that clients count in.
const (
	Seconds      TimeUnit = 6
	Milliseconds TimeUnit = 3
)

// The microseconds since 1970 of the years that have four digits. Postgres has no
// year 0.
const (
	firstMicrosecond = -62135596800000000 // 0001-01-01T00:00:00Z
	lastMicrosecond  = 253402300799999999 // 9999-12-31T23:59:59.999999Z
)

// Timestamp returns the timestamp for a number of units since 1970. It cuts off
// what is smaller than a microsecond. It returns other values unchanged, also the
// text of a timestamp. The error says what to send instead.
func (u TimeUnit) Timestamp(value jsontext.Value) (jsontext.Value, error) {
	text := strings.Trim(string(value), `"`)
	if !number.MatchString(text) {
		return value, nil
	}
	whole, _ := wholePart(text, int(u))
	micros, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || micros < firstMicrosecond || micros > lastMicrosecond {
		return nil, errors.New("send a time from the year 1 to the year 9999")
	}
	return jsontext.Value(time.UnixMicro(micros).UTC().Format(`"2006-01-02T15:04:05.999999Z"`)), nil
}

// infinityText reads Postgres' infinite timestamps. PowerSync sends -infinity down
// as 0000-01-01 00:00:00Z, a year that does not exist. It sends infinity down as
// 9999-12-31 23:59:59, which exists and is stored as that.
func infinityText(kind jsontext.Kind, text string) (string, bool) {
	switch text {
	case "infinity", "-infinity":
		return text, kind == '"'
	case "0000-01-01 00:00:00Z", "0000-01-01 00:00:00":
		return "-infinity", kind == '"'
	}
	return "", false
}

var errNoSuchTime = errors.New("this date or time does not exist: send one that does")

// splitTimestamp splits an ISO timestamp. clock and zone are empty if it has none.
func splitTimestamp(kind jsontext.Kind, text string) (date, clock, zone string, err error) {
	match := isoTimestamp.FindStringSubmatch(text)
	if kind != '"' || match == nil {
		return "", "", "", errors.New("send a date and time like 2026-11-23T15:50:30.960Z")
	}
	if !isDate(match[1]) || match[2] != "" && !isClock(match[2]) || !isZone(match[3]) {
		return "", "", "", errNoSuchTime
	}
	return match[1], strings.Replace(match[2], ",", ".", 1), match[3], nil
}

// isDate reports whether the month of a date has that day.
func isDate(text string) bool {
	parts := strings.Split(text, "-")
	year, month, day := digits(parts[0]), digits(parts[1]), digits(parts[2])
	return month >= 1 && month <= 12 && day >= 1 && day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// isClock accepts the end of a day, 24:00, and the leap second, as Postgres does.
func isClock(text string) bool {
	hour, minute, second := digits(text[:2]), digits(text[3:5]), 0
	if len(text) > 5 {
		second = digits(text[6:8])
	}
	return minute < 60 && (hour < 24 && second <= 60 || hour == 24 && strings.Trim(text[2:], ":0.,") == "")
}

// isZone accepts offsets of less than 16 hours, as Postgres does. It also accepts
// Z, and no zone.
func isZone(text string) bool {
	if len(text) < len("+05") {
		return true
	}
	return digits(text[1:3]) < 16 && (len(text) == len("+05") || digits(text[len(text)-2:]) < 60)
}

// digits reads a few digits. The patterns above have checked that they are some.
func digits(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// timestamptzText reads a time without a zone as UTC, whatever the zone of the
// database session.
func timestamptzText(kind jsontext.Kind, text string) (string, error) {
	if infinity, ok := infinityText(kind, text); ok {
		return infinity, nil
	}
	date, clock, zone, err := splitTimestamp(kind, text)
	switch {
	case err != nil:
		return "", err
	case clock == "":
		return date + " 00:00:00+00", nil
	case zone == "" || zone == "Z" || zone == "z":
		zone = "+00"
	}
	return date + " " + clock + zone, nil
}

// timestampText converts a time with an offset to UTC, because PowerSync reads the
// column as UTC. Postgres would ignore the offset.
func timestampText(kind jsontext.Kind, text string) (string, error) {
	if infinity, ok := infinityText(kind, text); ok {
		return infinity, nil
	}
	date, clock, zone, err := splitTimestamp(kind, text)
	switch {
	case err != nil:
		return "", err
	case clock == "":
		return date + " 00:00:00", nil
	case zone == "" || strings.Trim(zone, "Zz+-0:") == "":
		return date + " " + clock, nil
	}
	if strings.Count(clock, ":") == 1 {
		clock += ":00"
	}
	zone = strings.Replace(zone, ":", "", 1)
	layout := "2006-01-02 15:04:05-0700"
	if len(zone) == len("+05") {
		layout = "2006-01-02 15:04:05-07"
	}
	at, err := time.Parse(layout, date+" "+clock+zone)
	if err != nil {
		return "", errNoSuchTime
	}
	return at.UTC().Format("2006-01-02 15:04:05.999999999"), nil
}

// dateText accepts a time of day only if it is midnight, which clients without a
// type for dates send. Postgres would cut any other time off.
func dateText(kind jsontext.Kind, text string) (string, error) {
	if infinity, ok := infinityText(kind, text); ok {
		return infinity, nil
	}
	date, clock, _, err := splitTimestamp(kind, text)
	if err != nil || strings.Trim(clock, "0:.") != "" {
		return "", errors.New("send a date like 2026-11-23, without a time of day")
	}
	return date, nil
}

func timeText(kind jsontext.Kind, text string) (string, error) {
	if kind != '"' || !isoTime.MatchString(text) || !isClock(text) {
		return "", errors.New("send a time of day like 15:50:30")
	}
	return strings.Replace(text, ",", ".", 1), nil
}
