package service

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"

	"postern/service/apply"
	"postern/service/ledger"
	"postern/service/upload"
)

const maxRejectedPage = 100

// rejectedWrite is a record as its author sees it: without the policy that rejected it
// and without the team's notes.
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
	release, err := s.applier.ShareOfRecords(ctx, who)
	if err != nil {
		return s.answerUnavailable(c, err)
	}
	sent := false
	defer func() {
		if !sent {
			release()
		}
	}()
	filter.Issuer, filter.Subject = who.Issuer, who.Subject
	page, next, more, err := s.ledger.Records(apply.WithPing(ctx), filter, after, limit)
	if err != nil {
		return s.answerUnavailable(c, err)
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
	content, err := c.App().Config().JSONEncoder(body)
	if err != nil {
		return err
	}
	sent = true
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.SendStream(&answer{*bytes.NewReader(content), release}, len(content))
}

// answer is a long answer, which is in memory until its client has read it. release is
// called then.
type answer struct {
	bytes.Reader
	release func()
}

// Close is called when the answer is written, or its client is gone.
func (a *answer) Close() error {
	a.release()
	return nil
}

func rejectedQuery(c *fiber.Ctx) (f ledger.Filter, after ledger.Cursor, limit int, err error) {
	limit, err = strconv.Atoi(c.Query("limit", strconv.Itoa(maxRejectedPage)))
	if err != nil || limit < 1 || limit > maxRejectedPage {
		return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(maxRejectedPage))
	}
	if text := strings.Clone(c.Query("after")); text != "" {
		if after, err = ledger.ParseCursor(text); err != nil {
			return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "after "+err.Error()+": send the value of next from that page, or leave it out")
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
			return f, after, 0, fiber.NewError(fiber.StatusBadRequest, "status must be waiting, open, held, replayed, dismissed, expired, resolved or released; waiting means open or held")
		}
	}
	return f, after, limit, nil
}

// dismiss closes one of the caller's own rejected writes. For other users' it answers that
// they do not exist.
func (s *Service) dismiss(c *fiber.Ctx) error {
	ctx, cancel := requestContext()
	defer cancel()
	who, _, err := s.authenticate(ctx, c)
	if err != nil {
		return err
	}
	release, err := s.applier.ShareOfRecords(ctx, who)
	if err != nil {
		return s.answerUnavailable(c, err)
	}
	defer release()
	id := strings.Clone(c.Params("id"))
	status, err := s.ledger.Dismiss(apply.WithPing(ctx), id, ledger.Own{Issuer: who.Issuer, Subject: who.Subject})
	switch {
	case errors.Is(err, ledger.ErrNoRecord):
		return fiber.NewError(fiber.StatusNotFound, "you have no rejected write with this id")
	case err != nil:
		return s.answerUnavailable(c, err)
	}
	return c.JSON(fiber.Map{"id": id, "status": status})
}

// answerUnavailable answers a request for which the database failed.
func (s *Service) answerUnavailable(c *fiber.Ctx, err error) error {
	requestLogger(c).Error("cannot read or close rejected writes; the client is told to try again", apply.LogAttributes(err)...)
	c.Set(fiber.HeaderRetryAfter, "5")
	return fiber.NewError(fiber.StatusServiceUnavailable, "the database cannot be reached now: try again")
}
