package rig

import (
	"sync/atomic"
	"time"
)

// Clock stands still until a test moves it.
type Clock struct{ at atomic.Pointer[time.Time] }

// NewClock is a clock at a time.
func NewClock(at time.Time) *Clock {
	c := &Clock{}
	c.at.Store(&at)
	return c
}

// Now is for Service.SetClock.
func (c *Clock) Now() time.Time { return *c.at.Load() }

// Advance moves it forward.
func (c *Clock) Advance(by time.Duration) {
	at := c.Now().Add(by)
	c.at.Store(&at)
}
