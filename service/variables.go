package service

import (
	"net/url"
	"os"
	"slices"
	"strings"
)

// variables are read from the environment alone, by others than the configuration.
var variables = []struct{ key, meaning string }{
	{"POSTERN_OWNER_URL", "for `postern migrate` alone, from the environment: the URL of the role that owns your tables, where `DATABASE_URL` is the service's"},
	{"OTEL_EXPORTER_OTLP_ENDPOINT", "from the environment: where [traces](service/monitoring/README.md#traces) go. OpenTelemetry's other variables are read, too"},
}

// fromVariables returns those variables, and each of OpenTelemetry's that is set.
func fromVariables() (list []Setting) {
	var names []string
	for _, v := range variables {
		names = append(names, v.key)
	}
	var others []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OTEL_") && !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for _, name := range append(names, others...) {
		s := Setting{Key: name, Value: os.Getenv(name), Origin: FromDefault}
		if s.Value != "" {
			s.Value, s.Origin = shownVariable(name, s.Value), FromEnvironment
		}
		list = append(list, s)
	}
	return list
}

// shownVariable masks passwords, and headers, which have vendors' keys.
func shownVariable(name, value string) string {
	if name == "POSTERN_OWNER_URL" {
		return withoutPassword(value)
	}
	if strings.HasSuffix(name, "_HEADERS") {
		return "(secret)"
	}
	if u, err := url.Parse(value); err == nil && u.User != nil {
		return u.Redacted()
	}
	return value
}
