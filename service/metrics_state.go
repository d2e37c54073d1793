package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/service/limits"
)

// state is what is read when the metrics are scraped. It does not use the database, which
// a scraper would keep awake.
type state struct{ *Service }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("postern_"+name, help, labels, nil)
}

var (
	connectionsDesc = describe("pool_connections", "Database connections, by what they do.", "state")
	connectionsMost = describe("pool_connections_max", "How many database connections there may be.")
	waitsDesc       = describe("pool_waits_total", "How often a request waited for a database connection.")
	waitSecondsDesc = describe("pool_wait_seconds_total", "How long requests waited for a database connection, all together.")
	clientsDesc     = describe("client_connections", "Open connections of clients.")
	clientsMost     = describe("client_connections_max", "How many connections of clients there may be. One beyond it is answered with 503, which postern_requests_total does not count.")
	bodiesDesc      = describe("body_bytes", "Bytes of the budget of request bodies in use.")
	bodiesMost      = describe("body_bytes_max", "The budget of request bodies in bytes. A request beyond it is answered with 503.")
	keysDesc        = describe("key_set_keys", "Usable keys of each issuer. An issuer that has only a shared secret has none.", "issuer")
	keysAgeDesc     = describe("key_set_age_seconds", "Time since each issuer's key set was fetched; absent before the first time.", "issuer")
	refusedDesc     = describe("policies_problem", "1 if the policy files have a problem, so that older ones or none are in force.")
	readyDesc       = describe("ready", "1 if /readyz says ready.")
	retriesDesc     = describe("retries_total", "Attempts that were repeated within their request, after a clash or a lost connection.")
	lostDesc        = describe("decisions_lost_total", "Lines of the decision log that could not be written.")
	waitingDesc     = describe("rejected_writes", "Rejected writes that wait for a decision, when they were last counted, at most once an hour.", "status")
	oldestDesc      = describe("rejected_oldest_timestamp_seconds", "When the oldest of them was rejected; absent if there is none.")
	receiptsDesc    = describe("receipts", "Receipts, as Postgres estimated them when they were last counted.")
)

func (state) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsDesc, connectionsMost, waitsDesc, waitSecondsDesc, clientsDesc, clientsMost, bodiesDesc, bodiesMost, keysDesc, keysAgeDesc,
		refusedDesc, readyDesc, retriesDesc, lostDesc, waitingDesc, oldestDesc, receiptsDesc} {
		descs <- d
	}
}

func (s state) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value)
	}
	pool := s.db.Stat()
	gauge(connectionsDesc, float64(pool.AcquiredConns()), "busy")
	gauge(connectionsDesc, float64(pool.IdleConns()), "idle")
	gauge(connectionsDesc, float64(pool.ConstructingConns()), "connecting")
	gauge(connectionsMost, float64(pool.MaxConns()))
	counter(waitsDesc, float64(pool.EmptyAcquireCount()))
	counter(waitSecondsDesc, pool.EmptyAcquireWaitTime().Seconds())
	gauge(clientsDesc, float64(max(s.app.Server().GetOpenConnectionsCount(), 0))) // it is -1 until the service listens
	gauge(clientsMost, float64(limits.This().Connections()))
	gauge(bodiesDesc, float64(s.bodies.used.Load()))
	gauge(bodiesMost, float64(s.bodies.most))
	for _, keys := range s.verifier.KeySets() {
		gauge(keysDesc, float64(keys.Keys), keys.Issuer)
		if !keys.Fetched.IsZero() {
			gauge(keysAgeDesc, time.Since(keys.Fetched).Seconds(), keys.Issuer)
		}
	}
	gauge(refusedDesc, truth(s.policies.Problem() != nil))
	gauge(readyDesc, truth(s.ready() == nil))
	counter(retriesDesc, float64(s.applier.Retries()))
	counter(lostDesc, float64(s.decisions.lostLines()))
	s.collectLedger(gauge)
}

func (s state) collectLedger(gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	counts, ok := s.ledger.Counts()
	if !ok {
		return
	}
	gauge(waitingDesc, float64(counts.Open), "open")
	gauge(waitingDesc, float64(counts.Held), "held")
	gauge(receiptsDesc, float64(counts.Receipts))
	if !counts.Oldest.IsZero() {
		gauge(oldestDesc, float64(counts.Oldest.Unix()))
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
