package service

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	leaveTime = 2 * time.Second        // at most, for proxies to choose another instance
	quietTime = 250 * time.Millisecond // if no request arrives for so long, they have
)

var errLeaving = errors.New("the service is shutting down")

// leaving is the time between the signal to end and the end of listening. Proxies keep
// connections open, and a request that one sends on such a connection just when it is
// closed gets no answer. So the service first goes on answering: its checks fail, and each
// answer closes its connection.
type leaving struct {
	begun       atomic.Bool
	lastRequest atomic.Int64 // in Unix nanoseconds; checks do not count
}

// closeConnection is the middleware.
func (l *leaving) closeConnection(c *fiber.Ctx) error {
	if connection, ok := c.Context().Conn().(*connection); ok {
		defer connection.request()()
	}
	if l.begun.Load() && c.Path() != "/livez" && c.Path() != "/readyz" {
		l.lastRequest.Store(time.Now().UnixNano())
	}
	err := c.Next()
	if l.begun.Load() {
		c.Context().SetConnectionClose()
	}
	return err
}

// wait begins to leave, and returns when no more requests arrive, or after leaveTime.
func (l *leaving) wait() {
	begun := time.Now()
	l.lastRequest.Store(begun.UnixNano())
	l.begun.Store(true)
	for time.Since(begun) < leaveTime {
		silent := time.Since(time.Unix(0, l.lastRequest.Load()))
		if silent >= quietTime {
			return
		}
		time.Sleep(quietTime - silent)
	}
}
