package service

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"

	"postern/service/ledger"
	"postern/service/upload"
)

const maxRejectedPage = 100

// rejectedWrite is a record as its author may see it: not the policy that turned
// it down, nor what the team wrote about it.
type rejectedWrite struct {
	ID            string         `json:"id"`
	Status        ledger.Status  `json:"status"`
	Code          upload.Code    `json:"code"`
	Message       string         `json:"message"`
	Details       jsontext.Value `json:"details,omitempty"`
	Operation     *int           `json:"operation_index,omitempty"`
	ClientID      string         `json:"client_id,omitempty"`
	TransactionID *int64         `json:"transaction_id,omitempty"`
	Attempts      int            `json:"attempts"`
	FirstAt       time.Time      `json:"first_at"`
	LastAt        time.Time      `json:"last_at"`
	ClosedAt      *time.Time     `json:"closed_at,omitempty"`
	Transaction   jsontext.Value `json:"transaction"`
}

// rejected lists the caller's own rejected writes, the oldest first.
func (s *Service) rejected(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	ctx, cancel := requestContext()
	defer cancel()
	who, _, err := s.authenticate(ctx, c)
	if err != nil {
		return err
	}
	filter, after, limit, err := rejectedQuery(c)
	if err != nil {
		return err
	}
	filter.Issuer, filter.Subject = who.Issuer, who.Subject
	page, next, more, err := s.ledger.Records(ctx, filter, after, limit)
	if err != nil {
		return s.databaseAway(c, err)
	}
	body := struct {
		Rejected []rejectedWrite `json:"rejected"`
		Next     string          `json:"next,omitempty"`
	}{Rejected: make([]rejectedWrite, 0, len(page))}
	for _, r := range page {
		body.Rejected = append(body.Rejected, rejectedWrite{
			r.ID, r.Status, r.Code, r.Message, r.Details, r.Operation, r.ClientID, r.TransactionID,
			r.Attempts, r.FirstAt.UTC(), r.LastAt.UTC(), r.ClosedAt, r.Transaction,
		})
	}
	if more {
		body.Next = next.String()
	}
	return c.JSON(body)
}

func rejectedQuery(c *fiber.Ctx) (f ledger.Filter, after ledger.Cursor, limit int, err error) {
	limit, err = strconv.Atoi(c.Query("limit", strconv.Itoa(maxRejectedPage)))
	if err != nil || limit < 1 || limit > maxRejectedPage {
		return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(maxRejectedPage))
	}
	if text := strings.Clone(c.Query("after")); text != "" {
		if after, err = ledger.ParseCursor(text); err != nil {
			return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "after: "+err.Error()+": send the next of the page before")
		}
	}
	switch status := strings.Clone(c.Query("status")); status {
	case "":
	case "waiting":
		f.Statuses = []ledger.Status{ledger.Open, ledger.Held}
	default:
		for _, known := range ledger.Statuses {
			if status == string(known) {
				f.Statuses = []ledger.Status{known}
			}
		}
		if f.Statuses == nil {
			return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "status must be waiting (open or held), or one of open, held, replayed, dismissed, expired, resolved, released")
		}
	}
	return f, after, limit, nil
}

// dismiss closes one of the caller's own. What is somebody else's does not exist.
func (s *Service) dismiss(c *fiber.Ctx) error {
	ctx, cancel := requestContext()
	defer cancel()
	who, _, err := s.authenticate(ctx, c)
	if err != nil {
		return err
	}
	id := strings.Clone(c.Params("id"))
	status, err := s.ledger.Dismiss(ctx, id, ledger.Own{Issuer: who.Issuer, Subject: who.Subject})
	switch {
	case errors.Is(err, ledger.ErrNoRecord):
		return fiber.NewError(fiber.StatusNotFound, "you have no rejected write of this id")
	case err != nil:
		return s.databaseAway(c, err)
	}
	return c.JSON(fiber.Map{"id": id, "status": status})
}

// databaseAway answers what the database could not.
func (s *Service) databaseAway(c *fiber.Ctx, err error) error {
	requestLogger(c).Error("rejected writes out of reach", "error", err)
	c.Set(fiber.HeaderRetryAfter, "5")
	return fiber.NewError(fiber.StatusServiceUnavailable, "the database is out of reach now, try again")
}

// rejectedRetention is RejectedRetention, which has been validated.
func (c Config) rejectedRetention() time.Duration {
	d, _ := parseDays(c.RejectedRetention)
	return d
}

// parseDays reads a duration as Go spells it, or a number of days: 90d.
func parseDays(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < time.Hour {
		err = errors.New("too short")
	}
	return d, err
}

func (c Config) validateRejected(problem func(format string, args ...any)) {
	if _, err := parseDays(c.RejectedRetention); err != nil {
		problem("POSTERN_REJECTED_RETENTION=%q is neither a number of days, 90d, nor a duration of an hour or more, 36h", c.RejectedRetention)
	}
	if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
		problem("POSTERN_METRICS_LISTEN=%q is not host:port: write :9091 or 127.0.0.1:9091", c.MetricsListen)
	}
	if (c.WebhookURL == "") != (c.WebhookSecret == "") {
		problem("POSTERN_WEBHOOK_URL and POSTERN_WEBHOOK_SECRET go together: set both, or neither")
	}
	if c.WebhookURL != "" && !isPrivateURL(c.WebhookURL) {
		problem("POSTERN_WEBHOOK_URL is not an https URL (http is for loopback addresses alone)") // it may hold a secret
	}
	if n := len(c.WebhookSecret); n > 0 && n < minWebhookSecret {
		problem("POSTERN_WEBHOOK_SECRET has %d bytes: give it %d or more, such as `openssl rand -hex 32` makes", n, minWebhookSecret)
	}
}

// minWebhookSecret is the least length of a secret in bytes.
const minWebhookSecret = 16

// isPrivateURL reports whether nobody on the way can read what is sent there.
func isPrivateURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}
