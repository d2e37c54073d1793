package service

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"postern/service/catalog"
)

// A service that is shutting down fails its checks. It answers everything else, and closes
// the connection.
func TestLeaving(t *testing.T) {
	t.Parallel()
	s := &Service{metrics: &metrics{requestMetrics: newRequestMetrics(prometheus.NewRegistry())}, cfg: Default(), logger: slog.New(slog.DiscardHandler), catalog: catalog.New(nil, nil)}
	app := s.routes()
	get := func(path string) (status int, closes bool) {
		response, err := app.Test(httptest.NewRequest(http.MethodGet, path, nil))
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode, response.Close
	}
	status, closes := get("/livez")
	require.Equal(t, http.StatusOK, status)
	require.False(t, closes)
	s.leaving.begun.Store(true)
	for path, want := range map[string]int{"/livez": http.StatusServiceUnavailable, "/readyz": http.StatusServiceUnavailable, "/openapi.yaml": http.StatusOK} {
		status, closes = get(path)
		require.Equal(t, want, status, path)
		require.True(t, closes, path)
	}
}
