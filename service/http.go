package service

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"

	"postern/service/apply"
	"postern/service/identity"
	"postern/service/limits"
	"postern/service/timing"
	"postern/service/tracing"
	"postern/service/upload"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the contract that GET /openapi.yaml serves.
func OpenAPI() []byte { return slices.Clone(openAPI) }

// readBufferSize bounds a request's headers, in bytes. A bearer token with many
// claims exceeds fiber's default of 4 kB.
const readBufferSize = 32 << 10

// writeTimeout is how long a client may take to read its answer. A shutdown waits for it.
const writeTimeout = 20 * time.Second

// routes sets up all routes and their middleware.
func (s *Service) routes() *fiber.App {
	app := fiber.New(fiber.Config{
		AppName:                      "Postern",
		DisableStartupMessage:        true,
		BodyLimit:                    s.cfg.BodyLimit,
		StreamRequestBody:            true, // the token comes first, see bodies
		DisablePreParseMultipartForm: true, // would write bodies of that type to temporary files
		ReadBufferSize:               readBufferSize,
		Concurrency:                  limits.This().Connections(),
		ReadTimeout:                  time.Minute,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  75 * time.Second,
		ErrorHandler:                 s.fail,
	})
	app.Use(s.leaving.closeConnection)
	app.Use(s.trace)
	app.Use(cors.New(cors.Config{
		AllowOrigins:  strings.Join(s.cfg.AllowedOrigins, ","),
		AllowMethods:  "GET,POST,PUT,PATCH,DELETE", // and any headers, those that the browser names
		ExposeHeaders: requestIDHeader + ",Retry-After",
		MaxAge:        7200, // the longest Chromium honours
	}))
	app.Get("/livez", s.livez)
	app.Get("/readyz", s.readyz)
	app.Get("/openapi.yaml", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/yaml")
		return c.Send(openAPI)
	})
	app.Post("/api/data", s.data(func(body []byte) (upload.Batch, error) {
		return upload.DecodeBatchWithin(body, s.cfg.MaxOperations)
	}))
	for _, op := range []upload.Op{upload.Put, upload.Patch, upload.Delete} {
		app.Add(string(op), "/api/data", s.data(func(body []byte) (upload.Batch, error) {
			return upload.DecodeOperation(body, op)
		}))
	}
	app.Get("/api/rejected", s.rejected)
	app.Post("/api/rejected/:id/dismiss", s.dismiss)
	app.Get("/api/credentials", s.credentials)
	app.Get("/api/auth/token", s.olderCredentials)
	if s.minter != nil {
		app.Get(keySetPath, s.keySet)
	}
	return app
}

// data answers the write API, POST /api/data, and the older forms of upload/README.md:
// https://docs.powersync.com/handling-writes/write-path.
func (s *Service) data(decode func(body []byte) (upload.Batch, error)) fiber.Handler {
	return func(c *fiber.Ctx) error { return s.upload(c, decode) }
}

func (s *Service) upload(c *fiber.Ctx, decode func(body []byte) (upload.Batch, error)) error {
	ctx, cancel := requestContext()
	defer cancel()
	laps, span := timing.Start(), requestSpan(c)
	if span.Sampled() {
		laps.Keep()
	}
	defer func() {
		s.metrics.measured(laps)
		span.Phases(laps.Kept())
	}()
	who, _, err := s.authenticate(ctx, c)
	laps.End(timing.Token)
	if err != nil {
		return err
	}
	if s.outdated.Load() {
		s.catalog.RefreshIfOlderThan(retryAfter) // it may be migrated by now
		return fiber.NewError(fiber.StatusServiceUnavailable, "the service waits for an update of its database: try again")
	}
	body, release, err := s.bodies.read(c)
	defer release()
	if err != nil {
		return s.refuseBody(ctx, c, who, err)
	}
	c.Locals(bodyKey, len(body))
	laps.End(timing.Body)
	batch, err := decode(body)
	if err != nil {
		return s.refuseBody(ctx, c, who, err)
	}
	laps.End(timing.Decode)
	release, err = s.bodies.reserve(len(body), s.weigh(batch))
	defer release()
	if err != nil {
		return err
	}
	if batch.UserID != "" && batch.UserID != who.Subject {
		return fiber.NewError(fiber.StatusConflict, "the queue holds another user's writes: user_id is not the token's sub. Let that user sign in again, or let the app decide what becomes of the writes")
	}
	if s.policies.Refused() {
		s.catalog.RefreshIfOlderThan(retryAfter) // the schema may fit the new policies by now
	}
	s.metrics.countUnnamed(requestLogger(c), who, batch)
	span.Upload(batch)
	defer laps.End(timing.Answer)
	if batch.StatusOnly {
		return s.applyOlder(ctx, c, who, batch, laps)
	}
	results := s.applier.Apply(ctx, requestLogger(c), who, batch, laps)
	s.conclude(c, who, batch, results, laps)
	return c.JSON(fiber.Map{"results": results})
}

