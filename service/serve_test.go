package service

import (
	"context"
	"net"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

// TestServeStoppedAtOnce has the signal to end come before the listener is served, as it
// may when a process is stopped while it starts. Serve never returned.
func TestServeStoppedAtOnce(t *testing.T) {
	t.Parallel()
	for range 100 {
		s := &Service{app: fiber.New(fiber.Config{DisableStartupMessage: true})}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		require.NoError(t, s.Serve(ctx, listener))
	}
}
