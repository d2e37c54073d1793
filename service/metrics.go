package service

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/policies"
	"postern/service/apply"
	"postern/service/console"
	"postern/service/identity"
	"postern/service/upload"
)

// metrics are the metrics of this instance since its start.
type metrics struct {
	requestMetrics
	registry   *prometheus.Registry
	results    *prometheus.CounterVec
	rejections *prometheus.CounterVec
	codes      codeLabels
	unnamed    *prometheus.CounterVec
	tooLarge   prometheus.Counter
	malformed  prometheus.Counter
	warned     sync.Once // that a client names no device
	history    *history
}

func newMetrics(applier *apply.Applier, live *policies.Live) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_results_total", Help: "Transactions answered, by the status of the write API.",
		}, []string{"status"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_rejections_total", Help: "Transactions answered as rejected, by code and by the table of the operation that caused it. A repeated transaction counts again.",
		}, []string{"code", "table"}),
		tooLarge: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_uploads_too_large_total", Help: "Uploads over a limit of bytes or operations. Each is a device whose queue is stuck.",
		}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_uploads_malformed_total", Help: "Uploads that are not in the write API's form. Each is a device whose queue is stuck, or a client in development.",
		}),
		unnamed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_uploads_without_client_id_total", Help: "Uploads whose client sent no client_id, by what stands for the device: the token's session, or none.",
		}, []string{"queue"}),
	}
	m.requestMetrics = newRequestMetrics(m.registry)
	m.registry.MustRegister(m.results, m.rejections, m.unnamed, m.tooLarge, m.malformed, stuckQueues{applier}, conflicts{applier}, observed{applier}, policiesInForce{live}, collectors.NewGoCollector(), collectors.NewBuildInfoCollector(),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "postern_rejected_full_total", Help: "Rejected writes that were not stored, because those of their user are full. Each is a device whose queue is stuck.",
		}, func() float64 { return float64(applier.Ledger.Unstored()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "postern_rejected_year_old", Help: "Open and held rejected writes that are a year old, when they were last counted.",
		}, func() float64 { return float64(applier.Ledger.YearOld()) }),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, status := range []upload.Status{upload.Success, upload.RetryableError, upload.FatalError, upload.NotAttempted} {
		m.results.WithLabelValues(string(status))
	}
	m.history = newHistory(m)
	return m
}

// Metrics returns a server of GET /metrics in Prometheus' format, which does not use the
// database, and of the console, which asks other machines for a password. It belongs on a
// listener that users cannot reach.
func (s *Service) Metrics() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	board := (&console.Console{Applier: s.applier, Logger: s.logger, Password: s.cfg.ConsolePassword, Roles: s.roles, Server: operations{s}, Users: s.users, Phones: s.phones != nil}).Handler()
	mux.Handle("/console", board)
	mux.Handle("/console/", board)
	if s.phones != nil {
		mux.Handle("/phone/", s.phones)
	}
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute}
}

// Release names the running version in the metrics. go_build_info cannot: Go does not know
// the version of a program that is built in its own folder.
func (s *Service) Release(version string) {
	release := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postern_build_info", Help: "The running version; always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	release.Set(1)
	s.metrics.registry.MustRegister(release)
}

// countUnnamed counts an upload whose client names no device. The first one is logged.
func (m *metrics) countUnnamed(logger *slog.Logger, who identity.Identity, batch upload.Batch) {
	if batch.ClientID != "" {
		return
	}
	queue := "none"
	if who.SessionID != "" {
		queue = "session"
	}
	m.unnamed.WithLabelValues(queue).Inc()
	m.warned.Do(func() {
		logger.Warn("a client sends no client_id, so not every transaction of it takes effect exactly once: send await db.getClientId(). This is logged once", "queue", queue)
	})
}

// countResults adds results to the metrics.
func (s *Service) countResults(batch upload.Batch, results []upload.Result) {
	s.countOperations(batch, results)
	for i, result := range results {
		s.metrics.results.WithLabelValues(string(result.Status)).Inc()
		failed := result.FailedOperation
		if failed == nil {
			continue
		}
		table := "" // no single operation caused it
		if failed.OperationIndex != nil {
			table = s.tableLabel(batch.Transactions[i].Operations[*failed.OperationIndex].Table)
		}
		s.metrics.rejections.WithLabelValues(s.metrics.codes.label(failed.ErrorCode), table).Inc()
	}
}

