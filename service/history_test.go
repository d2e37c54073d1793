package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postern/policies"
	"postern/service/apply"
	"postern/service/ledger"
	"postern/service/upload"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	m := newMetrics(&apply.Applier{Ledger: ledger.New(nil)}, &policies.Live{})
	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	at := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
	request := func(route, status string, took float64) {
		m.requests.WithLabelValues(route, status).Inc()
		m.seconds.WithLabelValues(route).Observe(took)
	}
	now := start
	request("/api/data", "200", 5) // before the first sample, so in no minute
	m.history.begin(func() time.Time { return now })
	for range 9 {
		request("/api/data", "200", .003)
	}
	request("/api/data", "503", 2)
	request("/api/rejected", "401", 2)
	request("/livez", "200", 2)
	m.results.WithLabelValues("success").Add(8)
	m.results.WithLabelValues("fatal_error").Add(1)
	for _, now = range []time.Time{at(1), at(2).Add(-time.Second), at(2)} {
		m.history.take()
	}
	request("/api/data", "200", 100)

	now = at(3).Add(-time.Second)
	minutes := m.history.minutes()
	require.Len(t, minutes, 3)
	first, quiet, current := minutes[0], minutes[1], minutes[2]
	require.Equal(t, at(0), first.At)
	require.Equal(t, map[string]float64{"2": 9, "4": 1, "5": 1}, first.Requests)
	require.Equal(t, []float64{8, 1, 0}, []float64{first.Results[upload.Success], first.Results[upload.FatalError], first.Results[upload.RetryableError]})
	require.InDelta(t, .0025+.0025*5/9, *first.Median, 1e-9, "half of ten, within the bucket from 2.5 ms to 5 ms")
	require.InDelta(t, 1+1.5*.5, *first.Slow, 1e-9, "9.5 of ten, within the bucket from 1 s to 2.5 s")
	require.Equal(t, []float64{0, 0, 0}, []float64{quiet.Requests["2"], quiet.Requests["4"], quiet.Results[upload.Success]})
	require.Nil(t, quiet.Median)
	require.InDelta(t, 25, *current.Median, 0, "beyond the last bound")

	for minute := 3; minute < 500; minute++ {
		now = at(minute)
		m.history.take()
	}
	require.Len(t, m.history.samples, 60)
	now = at(500)
	minutes = m.history.minutes()
	require.Len(t, minutes, 60, "the hour, and no more")
	require.Equal(t, at(441), minutes[0].At)
	now = at(530)
	require.Len(t, m.history.minutes(), 31, "nothing was sampled meanwhile")
}
