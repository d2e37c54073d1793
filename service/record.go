package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/service/identity"
	"postern/service/record"
	"postern/service/upload"
)

// record records the transactions of a request that are applied, each once. Rejected ones
// are in the database, and the others come again.
func (s *Service) record(who identity.Identity, batch upload.Batch, results []upload.Result) {
	if s.recorder == nil {
		return
	}
	var applied []upload.Transaction
	for i, t := range batch.Transactions {
		if results[i].Status == upload.Success && !results[i].Decision.Repeated {
			applied = append(applied, t)
		}
	}
	s.recorder.Record(time.Now(), who, batch.ClientID, applied)
}

// recorded is a metric that is computed when it is scraped.
type recorded struct{ *record.Recorder }

var recordedDesc = prometheus.NewDesc("postern_recorded_requests_total", "Requests that were written to the file of recorded requests, or dropped because the file is full or slow.", []string{"outcome"}, nil)

func (recorded) Describe(descs chan<- *prometheus.Desc) { descs <- recordedDesc }

func (r recorded) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(recordedDesc, prometheus.CounterValue, float64(r.Written()), "written")
	out <- prometheus.MustNewConstMetric(recordedDesc, prometheus.CounterValue, float64(r.Dropped()), "dropped")
}
