package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/apply"
	"postern/service/ledger"
	"postern/service/replay"
	"postern/service/upload"
)

const (
	maxDecision = 64 << 10 // bytes of a request
	maxWords    = 4 << 10  // bytes of a name and a reason
)

// decision is what an operator sends with each change.
type decision struct {
	By      string `json:"by"`
	Reason  string `json:"reason"`
	NoRules bool   `json:"no_rules"` // replay as the command does with --no-policies
	Edits   []struct {
		Operation int    `json:"operation_index"`
		Column    string `json:"column"`
		Value     string `json:"value"` // JSON
	} `json:"edits"`
}

// readDecision reads a request's body. The name and the reason may be missing if it is a
// dry run.
func readDecision(r *http.Request, isDryRun bool) (request replay.Request, err error) {
	var d decision
	if err := json.UnmarshalRead(http.MaxBytesReader(nil, r.Body, maxDecision), &d); err != nil {
		return request, &problem{http.StatusBadRequest, fmt.Sprintf("A decision has at most %d bytes of JSON.", maxDecision)}
	}
	request.NoRules, request.By = d.NoRules, ledger.By{Who: strings.TrimSpace(d.By), Note: strings.TrimSpace(d.Reason)}
	for _, e := range d.Edits {
		request.Edits = append(request.Edits, replay.Edit{Operation: e.Operation, Column: e.Column, Value: jsontext.Value(e.Value)})
	}
	words := request.By.Who + request.By.Note
	switch {
	case isDryRun:
		request.By = ledger.By{Who: "dry run"}
	case request.By.Who == "" || request.By.Note == "" || strings.ContainsRune(words, 0):
		return request, &problem{http.StatusBadRequest, "Write your name and a reason. Both are stored with the write."}
	case len(words) > maxWords:
		return request, &problem{http.StatusBadRequest, fmt.Sprintf("The name and the reason have at most %d bytes.", maxWords)}
	}
	return request, nil
}

// rehearsed is what a replay would do.
type rehearsed struct {
	Rejection *refused `json:"rejection,omitzero"` // nil if it would succeed
	Effects   []effect `json:"effects"`
}

type refused struct {
	Code      upload.Code `json:"code"`
	Message   string      `json:"message"`
	Reason    string      `json:"reason,omitzero"` // for the developer
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
	request, err := c.find(ctx, r, true)
	if err != nil {
		return nil, err
	}
	effects, err := replay.DryRun(ctx, c.Applier, c.Logger, request)
	out := rehearsed{Effects: effectsOf(effects)}
	if out.Rejection, err = explain(err); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Console) replay(ctx context.Context, r *http.Request) (any, error) {
	request, err := c.find(ctx, r, false)
	if err != nil {
		return nil, err
	}
	rejection, err := explain(replay.Replay(ctx, c.Applier, c.Logger, request))
	if err != nil {
		return nil, err
	}
	return map[string]any{"rejection": rejection}, nil
}

func (c *Console) dismiss(ctx context.Context, r *http.Request) (any, error) {
	request, err := readDecision(r, false)
	if err != nil {
		return nil, err
	}
	record, err := c.Applier.Ledger.Record(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	closed, err := c.Applier.Ledger.Close(ctx, []string{record.ID}, ledger.Dismissed, request.By, ledger.Own{})
	if err == nil && len(closed) == 0 {
		err = &problem{http.StatusConflict, "It is closed already. Load the page again to see what was done."}
	}
	return map[string]any{"status": ledger.Dismissed}, err
}

// find reads a decision and the record that it is about.
func (c *Console) find(ctx context.Context, r *http.Request, isDryRun bool) (request replay.Request, err error) {
	if request, err = readDecision(r, isDryRun); err != nil {
		return request, err
	}
	if request.Record, err = c.Applier.Ledger.Record(ctx, r.PathValue("id")); err != nil {
		return request, err
	}
	return request, c.addAuthor(ctx, &request)
}

// addAuthor adds the identity that sent a record.
func (c *Console) addAuthor(ctx context.Context, request *replay.Request) (err error) {
	request.Who, err = c.Applier.Ledger.Author(ctx, request.Record)
	if errors.Is(err, ledger.ErrNoIdentity) {
		err = &problem{http.StatusConflict, "It cannot be replayed: its author's role and claims are not stored."}
	}
	return err
}

// explain tells a rejection, and errors that the page shows, from those of the database.
func explain(err error) (*refused, error) {
	var (
		rejection *upload.Rejection
		pg        *pgconn.PgError
	)
	switch {
	case errors.As(err, &rejection):
		return &refused{rejection.Code, rejection.Message, rejection.Reason(), rejection.Rule, rejection.Operation}, nil
	case errors.Is(err, replay.ErrClosed), errors.Is(err, replay.ErrNoContent), errors.Is(err, replay.ErrEdit):
		return nil, &problem{http.StatusConflict, "Not replayed: " + err.Error() + "."}
	case errors.As(err, &pg):
		return nil, &problem{http.StatusConflict, "Not replayed: Postgres says " + pg.Message + " (" + pg.Code + ")."}
	}
	return nil, err
}
