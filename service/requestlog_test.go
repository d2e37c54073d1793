package service

import (
	"bytes"
	"io"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// serveLogged returns a function that sends a request to a service with this logger.
func serveLogged(logger *slog.Logger) (send func()) {
	s := &Service{metrics: &metrics{requestMetrics: newRequestMetrics(prometheus.NewRegistry())}, cfg: Default(), logger: logger}
	handle := s.routes().Handler()
	var exchange fasthttp.RequestCtx
	exchange.Request.SetRequestURI("/openapi.yaml?token=secret")
	exchange.Request.Header.Set("Authorization", "Bearer secret")
	exchange.Request.Header.Set(requestIDHeader, "mine")
	return func() {
		exchange.Response.Reset()
		handle(&exchange)
	}
}

// TestRequestLineAllocations bounds how often a request with its log line allocates,
// whatever it does besides. It does not run beside other tests, because they share the
// counter.
func TestRequestLineAllocations(t *testing.T) {
	const most = 12 // 9, and more under the race detector
	send := serveLogged(slog.New(slog.NewJSONHandler(io.Discard, nil)))
	require.LessOrEqual(t, testing.AllocsPerRun(100, send), float64(most))
}

func TestRequestLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	serveLogged(slog.New(slog.NewJSONHandler(&out, nil)))()
	require.Regexp(t, `^{"time":"[^"]+","level":"INFO","msg":"request","request_id":"mine","method":"GET","path":"/openapi.yaml","status":200,"bytes":0,"took":"[0-9.]+[µm]?s"}\n$`, out.String())
	out.Reset()
	serveLogged(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))()
	require.Empty(t, out.String())
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"Alone", func(l *slog.Logger) { l.Warn("m") }, `"request_id":"i","trace_id":"t"`},
		{"WithAttributes", func(l *slog.Logger) { l.With("a", 1).With("b", 2).Warn("m", "c", 3) }, `"request_id":"i","trace_id":"t","a":1,"b":2,"c":3`},
		{"WithAGroup", func(l *slog.Logger) { l.WithGroup("g").Warn("m", "a", 1) }, `"request_id":"i","trace_id":"t","g":{"a":1}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			test.log(slog.New(&requestLog{Handler: slog.NewJSONHandler(&out, nil), id: "i", traceID: "t"}))
			require.Contains(t, out.String(), `"msg":"m",`+test.want+"}\n")
		})
	}
}