// conclude counts results, records their request, and adds them to the decision log.
func (s *Service) conclude(c *fiber.Ctx, who identity.Identity, batch upload.Batch, results []upload.Result, laps *timing.Laps) {
	s.countResults(batch, results)
	s.record(who, batch, results)
	s.decisions.write(decided{requestID: c.GetRespHeader(requestIDHeader), traceID: requestSpan(c).TraceID(), subject: who.Subject, laps: laps}, batch, results)
}

func (s *Service) livez(c *fiber.Ctx) error {
	if s.leaving.begun.Load() {
		return fiber.NewError(fiber.StatusServiceUnavailable, errLeaving.Error())
	}
	return c.JSON(fiber.Map{"status": "ok"})
}

func (s *Service) readyz(c *fiber.Ctx) error {
	err := s.ready()
	if err == nil {
		s.unready.Store("")
		return c.JSON(fiber.Map{"status": "ready"})
	}
	s.catalog.RefreshIfOlderThan(time.Second) // the cause may be gone, and no upload arrives that would notice
	if s.unready.Swap(err.Error()) != err.Error() {
		s.logger.Warn("not ready for uploads", "error", err)
	}
	message := err.Error()
	if errors.As(err, new(policyTrouble)) {
		message = "the policies cannot be used: the log has the mistakes" // policies are nothing for strangers
	}
	return c.Status(fiber.StatusServiceUnavailable).JSON(fiber.Map{"message": message})
}

// authenticate verifies the bearer token. The token it returns is a copy, because the
// next request overwrites fiber's strings.
func (s *Service) authenticate(ctx context.Context, c *fiber.Ctx) (identity.Identity, string, error) {
	token := strings.Clone(identity.BearerToken(c.Get(fiber.HeaderAuthorization)))
	who, err := s.verifier.Verify(ctx, token)
	return who, token, err
}

// requestContext returns the context of a request. fiber's own ends when a shutdown
// begins, and would end writes that are running.
func requestContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), requestTimeout)
}

// fail answers an error with a status and {message}. All errors are answered here.
func (s *Service) fail(c *fiber.Ctx, err error) error {
	status, message := fiber.StatusInternalServerError, "internal error: try again; the server's log has the cause under this request's X-Request-Id"
	var (
		refusal   *identity.Refusal
		malformed *upload.Malformed
		known     *fiber.Error
	)
	switch {
	case errors.As(err, &refusal):
		status, message = s.refuseToken(c, refusal)
	case errors.As(err, &malformed):
		status, message = fiber.StatusBadRequest, malformed.Error()
	case errors.As(err, &known):
		status, message = known.Code, known.Message
		switch {
		case c.Locals(loggerKey) == nil && status == fiber.StatusBadRequest:
			message = "the request is not valid HTTP: correct its headers" // fasthttp's message quotes them
		case status == fiber.StatusNotFound:
			message = upload.Short(message) // fiber's has the path
		}
	default:
		requestLogger(c).Error("request failed", apply.LogAttributes(err)...)
	}
	if status == fiber.StatusServiceUnavailable && c.GetRespHeader(fiber.HeaderRetryAfter) == "" {
		c.Set(fiber.HeaderRetryAfter, "2")
	}
	return c.Status(status).JSON(fiber.Map{"message": message})
}

