package service

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/semaphore"

	"postern/policies"
	"postern/service/limits"
	"postern/service/plan"
	"postern/service/upload"
)

const (
	firstChunk   = 16 << 10         // of a body's buffer, which then doubles
	bodyTimeout  = 20 * time.Second // for reading a body; reference connectors give up after 30 s
	bodyGrace    = 2 * time.Second  // for the rest of a body once a shutdown has begun
	drainBytes   = 64 << 20         // of a body that is refused, so that its client reads the answer
	drainTime    = 3 * time.Second
	plainBytes   = 100 // of a body that an operation of a portion counts as, however short it is
	guardedBytes = 400 // the same, if its table's policy has rules or guards
)

// bodies reads request bodies, and bounds how many bytes of them are in memory at once.
// A body's buffer grows with what has arrived, so a header alone takes no memory.
type bodies struct {
	budget *semaphore.Weighted
	most   int64        // of the budget, in bytes
	least  int64        // of the budget, that each request takes
	used   atomic.Int64 // bytes of it
	limit  int          // of one body
}

// newBodies derives the bound from the machine. One body of the greatest length always
// fits.
func newBodies(machine limits.Machine, limit int) *bodies {
	most := machine.Bodies(limit)
	return &bodies{budget: semaphore.NewWeighted(most), most: most, least: min(machine.Request(), most), limit: limit}
}

// take takes bytes of the budget, if it has them. give gives them back.
func (b *bodies) take(n int64) bool {
	if !b.budget.TryAcquire(n) {
		return false
	}
	b.used.Add(n)
	return true
}

func (b *bodies) give(n int64) {
	b.used.Add(-n)
	b.budget.Release(n)
}

// errBodies means that too many bodies are in flight.
var errBodies = fiber.NewError(fiber.StatusServiceUnavailable, "the server reads too many uploads at once: try again")

// tooLarge is the error of a body over the limit. Its length is -1 if it is not known.
type tooLarge struct{ length, limit int }

func (t *tooLarge) Error() string {
	length := "longer than"
	if t.length >= 0 {
		length = fmt.Sprintf("%d bytes long, more than", t.length)
	}
	return fmt.Sprintf("the body is %s the limit of %d bytes: send fewer transactions in one request; a single transaction of this size needs a larger POSTERN_BODY_LIMIT on the server", length, t.limit)
}

// read reads a request's body. release gives its bytes back to the budget, after the
// last use of the body.
func (b *bodies) read(c *fiber.Ctx) (body []byte, release func(), err error) {
	length := c.Request().Header.ContentLength()
	if length > b.limit {
		return nil, func() {}, &tooLarge{length, b.limit}
	}
	taken := int64(0)
	release = func() { b.give(taken) }
	sent := c.Context().RequestBodyStream()
	if sent == nil {
		return nil, release, nil
	}
	stop := b.bound(c)
	defer stop()
	if !b.take(b.least) {
		return nil, release, errBodies
	}
	taken = b.least
	arriving := &source{Reader: sent, left: b.limit + 1}
	c.Locals(sourceKey, arriving)
	stream, err := unpack(c, arriving)
	if err != nil {
		return nil, release, arriving.explain(err, b.limit)
	}
	if stream != io.Reader(arriving) {
		length = -1 // of what is in it
	}
	for {
		if len(body) == cap(body) {
			size := min(max(2*cap(body), firstChunk), b.limit+1)
			if length >= 0 {
				size = min(size, max(length, 1))
			}
			if size == cap(body) {
				arriving.err = io.EOF
				return body, release, nil
			}
			more := max(int64(size)-taken, 0)
			if !b.take(more) {
				return nil, release, errBodies
			}
			taken += more
			body = append(make([]byte, 0, size), body...)
		}
		n, err := stream.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > b.limit:
			return nil, release, &tooLarge{-1, b.limit}
		case errors.Is(err, io.EOF):
			return body, release, nil
		case err != nil:
			return nil, release, arriving.explain(err, b.limit)
		}
	}
}

// weigh counts the bytes of the budget that the operations of a batch's first portion need,
// however short they are. What comes after them needs no more than its bytes.
func (s *Service) weigh(batch upload.Batch) (weight int) {
	room := plan.Portion
	var set *policies.Set
	if snapshot := s.catalog.Snapshot(); snapshot != nil {
		set, _ = s.policies.For(snapshot)
	}
	for _, t := range batch.Transactions {
		for _, op := range t.Operations {
			of, bytes := 1, plainBytes
			if set != nil { // otherwise nothing is planned
				if table, _ := set.Decide(op); table != nil && (len(table.Rules) > 0 || table.SetsByRows() || !table.Plain()) {
					of, bytes = plan.Guarded, guardedBytes
				}
			}
			if room -= of; room < 0 {
				return weight
			}
			weight += bytes
		}
	}
	return weight
}

// reserve takes from the budget what a request of many short operations needs beyond its
// body. It takes at most what the longest body takes, which always fits.
func (b *bodies) reserve(length, weight int) (release func(), err error) {
	more := int64(max(min(weight, b.limit)-length, 0))
	if !b.take(more) {
		return func() {}, errBodies
	}
	return func() { b.give(more) }, nil
}

// bound limits the time that a body may take to arrive. A shutdown leaves it less.
func (b *bodies) bound(c *fiber.Ctx) (stop func()) {
	conn := c.Context().Conn()
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	shutdown, read := c.Context().Done(), make(chan struct{})
	go func() {
		select {
		case <-shutdown:
			_ = conn.SetReadDeadline(time.Now().Add(bodyGrace))
		case <-read:
		}
	}()
	return func() {
		close(read)
		_ = conn.SetReadDeadline(time.Time{})
	}
}

// drain reads the rest of a body that is not wanted, or that follows a packed one: if the connection closed while the
// client still sends, the client's system would drop the answer. A body that goes on for
// too long is left, and the connection is closed.
func drain(c *fiber.Ctx) {
	stream := c.Context().RequestBodyStream()
	if stream == nil || c.Request().Header.ContentLength() == 0 {
		return
	}
	if s, ok := c.Locals(sourceKey).(*source); ok && errors.Is(s.err, io.EOF) {
		return // fasthttp would take what comes next for another chunk
	}
	conn := c.Context().Conn()
	_ = conn.SetReadDeadline(time.Now().Add(drainTime))
	if _, err := io.CopyN(io.Discard, stream, drainBytes); !errors.Is(err, io.EOF) {
		c.Context().SetConnectionClose()
	}
	_ = conn.SetReadDeadline(time.Time{})
}
