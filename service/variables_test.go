package service

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVariablesAreShownWithoutSecrets(t *testing.T) {
	t.Setenv("POSTERN_OWNER_URL", "postgres://owner:hunter2@db.example.com/app")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hunter2@collector.example.com")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")
	t.Setenv("OTEL_SERVICE_NAME", "writes")
	list, err := Config{}.Settings("no-such-file")
	require.NoError(t, err)
	shown := map[string]Setting{}
	for _, s := range list {
		shown[s.Key] = s
	}
	for key, value := range map[string]string{
		"POSTERN_OWNER_URL":           "postgres://owner:xxxxx@db.example.com/app",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:xxxxx@collector.example.com",
		"OTEL_EXPORTER_OTLP_HEADERS":  "(secret)",
		"OTEL_SERVICE_NAME":           "writes",
	} {
		require.Equal(t, Setting{Key: key, Value: value, Origin: FromEnvironment}, shown[key])
	}
}
