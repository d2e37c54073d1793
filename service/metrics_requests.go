package service

import (
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"postern/service/upload"
)

// requestMetrics count requests, and measure where their time goes. Labels have values
// that are known at the start, or that tableLabel bounds: clients cannot create any.
type requestMetrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	phases     map[phase]prometheus.Observer
	phase      *prometheus.HistogramVec
	operations *prometheus.CounterVec
}

// phase is a step of an upload.
type phase string

const (
	phaseToken  phase = "token"  // verifying it
	phaseBody   phase = "body"   // reading it from the device
	phaseDecode phase = "decode" // JSON becomes operations
	phaseApply  phase = "apply"  // planning, waiting for a connection, and Postgres
)

var secondsBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}

func newRequestMetrics(registry *prometheus.Registry) requestMetrics {
	m := requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_requests_total", Help: "Requests answered, by route and HTTP status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_request_seconds", Help: "How long requests took, by route.", Buckets: secondsBuckets,
		}, []string{"route"}),
		phase: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_upload_phase_seconds", Help: "How long each phase of an upload took. apply includes the wait for a connection.", Buckets: secondsBuckets,
		}, []string{"phase"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_operations_total", Help: "Operations answered, by table, operation and the status of their transaction.",
		}, []string{"table", "op", "status"}),
		phases: map[phase]prometheus.Observer{},
	}
	for _, p := range []phase{phaseToken, phaseBody, phaseDecode, phaseApply} {
		m.phases[p] = m.phase.WithLabelValues(string(p))
	}
	registry.MustRegister(m.requests, m.seconds, m.phase, m.operations)
	return m
}

// answered counts a request. Paths without a route share one label.
func (m *requestMetrics) answered(c *fiber.Ctx, took time.Duration) {
	route := c.Route().Path
	if !knownRoutes[route] {
		route = "(other)"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(c.Response().StatusCode())).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// knownRoutes are the routes that have a label of their own.
var knownRoutes = map[string]bool{
	"/api/data": true, "/api/rejected": true, "/api/rejected/:id/dismiss": true, "/api/credentials": true, "/api/auth/token": true,
	keySetPath: true, "/livez": true, "/readyz": true, "/openapi.yaml": true,
}

// lap measures phases that follow each other.
type lap struct {
	metrics *requestMetrics
	began   time.Time
}

func (m *requestMetrics) lap() lap { return lap{m, time.Now()} }

func (l *lap) end(p phase) {
	now := time.Now()
	l.metrics.phases[p].Observe(now.Sub(l.began).Seconds())
	l.began = now
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
