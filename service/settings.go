package service

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// Origin says where a setting's value comes from.
type Origin string

// The origins, from the weakest to the strongest.
const (
	FromDefault     Origin = "default"
	FromFile        Origin = "file"
	FromEnvironment Origin = "environment"
	FromFlag        Origin = "flag"
)

// Setting is the effective value of one setting.
type Setting struct {
	Key    string
	Value  string // a secret is masked
	Unit   string // empty if the value has none, or names it
	Origin Origin
	Reason string // for the default of a limit
}

// description is what is known of a setting besides its value.
type description struct {
	unit    string
	secret  bool
	meaning string // a cell of a Markdown table
	reason  string // why a limit has its default
}

// Settings returns all settings in the order of the reference. The file is the one that
// the configuration was loaded from; flags are the keys that flags have set.
func (c Config) Settings(file string, flags ...string) ([]Setting, error) {
	inFile := map[string]any{}
	content, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(content, &inFile)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s cannot be read", file) // the error may quote a secret
	}
	origins := map[string]Origin{}
	for key := range inFile {
		origins[key] = FromFile
	}
	var list []Setting
	for _, key := range keys() {
		if os.Getenv(key) != "" {
			origins[key] = FromEnvironment
		}
		list = append(list, Setting{Key: key, Value: c.shown(key), Unit: descriptions[key].unit, Origin: FromDefault, Reason: descriptions[key].reason})
	}
	for _, key := range flags {
		origins[key] = FromFlag
	}
	for i, setting := range list {
		if origin := origins[setting.Key]; origin != "" {
			list[i].Origin = origin
		}
	}
	return list, nil
}

// keys returns the keys of all settings, in the order of the fields.
func keys() (list []string) {
	for field := range reflect.TypeFor[Config]().Fields() {
		list = append(list, field.Tag.Get("env"))
	}
	return list
}

// shown returns a setting's value for people, without passwords.
func (c Config) shown(key string) string {
	value := ""
	for i, name := range keys() {
		if name != key {
			continue
		}
		switch v := reflect.ValueOf(c).Field(i).Interface().(type) {
		case []string:
			value = strings.Join(v, ",")
		default:
			value = fmt.Sprint(v)
		}
	}
	if value == "" {
		return ""
	}
	if key == "DATABASE_URL" {
		return withoutPassword(value)
	}
	if descriptions[key].secret {
		return "(secret)"
	}
	if u, err := url.Parse(value); err == nil && u.User != nil {
		return u.Redacted()
	}
	return value
}

// withoutPassword masks the password of a database's URL. If the password is not in its
// usual place, nothing of the URL is shown.
func withoutPassword(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil || u.User == nil || u.Host == "" || strings.Contains(strings.ToLower(u.RawQuery), "password") {
		return "(secret)"
	}
	return u.Redacted()
}

// Limit is a bound that is no setting, or that follows from the machine.
type Limit struct{ Name, Value, Reason string }

// Limits returns the limits that are in force with this configuration on this machine.
func (c Config) Limits() []Limit {
	budget, memory := bodyBudget()
	from := fmt.Sprintf("a sixteenth of the memory limit of %d bytes (GOMEMLIMIT), because a request may need 8 times its body", memory)
	if memory == 0 {
		from = "the process has no memory limit (GOMEMLIMIT)"
	}
	connections, whence := int32(maxConns), fmt.Sprintf("pool_max_conns in DATABASE_URL, or else %d, a third of what the smallest databases allow", maxConns)
	if db, err := Connect(c.DatabaseURL); err == nil {
		connections = db.Config().MaxConns
		db.Close()
	}
	return []Limit{
		{"bodies in memory", fmt.Sprintf("%d bytes", max(budget, int64(c.BodyLimit))), from},
		{"database connections", fmt.Sprint(connections), whence},
		{"time of a request", requestTimeout.String(), "reference connectors give up after 30s"},
		{"time to read a body", bodyTimeout.String(), "the rest of a request's time is for the database"},
		{"time to shut down", shutdownTimeout.String(), "fly.toml lets the process run for 30s after SIGTERM"},
	}
}

// Reference is the table of all settings in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, key := range keys() {
		d := descriptions[key]
		meaning := d.meaning
		if d.reason != "" {
			meaning += ". " + d.reason
		}
		value := Default().shown(key)
		if value != "" {
			value = "`" + value + "`"
		}
		if d.unit != "" {
			value = strings.TrimSpace(value + " " + d.unit)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, value, meaning)
	}
	return b.String()
}
