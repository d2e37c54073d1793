package service

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"postern/policies"
	"postern/service/apply"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/limits"
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
	derived bool   // the default follows from the machine's memory
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
		} else if descriptions[setting.Key].derived {
			list[i].Origin = Origin(fmt.Sprintf("%s (from %s)", FromDefault, limits.This()))
		}
	}
	return append(list, fromVariables()...), nil
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

// Limits returns the limits that are in force with this configuration on a machine, and
// are not among the settings.
func (c Config) Limits(machine limits.Machine) []limits.Limit {
	connections := limits.Count(maxConns)
	if db, err := Connect(c.DatabaseURL); err == nil {
		connections = limits.Count(int64(db.Config().MaxConns))
		db.Close()
	}
	memory := "GOMEMLIMIT, or else 90 % of the memory of the container (cgroup) or machine"
	if machine.Assumed {
		memory = "Assumed, because GOMEMLIMIT is off"
	}
	list := slices.Concat([]limits.Limit{{Name: "memory", Value: limits.Bytes(machine.Memory), Reason: memory}}, machine.Limits(c.BodyLimit), constants(connections))
	return slices.DeleteFunc(list, func(l limits.Limit) bool { return l.Setting != "" })
}

// constants lists the limits that no machine changes.
func constants(connections string) []limits.Limit {
	return slices.Concat(
		[]limits.Limit{
			{Name: "database connections", Value: connections, Reason: fmt.Sprintf("`pool_max_conns` in DATABASE_URL, or else %d, a third of what the smallest databases allow. The database decides how many it bears, not this machine", maxConns)},
			{Name: "time of a request", Value: limits.Duration(requestTimeout), Reason: "Reference connectors give up after 30s"},
			{Name: "time to read a body", Value: limits.Duration(bodyTimeout), Reason: "The rest of a request's time is for the database"},
			{Name: "time to write an answer", Value: limits.Duration(writeTimeout), Reason: "A shutdown waits for it"},
			{Name: "time to shut down", Value: limits.Duration(shutdownTimeout), Reason: "fly.toml lets the process run for 30s after SIGTERM"},
			{Name: "headers of a request", Value: limits.Bytes(readBufferSize), Reason: "Twice the longest token"},
			{Name: "a message of Postgres", Value: limits.Bytes(maxAnswer), Reason: "A broken stream announces any length. The largest that is needed is a page of rejected writes"},
		},
		apply.Limits(), identity.Limits(), policies.Limits(), ledger.Limits(),
	)
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
		value := defaults(limits.WithMemory(256 << 20)).shown(key)
		if value != "" {
			value = "`" + value + "`"
		}
		if d.unit != "" {
			value = strings.TrimSpace(value + " " + d.unit)
		}
		if d.derived {
			value += " with 256 MiB of memory"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, value, meaning)
	}
	for _, v := range variables {
		fmt.Fprintf(&b, "| `%s` |  | %s |\n", v.key, v.meaning)
	}
	return b.String()
}

// LimitsReference is the page of all limits in Markdown.
func LimitsReference() string {
	var b strings.Builder
	b.WriteString("# Limits\n\n`postern config` prints those of the machine that it runs on. This page is made by `go test ./service -run TestReference -update`.\n\n" +
		"## From the machine's memory\n\nThe memory is 90 % of the container's (cgroup) or the machine's; `GOMEMLIMIT` sets another one. No limit follows from the cores: Go uses as many as the\n" +
		"cgroup allows, and requests that wait take memory only.\n\n| limit | with 256 MiB | 1 GiB | 4 GiB | why |\n|---|--:|--:|--:|---|\n")
	smallest, small, large := limits.WithMemory(256<<20).Limits(0), limits.WithMemory(1<<30).Limits(0), limits.WithMemory(4<<30).Limits(0)
	for i, l := range smallest {
		name := l.Name
		if l.Setting != "" {
			name += ", `" + l.Setting + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, l.Value, small[i].Value, large[i].Value, l.Reason)
	}
	b.WriteString("\n## Constants\n\n| limit | value | why no machine changes it |\n|---|--:|---|\n")
	for _, l := range constants(limits.Count(maxConns)) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", l.Name, l.Value, l.Reason)
	}
	return b.String()
}
