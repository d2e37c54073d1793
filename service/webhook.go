package service

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"postern/service/ledger"
)

// The headers of a webhook's request.
const (
	webhookTimestamp = "Postern-Timestamp" // the time of sending, in seconds since 1970
	webhookSignature = "Postern-Signature" // sha256= and the HMAC-SHA256 of the timestamp, a dot and the body, in hexadecimal
)

const (
	webhookTimeout = 10 * time.Second
	webhookPoll    = 5 * time.Second
	webhookWorkers = 2 // of this instance
	// webhookRescue is how long a job may be running before its instance counts as killed.
	// River looks every 30 s, repeats the job 1 s later, which it notices within 5 s, and
	// fetches it within webhookPoll. So the webhook is called within a minute of the kill.
	webhookRescue = 15 * time.Second
)

// announcement is the job of sending one rejected write to the webhook.
type announcement struct {
	ID string `json:"id"`
}

// Kind is the job's name in the queue.
func (announcement) Kind() string { return ledger.JobKind }

// announcer sends rejected writes to the webhook, each at least once. The queue repeats
// failed jobs after growing pauses.
type announcer struct {
	river.WorkerDefaults[announcement]

	ledger  *ledger.Ledger
	client  *http.Client
	address string
	secret  []byte
}

// Timeout bounds one attempt.
func (*announcer) Timeout(*river.Job[announcement]) time.Duration { return webhookTimeout }

// Work makes one attempt.
func (a *announcer) Work(ctx context.Context, job *river.Job[announcement]) error {
	r, err := a.ledger.Record(ctx, job.Args.ID)
	if errors.Is(err, ledger.ErrNoRecord) {
		return nil // it was deleted after its retention
	}
	if err != nil {
		return err
	}
	// Nothing from the rows is sent. The message and the details may quote them.
	r.Message, r.Details, r.Transaction = "", nil, nil
	body, err := json.Marshal(struct {
		Type     string        `json:"type"`
		Rejected ledger.Record `json:"rejected"`
	}{ledger.JobKind, r})
	if err != nil {
		return err
	}
	return a.post(ctx, body, time.Now())
}

func (a *announcer) post(ctx context.Context, body []byte, now time.Time) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.address, bytes.NewReader(body))
	if err != nil {
		return errors.New("POSTERN_WEBHOOK_URL is not a URL: write https://…")
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, a.secret)
	fmt.Fprintf(mac, "%s.%s", timestamp, body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Postern")
	request.Header.Set(webhookTimestamp, timestamp)
	request.Header.Set(webhookSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	response, err := a.client.Do(request)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // without the URL, because it may contain a secret
		}
		return fmt.Errorf("the webhook did not answer: %w", err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("the webhook answered %d", response.StatusCode)
	}
	return nil
}

// announce works on the webhook's queue until ctx ends. It queries the database every few
// seconds, which keeps a serverless database awake.
func (s *Service) announce(ctx context.Context) {
	const pause = 10 * time.Second
	for ctx.Err() == nil {
		client, err := s.queue()
		if err == nil {
			err = client.Start(ctx)
		}
		if err == nil {
			<-client.Stopped() // when ctx ends
			return
		}
		if ctx.Err() == nil {
			s.logger.Error("cannot start the webhook's queue; the next attempt follows in 10 seconds", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (s *Service) queue() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &announcer{
		ledger: s.ledger, address: s.cfg.WebhookURL, secret: []byte(s.cfg.WebhookSecret),
		client: &http.Client{
			Timeout:       webhookTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	return river.NewClient(riverpgxv5.New(s.db), &river.Config{
		Schema:               ledger.Schema,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: webhookWorkers}},
		Workers:              workers,
		PollOnly:             true, // a pooler in transaction mode has no LISTEN
		FetchPollInterval:    webhookPoll,
		JobTimeout:           webhookTimeout,
		RescueStuckJobsAfter: webhookRescue,
		ReindexerSchedule:    river.NeverSchedule(), // the login role does not own the tables
		Logger:               slog.New(quiet{s.logger.Handler()}),
	})
}

// quiet is a log handler that passes on only warnings and errors.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}