// tableLabel returns a client's table name if the policies and the database have it, or
// else (unknown). Otherwise clients could create any number of labels.
func (s *Service) tableLabel(name string) string {
	const unknown = "(unknown)"
	snapshot := s.catalog.Snapshot()
	if snapshot == nil {
		return unknown
	}
	set, err := s.policies.For(snapshot)
	if err != nil {
		return unknown
	}
	for _, op := range []upload.Op{upload.Put, upload.Patch, upload.Delete} {
		if table, _ := set.Decide(upload.Operation{Op: op, Table: name}); table != nil && snapshot.Table(table.Schema, table.Name) != nil {
			return name
		}
	}
	return unknown
}

// maxCodes is how many codes of rejections have a label of their own. Postern and policies
// have some dozens.
const maxCodes = 200

// codeLabels are the codes of rejections that have a label. A rule in Go can make any
// number of codes, even of what clients send. It is safe for concurrent use.
type codeLabels struct {
	mu   sync.Mutex
	seen map[upload.Code]bool
}

// label returns a code, or else (other) if it is new and there are too many.
func (l *codeLabels) label(code upload.Code) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen[code] && len(l.seen) >= maxCodes {
		return "(other)"
	}
	if l.seen == nil {
		l.seen = map[upload.Code]bool{}
	}
	l.seen[code] = true
	return string(code)
}

// policiesInForce is a metric whose label is the SHA-256 of the policies in force.
type policiesInForce struct{ live *policies.Live }

var policiesDesc = prometheus.NewDesc("postern_policies_info", "The policies in force, by the SHA-256 of their files; always 1.", []string{"sha256"}, nil)

func (policiesInForce) Describe(descs chan<- *prometheus.Desc) { descs <- policiesDesc }

func (p policiesInForce) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(policiesDesc, prometheus.GaugeValue, 1, p.live.SHA256())
}

// stuckQueues is a metric that is computed when it is scraped.
type stuckQueues struct{ applier *apply.Applier }

var stuckDesc = prometheus.NewDesc("postern_stuck_queues", "Devices that have been sending the same transaction for 10 minutes or more, by the reason: an SQLSTATE, a rule that fails to evaluate, or no answer from the database.",
	[]string{"reason"}, nil)

func (stuckQueues) Describe(descs chan<- *prometheus.Desc) { descs <- stuckDesc }

func (q stuckQueues) Collect(out chan<- prometheus.Metric) {
	for reason, n := range q.applier.Stuck() {
		out <- prometheus.MustNewConstMetric(stuckDesc, prometheus.GaugeValue, float64(n), reason)
	}
}

// conflicts is a metric that is computed when it is scraped.
type conflicts struct{ applier *apply.Applier }

var conflictsDesc = prometheus.NewDesc("postern_conflicts_total", "Writes that a conflict strategy has dropped or merged, as a whole or in columns.", []string{"table", "strategy", "outcome"}, nil)

func (conflicts) Describe(descs chan<- *prometheus.Desc) { descs <- conflictsDesc }

func (c conflicts) Collect(out chan<- prometheus.Metric) {
	for conflict, n := range c.applier.Conflicts() {
		out <- prometheus.MustNewConstMetric(conflictsDesc, prometheus.CounterValue, float64(n), conflict.Table, string(conflict.Strategy), conflict.Outcome)
	}
}

// observed is a metric that is computed when it is scraped.
type observed struct{ applier *apply.Applier }

var observedDesc = prometheus.NewDesc("postern_observed_total", "Transactions that were applied although a rule in mode observe would have rejected them, or failed to evaluate, by the rule and its table.",
	[]string{"table", "rule", "result"}, nil)

func (observed) Describe(descs chan<- *prometheus.Desc) { descs <- observedDesc }

func (o observed) Collect(out chan<- prometheus.Metric) {
	for one, n := range o.applier.Observed() {
		result := "rejected"
		if one.Failed {
			result = "failed"
		}
		out <- prometheus.MustNewConstMetric(observedDesc, prometheus.CounterValue, float64(n), one.Table, one.Rule, result)
	}
}
