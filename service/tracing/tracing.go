// Package tracing makes a trace of each request of the API, if OpenTelemetry's standard
// variables name an endpoint for it. Otherwise it costs nothing.
//
// A span is the request; its children are the phases of an upload, and theirs are the
// statements that were slow. The children are made when the upload ends, of the times that
// package timing has kept. So nothing but this package knows OpenTelemetry.
//
// A trace has no values, no ids of rows or users, no token and no SQL.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"postern/service/timing"
	"postern/service/upload"
)

// Tracer makes the spans of requests. nil makes none. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Open returns nil if no endpoint is set. The SDK reads the other variables by itself:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
// What goes wrong later is logged. The caller must call Close.
func Open(ctx context.Context, version string, logger *slog.Logger) (*Tracer, error) {
	on, err := settings()
	if err != nil || !on {
		return nil, err
	}
	sometimes := rate.Sometimes{Interval: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		sometimes.Do(func() {
			logger.Warn("OpenTelemetry reports an error; the next such line follows in a minute", "error", err)
		})
	}))
	otel.SetLogger(logr.FromSlogHandler(logger.Handler()))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("the exporter of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "postern"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w: write key=value,key=value", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracer{provider, provider.Tracer("postern")}, nil
}

// settings reports whether traces are on, and what is wrong with the variables that decide
// it. A variable for traces alone overrides the one for all signals.
func settings() (on bool, err error) {
	variable := func(name string) (string, string) {
		if value := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); value != "" {
			return "OTEL_EXPORTER_OTLP_TRACES_" + name, value
		}
		return "OTEL_EXPORTER_OTLP_" + name, os.Getenv("OTEL_EXPORTER_OTLP_" + name)
	}
	key, endpoint := variable("ENDPOINT")
	if endpoint == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	var problems []error
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		problems = append(problems, fmt.Errorf("OTEL_TRACES_EXPORTER=%q is neither otlp nor none: write one of them", exporter))
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		problems = append(problems, fmt.Errorf("%s is not an http(s) URL: write your collector's, such as http://localhost:4318", key)) // it may have a password
	}
	if key, protocol := variable("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		problems = append(problems, fmt.Errorf("%s=%q is not http/protobuf, which is all that Postern speaks: leave it out, and take the collector's port for it, usually 4318", key, protocol))
	}
	return len(problems) == 0, errors.Join(problems...)
}

// Close sends the spans that wait, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Request is a request that is traced. nil is one that is not.
type Request struct {
	tracer *Tracer
	ctx    context.Context // has the span
	span   trace.Span
	method string
}

// maxState is the longest tracestate that is kept, in bytes. Each span has it.
const maxState = 512

// Start begins a request's span, in the trace that its headers name, if they do. The
// sampler decides whether it is sent. nil starts none.
func (t *Tracer) Start(method, traceparent, tracestate string) *Request {
	if t == nil {
		return nil
	}
	if len(tracestate) > maxState {
		tracestate = ""
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent, "tracestate": tracestate})
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method)))
	return &Request{t, ctx, span, method}
}

// TraceID is the id of the trace, which the log has, too. It is empty for nil.
func (r *Request) TraceID() string {
	if r == nil {
		return ""
	}
	return r.span.SpanContext().TraceID().String()
}

// Sampled reports whether the span is sent. nil is not.
func (r *Request) Sampled() bool { return r != nil && r.span.IsRecording() }

// Upload adds the size of an upload.
func (r *Request) Upload(batch upload.Batch) {
	if !r.Sampled() {
		return
	}
	operations := 0
	for _, t := range batch.Transactions {
		operations += len(t.Operations)
	}
	r.span.SetAttributes(attribute.Int("postern.transactions", len(batch.Transactions)), attribute.Int("postern.operations", operations))
}

// Phases adds the phases of an upload, and its slow statements.
func (r *Request) Phases(kept *timing.Kept) {
	if kept == nil {
		return
	}
	statements := kept.Statements
	for _, lap := range kept.Laps {
		options := []trace.SpanStartOption{trace.WithTimestamp(kept.Began.Add(lap.From))}
		if lap.Phase == timing.Database {
			options = append(options, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("db.system.name", "postgresql")))
		}
		ctx, span := r.tracer.tracer.Start(r.ctx, lap.Phase.String(), options...)
		for ; len(statements) > 0 && statements[0].To <= lap.To; statements = statements[1:] {
			r.slow(ctx, kept.Began, statements[0])
		}
		span.End(trace.WithTimestamp(kept.Began.Add(lap.To)))
	}
}

func (r *Request) slow(ctx context.Context, began time.Time, s timing.Statement) {
	name, attributes := s.Operation, []attribute.KeyValue{attribute.String("db.operation.name", s.Operation)}
	if s.Table != "" {
		name += " " + s.Table
		attributes = append(attributes, attribute.String("db.collection.name", s.Table))
	}
	_, span := r.tracer.tracer.Start(ctx, name, trace.WithTimestamp(began.Add(s.From)), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(began.Add(s.To)))
}

// End ends the request's span, if there is one. route is the pattern of its path.
func (r *Request) End(route string, status int, requestID string) {
	if r == nil {
		return
	}
	r.span.SetName(r.method + " " + route)
	r.span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status), attribute.String("postern.request_id", requestID))
	if status >= 500 {
		r.span.SetStatus(codes.Error, "")
	}
	r.span.End()
}
