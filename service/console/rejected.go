package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/apply"
	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/replay"
	"postern/service/upload"
)

const (
	pageSize   = 50      // records
	maxRequest = 4 << 10 // bytes of a reason and a name
)

// listed is a rejected write in the list.
type listed struct {
	ID       string        `json:"id"`
	Status   ledger.Status `json:"status"`
	Subject  string        `json:"subject"`
	Tables   []string      `json:"tables"`
	Code     upload.Code   `json:"code"`
	Message  string        `json:"message"`
	Attempts int           `json:"attempts"`
	FirstAt  time.Time     `json:"first_at"`
}

// list is a page of the rejected writes, the oldest first. The first page counts them all.
func (c *Console) list(ctx context.Context, r *http.Request) (any, error) {
	f, after, err := query(r)
	if err != nil {
		return nil, err
	}
	page, next, more, err := c.applier.Ledger.Records(ctx, f, after, pageSize)
	if err != nil {
		return nil, err
	}
	body := struct {
		Rejected []listed `json:"rejected"`
		Next     string   `json:"next,omitzero"`
		Total    *int     `json:"total,omitzero"`
	}{Rejected: make([]listed, 0, len(page))}
	for _, r := range page {
		body.Rejected = append(body.Rejected, listed{r.ID, r.Status, r.Subject, r.Tables, r.Code, r.Message, r.Attempts, r.FirstAt})
	}
	if more {
		body.Next = next.String()
	}
	if after == (ledger.Cursor{}) {
		total, err := c.applier.Ledger.Count(ctx, f)
		if err != nil {
			return nil, err
		}
		body.Total = &total
	}
	return body, nil
}

