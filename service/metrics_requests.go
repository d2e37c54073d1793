package service

import (
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"postern/service/timing"
	"postern/service/upload"
)

// requestMetrics count requests, and measure where their time goes. Labels have values
// that are known at the start, or that tableLabel bounds: clients cannot create any.
type requestMetrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	phases     []prometheus.Observer // by timing.Phase
	operations *prometheus.CounterVec
}

var secondsBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}

func newRequestMetrics(registry *prometheus.Registry) requestMetrics {
	m := requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_requests_total", Help: "Requests answered, by route and HTTP status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_request_seconds", Help: "How long requests took, by route.", Buckets: secondsBuckets,
		}, []string{"route"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_operations_total", Help: "Operations answered, by table, operation and the status of their transaction.",
		}, []string{"table", "op", "status"}),
	}
	phase := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "postern_upload_phase_seconds", Help: "How long each phase of an upload took, if it had this phase.", Buckets: secondsBuckets,
	}, []string{"phase"})
	for _, p := range timing.Phases() {
		m.phases = append(m.phases, phase.WithLabelValues(p.String()))
	}
	registry.MustRegister(m.requests, m.seconds, phase, m.operations)
	return m
}

// routeLabel is the pattern of a request's path. Paths without a route share one.
func routeLabel(c *fiber.Ctx) string {
	if route := c.Route().Path; knownRoutes[route] {
		return route
	}
	return "(other)"
}

// answered counts a request.
func (m *requestMetrics) answered(c *fiber.Ctx, took time.Duration) {
	route := routeLabel(c)
	m.requests.WithLabelValues(route, strconv.Itoa(c.Response().StatusCode())).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// knownRoutes are the routes that have a label of their own.
var knownRoutes = map[string]bool{
	"/api/data": true, "/api/rejected": true, "/api/rejected/:id/dismiss": true, "/api/credentials": true, "/api/auth/token": true,
	keySetPath: true, "/livez": true, "/readyz": true, "/openapi.yaml": true,
}

// measured counts the phases that an upload had.
func (m *requestMetrics) measured(laps *timing.Laps) {
	for _, p := range timing.Phases() {
		if took := laps.Took(p); took > 0 {
			m.phases[p].Observe(took.Seconds())
		}
	}
}

// countOperations counts the operations of a request. Neighbours of the same kind are one
// lookup of a label, in whichever transactions they are.
func (s *Service) countOperations(batch upload.Batch, results []upload.Result) {
	type kind struct {
		table  string
		op     upload.Op
		status upload.Status
	}
	var last kind
	n := 0
	count := func() {
		if n > 0 {
			s.metrics.operations.WithLabelValues(s.tableLabel(last.table), string(last.op), string(last.status)).Add(float64(n))
		}
	}
	for i, result := range results {
		for _, o := range batch.Transactions[i].Operations {
			if next := (kind{o.Table, o.Op, result.Status}); next != last {
				count()
				last, n = next, 0
			}
			n++
		}
	}
	count()
}
