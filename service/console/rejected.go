package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/replay"
	"postern/service/upload"
)

const pageSize = 50 // records

func (c *Console) rejected() view {
	return view{Name: "rejected", Title: "Rejected writes", routes: map[string]route{
		"GET rejected":                c.list,
		"GET rejected/{id}":           c.show,
		"POST rejected/{id}/rehearse": c.rehearse,
		"POST rejected/{id}/replay":   c.replay,
		"POST rejected/{id}/dismiss":  c.dismiss,
		"POST rejected":               c.bulk,
	}}
}

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
	page, next, more, err := c.Applier.Ledger.Records(ctx, f, after, pageSize)
	if err != nil {
		return nil, err
	}
	body := struct {
		Rejected []listed  `json:"rejected"`
		Next     string    `json:"next,omitzero"`
		Total    *int      `json:"total,omitzero"`
		At       time.Time `json:"at,omitzero"` // when they were counted
	}{Rejected: make([]listed, 0, len(page))}
	for _, r := range page {
		body.Rejected = append(body.Rejected, listed{r.ID, r.Status, r.Subject, r.Tables, r.Code, r.Message, r.Attempts, r.FirstAt})
	}
	if more {
		body.Next = next.String()
	}
	if after == (ledger.Cursor{}) {
		body.At = time.Now()
		total, err := c.Applier.Ledger.Count(ctx, f)
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
	record, err := c.Applier.Ledger.Record(ctx, r.PathValue("id"))
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
	if s.Actions, err = c.Applier.Ledger.Actions(ctx, record.ID); err != nil {
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
	tables, set, err := c.inForce(ctx)
	if err != nil {
		return err
	}
	s.Changed = record.PolicySHA256 != "" && record.PolicySHA256 != set.SHA256
	s.RuleAt, s.RuleText = set.RuleText(record.Rule, record.Tables)
	var author *identity.Identity
	switch who, err := c.Applier.Ledger.Author(ctx, record); {
	case err == nil:
		author = &who
	case !errors.Is(err, ledger.ErrNoIdentity):
		return err
	}
	for i, op := range transaction.Operations {
		operation, err := replay.Compare(ctx, c.Applier.DB, set.WithoutRules(), tables, op, author)
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
