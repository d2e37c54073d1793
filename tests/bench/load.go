package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// shape is what a request holds: so many transactions of so many operations,
// each a PUT of a new row.
type shape struct{ transactions, operations int }

func (s shape) String() string { return fmt.Sprintf("%d × %d", s.transactions, s.operations) }

// numbers are those of transactions and operations, which never repeat.
var numbers atomic.Int64

// body appends a request that was never sent before.
func (s shape) body(b []byte) []byte {
	b = append(b, `{"client_id":"bench","transactions":[`...)
	for t := range s.transactions {
		if t > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"transaction_id":`...)
		b = strconv.AppendInt(b, numbers.Add(1), 10)
		b = append(b, `,"crud":[`...)
		for o := range s.operations {
			if o > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"op_id":`...)
			b = strconv.AppendInt(b, numbers.Add(1), 10)
			b = append(b, `,"op":"PUT","table":"lists","id":"`...)
			b = append(b, uuid.NewString()...)
			b = append(b, `","op_data":{"name":"Groceries for the weekend"}}`...)
		}
		b = append(b, `]}`...)
	}
	return append(b, `]}`...)
}

// maxRequests bounds one slice of load, whatever the time says.
const maxRequests = 100_000

// slice is what one stretch of load measured.
type slice struct {
	requests  int
	took      time.Duration
	latencies []time.Duration // sorted
}

func (s slice) perSecond() float64 { return float64(s.requests) / s.took.Seconds() }

// quantile is the latency that a share q of the requests stays below.
func (s slice) quantile(q float64) time.Duration {
	return s.latencies[min(int(q*float64(len(s.latencies))), len(s.latencies)-1)]
}

// load sends requests over so many connections, each sending its next request
// when it has the answer to the one before: a closed loop, because a device does
// the same, and because "at N connections" has no other meaning. (An open loop,
// at a fixed rate, would measure queues where one program cannot keep up with the
// other's rate.) It stops after the time given and maxRequests; whatever is not
// answered with success is an error.
func load(ctx context.Context, p program, tokens []string, connections int, s shape, d time.Duration) (slice, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var (
		all       sync.WaitGroup
		sent      atomic.Int64
		mu        sync.Mutex
		total     slice
		failed    error
		wanted    = bytes.Repeat([]byte(`{"status":"success"},`), s.transactions)
		want      = `{"results":[` + string(wanted[:len(wanted)-1]) + `]}`
		started   = time.Now()
		latencies = make([][]time.Duration, connections)
	)
	if p.reference {
		want = `{"message":"Batch completed"}`
	}
	for i := range connections {
		all.Go(func() {
			c := newConnection(p.url, tokens[i%len(tokens)])
			defer c.close()
			for ctx.Err() == nil && sent.Add(1) <= maxRequests {
				took, err := c.sendAll(p.bodies(c, s), want)
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					cancel()
					return
				}
				latencies[i] = append(latencies[i], took)
			}
		})
	}
	all.Wait()
	total.took = time.Since(started)
	for _, l := range latencies {
		total.latencies = append(total.latencies, l...)
	}
	total.requests = len(total.latencies)
	slices.Sort(total.latencies)
	return total, failed
}

// connection is one client with one connection, which is kept alive.
type connection struct {
	client   fasthttp.HostClient
	request  *fasthttp.Request
	response *fasthttp.Response
	body     []byte
}

func newConnection(url, token string) *connection {
	c := &connection{request: fasthttp.AcquireRequest(), response: fasthttp.AcquireResponse()}
	c.request.SetRequestURI(url + "/api/data")
	c.request.Header.SetMethod(fasthttp.MethodPost)
	c.request.Header.SetContentType("application/json")
	c.request.Header.Set("Authorization", "Bearer "+token)
	c.client.Addr, c.client.MaxConns = string(c.request.URI().Host()), 1
	c.client.MaxIdemponentCallAttempts = 1
	return c
}

func (c *connection) close() {
	c.client.CloseIdleConnections()
	fasthttp.ReleaseRequest(c.request)
	fasthttp.ReleaseResponse(c.response)
}

// bodies are what the program takes for one request of this shape.
func (p program) bodies(c *connection, s shape) [][]byte {
	if p.reference {
		return s.referenceBodies()
	}
	c.body = s.body(c.body[:0])
	return [][]byte{c.body}
}

func (c *connection) sendAll(bodies [][]byte, want string) (time.Duration, error) {
	started := time.Now()
	for _, body := range bodies {
		if err := c.send(body, want); err != nil {
			return 0, err
		}
	}
	return time.Since(started), nil
}

func (c *connection) send(body []byte, want string) error {
	c.request.SetBodyRaw(body)
	if err := c.client.DoTimeout(c.request, c.response, 30*time.Second); err != nil {
		return err
	}
	if answer := c.response.Body(); c.response.StatusCode() != fasthttp.StatusOK || string(answer) != want {
		return fmt.Errorf("answered %d %.300s", c.response.StatusCode(), answer)
	}
	return nil
}
