package service

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"postern/service/upload"
)

// requestLog adds a request's id to its lines. Unlike Logger.With, which formats at once,
// it costs next to nothing for a request that logs nothing, which most are.
type requestLog struct {
	slog.Handler
	id, traceID string // traceID is empty if the request is not traced
}

func (l *requestLog) attributes() []slog.Attr {
	attributes := []slog.Attr{slog.String("request_id", l.id)}
	if l.traceID != "" {
		attributes = append(attributes, slog.String("trace_id", l.traceID))
	}
	return attributes
}

func (l *requestLog) Handle(ctx context.Context, line slog.Record) error {
	return l.WithAttrs(nil).Handle(ctx, line)
}

func (l *requestLog) WithAttrs(more []slog.Attr) slog.Handler {
	return l.Handler.WithAttrs(append(l.attributes(), more...))
}

func (l *requestLog) WithGroup(name string) slog.Handler {
	return l.WithAttrs(nil).WithGroup(name)
}

// answered logs the request itself. Its attributes have types, so that nothing is
// formatted by reflection.
func (l *requestLog) answered(c *fiber.Ctx, bytes int, took time.Duration) {
	if !l.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
	line.AddAttrs(l.attributes()...)
	line.AddAttrs(slog.String("method", upload.Short(strings.Clone(c.Method()))), slog.String("path", upload.Short(strings.Clone(c.Path()))),
		slog.Int("status", c.Response().StatusCode()), slog.Int("bytes", bytes), slog.String("took", took.Round(10*time.Microsecond).String()))
	_ = l.Handler.Handle(context.Background(), line) // as slog does
}