// query reads the filters of the command rejected list.
func query(r *http.Request) (f ledger.Filter, after ledger.Cursor, err error) {
	values := r.URL.Query()
	f = ledger.Filter{Subject: values.Get("user"), Table: values.Get("table"), Code: values.Get("code")}
	var problems []error
	moment := func(name string, into *time.Time) {
		if text := values.Get(name); text != "" {
			at, err := ledger.ParseMoment(text, time.Now())
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
			}
			*into = at
		}
	}
	moment("since", &f.Since)
	moment("older-than", &f.Before)
	var statuses []string
	if text := values.Get("status"); text != "" {
		statuses = strings.Split(text, ",")
	}
	if f.Statuses, err = ledger.ParseStatuses(statuses); err != nil {
		problems = append(problems, fmt.Errorf("status: %w", err))
	}
	if text := values.Get("after"); text != "" {
		if after, err = ledger.ParseCursor(text); err != nil {
			problems = append(problems, fmt.Errorf("after %w", err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return f, after, &problem{http.StatusBadRequest, err.Error()}
	}
	return f, after, nil
}

// shown is a rejected write as a whole. It has neither its author's claims nor the
// transaction's bytes, of which the operations have everything that the team needs.
type shown struct {
	listed
	Details    jsontext.Value     `json:"details,omitzero"`
	Issuer     string             `json:"issuer"`
	ClientID   string             `json:"client_id,omitzero"`
	Number     *int64             `json:"transaction_id,omitzero"`
	LastAt     time.Time          `json:"last_at"`
	ClosedAt   *time.Time         `json:"closed_at,omitzero"`
	Rule       string             `json:"rule,omitzero"`
	RuleAt     string             `json:"rule_at,omitzero"`
	RuleText   string             `json:"rule_text,omitzero"` // as it is now
	Changed    bool               `json:"policies_changed"`   // since the write was rejected
	Operations []replay.Operation `json:"operations"`
	Actions    []ledger.Action    `json:"actions"`
	HasContent bool               `json:"has_content"`
	Raw        string             `json:"raw,omitzero"` // the beginning of a transaction that cannot be read, escaped
}

func (c *Console) show(ctx context.Context, r *http.Request) (any, error) {
	record, err := c.applier.Ledger.Record(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s := shown{
		listed:  listed{record.ID, record.Status, record.Subject, record.Tables, record.Code, record.Message, record.Attempts, record.FirstAt},
		Details: record.Details, Issuer: record.Issuer, ClientID: record.ClientID, Number: record.TransactionID, LastAt: record.LastAt,
		ClosedAt: record.ClosedAt, Rule: record.Rule, HasContent: record.HasContent,
	}
	if record.Raw != nil {
		s.Raw = fmt.Sprintf("%.4000q", record.Raw)
	}
	if s.Actions, err = c.applier.Ledger.Actions(ctx, record.ID); err != nil {
		return nil, err
	}
	return s, c.compare(ctx, record, &s)
}

// compare adds the rule, and the operations beside the rows as they are now.
func (c *Console) compare(ctx context.Context, record ledger.Record, s *shown) error {
	_, transaction, err := record.Decoded()
	if err != nil {
		return err
	}
	tables, err := c.applier.Catalog.Current(ctx)
	if err != nil {
		return err
	}
	set, err := c.applier.Policies.For(tables)
	if err != nil {
		return &problem{http.StatusServiceUnavailable, "The policies do not match the database. The log says where."}
	}
	s.Changed = record.PolicySHA256 != "" && record.PolicySHA256 != set.SHA256
	s.RuleAt, s.RuleText = set.RuleText(record.Rule, record.Tables)
	var author *identity.Identity
	switch who, err := c.applier.Ledger.Author(ctx, record); {
	case err == nil:
		author = &who
	case !errors.Is(err, ledger.ErrNoIdentity):
		return err
	}
	for i, op := range transaction.Operations {
		operation, err := replay.Compare(ctx, c.applier.DB, set.WithoutRules(), tables, op, author)
		if errors.Is(err, replay.ErrCannotRead) {
			operation.Unread = "Neither the service nor the write's author may read the row."
		} else if err != nil {
			return err
		}
		operation.Failed = record.Operation != nil && *record.Operation == i
		s.Operations = append(s.Operations, operation)
	}
	return nil
}

// decision is what an operator sends with each change.
type decision struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
}

func read(r *http.Request) (ledger.By, error) {
	var d decision
	if err := json.UnmarshalRead(http.MaxBytesReader(nil, r.Body, maxRequest), &d); err != nil {
		return ledger.By{}, &problem{http.StatusBadRequest, fmt.Sprintf("The name and the reason have at most %d bytes, as JSON.", maxRequest)}
	}
	by := ledger.By{Who: strings.TrimSpace(d.By), Note: strings.TrimSpace(d.Reason)}
	if by.Who == "" || by.Note == "" || strings.ContainsRune(by.Who+by.Note, 0) {
		return ledger.By{}, &problem{http.StatusBadRequest, "Write your name and a reason. Both are stored with the write."}
	}
	return by, nil
}

// rehearsed is what a replay would do.
type rehearsed struct {
	Rejection *refused `json:"rejection,omitzero"` // nil if it would succeed
	Effects   []effect `json:"effects"`
}

type refused struct {
	Code      upload.Code `json:"code"`
	Message   string      `json:"message"`
	Rule      string      `json:"rule,omitzero"`
	Operation int         `json:"operation_index"` // -1 if no single one caused it
}

type effect struct {
	Operation int            `json:"operation_index"`
	Did       apply.Did      `json:"did"`
	Before    jsontext.Value `json:"before,omitzero"`
	After     jsontext.Value `json:"after,omitzero"`
	Kept      []string       `json:"kept,omitzero"`
}

func (c *Console) rehearse(ctx context.Context, r *http.Request) (any, error) {
	record, author, err := c.find(ctx, r)
	if err != nil {
		return nil, err
	}
	effects, err := replay.DryRun(ctx, c.applier, c.logger, author, record, ledger.By{Who: "dry run"})
	out := rehearsed{Effects: []effect{}}
	if out.Rejection, err = explain(err); err != nil {
		return nil, err
	}
	for _, e := range effects {
		out.Effects = append(out.Effects, effect{e.Operation, e.Did, e.Before, e.After, e.Kept})
	}
	return out, nil
}

func (c *Console) replay(ctx context.Context, r *http.Request) (any, error) {
	by, err := read(r)
	if err != nil {
		return nil, err
	}
	record, author, err := c.find(ctx, r)
	if err != nil {
		return nil, err
	}
	rejection, err := explain(replay.Replay(ctx, c.applier, c.logger, author, record, by))
	if err != nil {
		return nil, err
	}
	return map[string]any{"rejection": rejection}, nil
}

func (c *Console) dismiss(ctx context.Context, r *http.Request) (any, error) {
	by, err := read(r)
	if err != nil {
		return nil, err
	}
	record, err := c.applier.Ledger.Record(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	closed, err := c.applier.Ledger.Close(ctx, []string{record.ID}, ledger.Dismissed, by, ledger.Own{})
	if err == nil && len(closed) == 0 {
		err = &problem{http.StatusConflict, "It is closed already. Load the page again to see what was done."}
	}
	return map[string]any{"status": ledger.Dismissed}, err
}

// find returns a record and the identity that sent it.
func (c *Console) find(ctx context.Context, r *http.Request) (ledger.Record, identity.Identity, error) {
	record, err := c.applier.Ledger.Record(ctx, r.PathValue("id"))
	if err != nil {
		return record, identity.Identity{}, err
	}
	author, err := c.applier.Ledger.Author(ctx, record)
	if errors.Is(err, ledger.ErrNoIdentity) {
		err = &problem{http.StatusConflict, "It cannot be replayed: its author's role and claims are not stored."}
	}
	return record, author, err
}

// explain tells a rejection, and errors that the page shows, from those of the database.
func explain(err error) (*refused, error) {
	var (
		rejection *upload.Rejection
		pg        *pgconn.PgError
	)
	switch {
	case errors.As(err, &rejection):
		return &refused{rejection.Code, rejection.Message, rejection.Rule, rejection.Operation}, nil
	case errors.Is(err, replay.ErrClosed), errors.Is(err, replay.ErrNoContent):
		return nil, &problem{http.StatusConflict, "Not replayed: " + err.Error() + "."}
	case errors.As(err, &pg):
		return nil, &problem{http.StatusConflict, "Not replayed: Postgres says " + pg.Message + " (" + pg.Code + ")."}
	}
	return nil, err
}
