package service

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"postern/service/console"
	"postern/service/upload"
)

const historyMinutes = 60

// history is what the metrics counted in each of the last 60 minutes. It samples the
// counters once a minute, so requests pay nothing for it.
type history struct {
	metrics *metrics

	mu      sync.Mutex
	clock   func() time.Time
	samples []sample // the oldest first; there is always one
}

// sample is what the counters say at a moment.
type sample struct {
	at       time.Time
	requests map[string]float64 // by the first digit of their HTTP status
	results  map[upload.Status]float64
	uploads  []float64 // by secondsBuckets, those below each bound; the last one is all
}

// newHistory begins now.
func newHistory(m *metrics) *history {
	h := &history{metrics: m}
	h.begin(time.Now)
	return h
}

// begin forgets all minutes, and begins at the time of a clock.
func (h *history) begin(clock func() time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock, h.samples = clock, []sample{h.metrics.sample(clock())}
}

// run takes a sample at each full minute until ctx ends.
func (h *history) run(ctx context.Context) {
	for {
		now := time.Now()
		select {
		case <-time.After(now.Truncate(time.Minute).Add(time.Minute).Sub(now)):
			h.take()
		case <-ctx.Done():
			return
		}
	}
}

// take takes a sample if a minute has begun since the last one.
func (h *history) take() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	if last := h.samples[len(h.samples)-1]; !now.Truncate(time.Minute).After(last.at) {
		return
	}
	h.samples = append(h.samples, h.metrics.sample(now))
	if len(h.samples) > historyMinutes {
		h.samples = h.samples[1:]
	}
}

// minutes are the differences between neighbouring samples, up to now.
func (h *history) minutes() []console.Minute {
	h.take()
	h.mu.Lock()
	now := h.clock()
	samples := append(h.samples[:len(h.samples):len(h.samples)], h.metrics.sample(now))
	h.mu.Unlock()
	list := make([]console.Minute, 0, len(samples))
	for i := 1; i < len(samples); i++ {
		if before := samples[i-1]; now.Sub(before.at) < historyMinutes*time.Minute {
			list = append(list, samples[i].since(before))
		}
	}
	return list
}

func (s sample) since(before sample) console.Minute {
	m := console.Minute{At: before.at, Requests: map[string]float64{}, Results: map[upload.Status]float64{}}
	for class, n := range s.requests {
		m.Requests[class] = n - before.requests[class]
	}
	for status, n := range s.results {
		m.Results[status] = n - before.results[status]
	}
	below := make([]float64, len(s.uploads))
	for i, n := range s.uploads {
		below[i] = n - before.uploads[i]
	}
	m.Median, m.Slow = quantile(below, .5), quantile(below, .95)
	return m
}

// quantile is how long so large a share of uploads took at most, in seconds. Within a
// bucket they are taken to be spread evenly, as in Prometheus. It is nil if there are none.
func quantile(below []float64, share float64) *float64 {
	all := below[len(below)-1]
	if all == 0 {
		return nil
	}
	lower, count := 0.0, 0.0
	for i, upper := range secondsBuckets {
		if below[i] >= share*all {
			seconds := lower + (upper-lower)*(share*all-count)/math.Max(below[i]-count, 1)
			return &seconds
		}
		lower, count = upper, below[i]
	}
	return &lower // beyond the last bound
}

// sample reads the counters.
func (m *metrics) sample(now time.Time) sample {
	s := sample{at: now, requests: map[string]float64{}, results: map[upload.Status]float64{}, uploads: make([]float64, len(secondsBuckets)+1)}
	each(m.requests, func(labels map[string]string, value *dto.Metric) {
		if strings.HasPrefix(labels["route"], "/api/") {
			s.requests[labels["status"][:1]] += value.GetCounter().GetValue()
		}
	})
	each(m.results, func(labels map[string]string, value *dto.Metric) {
		s.results[upload.Status(labels["status"])] = value.GetCounter().GetValue()
	})
	each(m.seconds, func(labels map[string]string, value *dto.Metric) {
		if labels["route"] != "/api/data" {
			return
		}
		for i, bucket := range value.GetHistogram().GetBucket()[:len(secondsBuckets)] {
			s.uploads[i] = float64(bucket.GetCumulativeCount())
		}
		s.uploads[len(secondsBuckets)] = float64(value.GetHistogram().GetSampleCount())
	})
	return s
}

// each calls do for each metric of a collector.
func each(c prometheus.Collector, do func(labels map[string]string, value *dto.Metric)) {
	metrics := make(chan prometheus.Metric)
	go func() {
		c.Collect(metrics)
		close(metrics)
	}()
	for metric := range metrics {
		var value dto.Metric
		if metric.Write(&value) != nil {
			continue
		}
		labels := map[string]string{}
		for _, pair := range value.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		do(labels, &value)
	}
}