// refuseBody answers an upload that cannot be read. The team must hear of it, because its
// device sends it for ever and uploads nothing else. So it is logged and counted. If it is
// over a limit, it is also stored as a rejected write without content.
func (s *Service) refuseBody(ctx context.Context, c *fiber.Ctx, who identity.Identity, err error) error {
	var (
		large     *tooLarge
		many      *upload.TooMany
		malformed *upload.Malformed
	)
	length := c.Request().Header.ContentLength()
	if errors.As(err, &malformed) {
		s.metrics.malformed.Inc()
		requestLogger(c).Error("upload not in the write API's form: its device cannot upload anything until the app is corrected",
			"subject", who.Subject, "bytes", length, "path", malformed.Path)
	}
	if !errors.As(err, &large) && !errors.As(err, &many) {
		return err
	}
	s.metrics.tooLarge.Inc()
	requestLogger(c).Error("upload over a limit: its device cannot upload anything until the limit is raised or the app gives it up",
		"subject", who.Subject, "bytes", length, "error", err)
	if stored := s.ledger.StoreTooLarge(ctx, who, err.Error(), length); stored != nil {
		requestLogger(c).Error("cannot store what is known of an upload over a limit", apply.LogAttributes(stored)...)
	}
	return fiber.NewError(fiber.StatusRequestEntityTooLarge, err.Error())
}

// refuseToken returns the answer to a refused token (RFC 6750, section 3). The log gets
// the whole reason.
func (s *Service) refuseToken(c *fiber.Ctx, refusal *identity.Refusal) (status int, message string) {
	logger := requestLogger(c).With("reason", refusal.Error(), "issuer", refusal.Issuer, "kid", refusal.KeyID)
	if refusal.Kind == identity.Unavailable {
		logger.Error("cannot verify a token; the client is told to try again")
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(max(1, int(refusal.RetryAfter.Seconds()))))
		return fiber.StatusServiceUnavailable, "the token cannot be verified now: try again"
	}
	logger.Warn("token refused")
	if refusal.Kind == identity.Missing {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer`)
		return fiber.StatusUnauthorized, "send an Authorization header with Bearer and the user's token"
	}
	c.Set(fiber.HeaderWWWAuthenticate, `Bearer error="invalid_token", error_description="`+string(refusal.Kind)+`"`)
	return fiber.StatusUnauthorized, string(refusal.Kind)
}

const requestIDHeader = "X-Request-Id"

const (
	loggerKey = "logger"
	spanKey   = "span"   // of a request that is traced
	bodyKey   = "body"   // the bytes of a body that was read
	sourceKey = "source" // the body as it arrived, once it is read
)

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// trace gives each request an id and a logger with that id, and logs the request. It
// turns a panic into an error.
func (s *Service) trace(c *fiber.Ctx) (err error) {
	started := time.Now()
	id := strings.Clone(c.Get(requestIDHeader))
	if !requestID.MatchString(id) {
		id = rand.Text()
	}
	lines := &requestLog{Handler: s.logger.Handler(), id: id}
	span := s.startSpan(c)
	if span != nil {
		lines.traceID = span.TraceID()
		c.Locals(spanKey, span)
	}
	logger := slog.New(lines)
	c.Locals(loggerKey, logger)
	c.Set(requestIDHeader, id)
	func() {
		defer func() {
			if r := recover(); r != nil {
				logger.Error("panic", "value", panicText(r), "stack", string(debug.Stack()))
				err = errors.New("panic")
			}
		}()
		err = c.Next()
	}()
	if err != nil {
		err = s.fail(c, err)
	}
	drain(c)
	bytes, _ := c.Locals(bodyKey).(int)
	s.metrics.answered(c, time.Since(started))
	span.End(routeLabel(c), c.Response().StatusCode(), id)
	lines.answered(c, bytes, time.Since(started))
	return err
}

// startSpan begins the span of a request of the API. It returns nil for others, and if
// nothing is traced.
func (s *Service) startSpan(c *fiber.Ctx) *tracing.Request {
	if s.tracer == nil || !strings.HasPrefix(c.Path(), "/api/") {
		return nil
	}
	return s.tracer.Start(upload.Short(strings.Clone(c.Method())), strings.Clone(c.Get("traceparent")), strings.Clone(c.Get("tracestate")))
}

// requestSpan returns the span that trace has set; nil if the request is not traced.
func requestSpan(c *fiber.Ctx) *tracing.Request {
	span, _ := c.Locals(spanKey).(*tracing.Request)
	return span
}

// panicText describes the value of a panic without row data. The runtime's own errors
// quote none.
func panicText(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a %T", value)
}

// requestLogger returns the logger that trace has set. If the request failed before
// trace, it returns the default one.
func requestLogger(c *fiber.Ctx) *slog.Logger {
	if logger, ok := c.Locals(loggerKey).(*slog.Logger); ok {
		return logger
	}
	return slog.Default()
}
