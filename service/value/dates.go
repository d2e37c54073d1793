package value

import (
	"errors"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// moment is an ISO 8601 date, perhaps with a time, perhaps with a zone: what
// JavaScript, Dart, Swift and Kotlin print, SQLite's own functions give, and
// PowerSync sends down.
var moment = regexp.MustCompile(`^(\d{4,6}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?) ?(Z|z|[+-]\d\d(?::?\d\d)?)?)?$`)

var clock = regexp.MustCompile(`^\d\d:\d\d(:\d\d([.,]\d+)?)?$`)

// infinite reads Postgres' infinite moments, also in PowerSync's spelling of the
// lower one, a year that does not exist. The upper one it sends down as
// 9999-12-31 23:59:59, which does exist, and is stored as that.
func infinite(kind jsontext.Kind, text string) (string, bool) {
	switch text {
	case "infinity", "-infinity":
		return text, kind == '"'
	case "0000-01-01 00:00:00Z", "0000-01-01 00:00:00":
		return "-infinity", kind == '"'
	}
	return "", false
}

// TimeUnit is what a number counts since 1970-01-01T00:00:00Z.
type TimeUnit time.Duration

// The two units clients count in.
const (
	Seconds      = TimeUnit(time.Second)
	Milliseconds = TimeUnit(time.Millisecond)
)

// Moment spells a number of units since 1970 as a timestamp, in microseconds. A value
// that is no number is returned unchanged.
func (u TimeUnit) Moment(value jsontext.Value) (jsontext.Value, error) {
	text := strings.Trim(string(value), `"`)
	if !number.MatchString(text) {
		return value, nil
	}
	ratio, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, errors.New("send a number")
	}
	micros := ratio.Mul(ratio, big.NewRat(time.Duration(u).Microseconds(), 1))
	whole := new(big.Int).Quo(micros.Num(), micros.Denom())
	const most = 253402300799999999 // the last microsecond of the year 9999
	if !whole.IsInt64() || whole.Int64() > most || whole.Int64() < -most/4 {
		return nil, errors.New("send a time between the years 0 and 9999")
	}
	return jsontext.Value(time.UnixMicro(whole.Int64()).UTC().Format(`"2006-01-02T15:04:05.999999Z"`)), nil
}

func parseMoment(kind jsontext.Kind, text string) (date, clock, zone string, err error) {
	match := moment.FindStringSubmatch(text)
	if kind != '"' || match == nil {
		return "", "", "", errors.New("send a date and time like 2026-11-23T15:50:30.960Z")
	}
	if !isDate(match[1]) || match[2] != "" && !isClock(match[2]) || !isZone(match[3]) {
		return "", "", "", errors.New("there is no such date or time")
	}
	return match[1], strings.Replace(match[2], ",", ".", 1), match[3], nil
}

// isDate reports whether a date's month has such a day.
func isDate(text string) bool {
	parts := strings.Split(text, "-")
	year, month, day := digits(parts[0]), digits(parts[1]), digits(parts[2])
	return month >= 1 && month <= 12 && day >= 1 && day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// isClock knows the end of a day, 24:00, and the leap second, as Postgres does.
func isClock(text string) bool {
	hour, minute, second := digits(text[:2]), digits(text[3:5]), 0
	if len(text) > 5 {
		second = digits(text[6:8])
	}
	return minute < 60 && (hour < 24 && second <= 60 || hour == 24 && strings.Trim(text[2:], ":0.,") == "")
}

// isZone knows offsets of less than 16 hours, as Postgres does.
func isZone(text string) bool {
	if len(text) < len("+05") {
		return true // none, or Z
	}
	return digits(text[1:3]) < 16 && (len(text) == len("+05") || digits(text[len(text)-2:]) < 60)
}

func digits(text string) int {
	n, _ := strconv.Atoi(text) // a few digits, by the patterns
	return n
}

// timestamptzText reads a time without a zone as UTC, whatever the zone of the
// database session.
func timestamptzText(kind jsontext.Kind, text string) (string, error) {
	if moment, ok := infinite(kind, text); ok {
		return moment, nil
	}
	date, clock, zone, err := parseMoment(kind, text)
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

// timestampText converts a time with an offset to UTC. Postgres would drop the offset:
// the column has no zone, and PowerSync reads it as UTC.
func timestampText(kind jsontext.Kind, text string) (string, error) {
	if moment, ok := infinite(kind, text); ok {
		return moment, nil
	}
	date, clock, zone, err := parseMoment(kind, text)
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
	layout := "2006-01-02 15:04:05Z07:00"
	switch zone = strings.Replace(zone, ":", "", 1); len(zone) {
	case len("+05"):
		layout = strings.TrimSuffix(layout, "Z07:00") + "-07"
	default:
		layout = strings.TrimSuffix(layout, "Z07:00") + "-0700"
	}
	at, err := time.Parse(layout, date+" "+clock+zone)
	if err != nil {
		return "", errors.New("there is no such date or time")
	}
	return at.UTC().Format("2006-01-02 15:04:05.999999999"), nil
}

// dateText refuses a time of day, which Postgres would cut off. Midnight is accepted:
// clients without a type for dates send it.
func dateText(kind jsontext.Kind, text string) (string, error) {
	if moment, ok := infinite(kind, text); ok {
		return moment, nil
	}
	date, clock, _, err := parseMoment(kind, text)
	if err != nil || strings.Trim(clock, "0:.") != "" {
		return "", errors.New("send a date like 2026-11-23, without a time of day")
	}
	return date, nil
}

func timeText(kind jsontext.Kind, text string) (string, error) {
	if kind != '"' || !clock.MatchString(text) || !isClock(text) {
		return "", errors.New("send a time of day like 15:50:30")
	}
	return strings.Replace(text, ",", ".", 1), nil
}
