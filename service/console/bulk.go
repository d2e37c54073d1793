package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"postern/service/ledger"
	"postern/service/replay"
)

const (
	bulkRecords = 100             // of a step at most
	bulkTime    = 2 * time.Second // after which a step ends
)

// step is a part of a bulk action. The page asks for the next one until there is none, or
// until somebody presses stop.
type step struct {
	Done   int       `json:"done"`
	Failed []notDone `json:"failed"`
	Next   string    `json:"next,omitzero"` // empty if this was the last step
}

// notDone is a write that a bulk action leaves as it is.
type notDone struct {
	ID      string `json:"id"`
	Code    string `json:"code,omitzero"` // if it was rejected again
	Message string `json:"message"`
}

// bulk does one step of replaying, dismissing or trying out the writes that the list's
// query selects, the oldest first, so that the writes of one user keep their order. It
// leaves alone what was rejected after the list was counted.
func (c *Console) bulk(ctx context.Context, r *http.Request) (any, error) {
	action := r.URL.Query().Get("action")
	if action != "rehearse" && action != "replay" && action != "dismiss" {
		return nil, &problem{http.StatusBadRequest, "action is rehearse, replay or dismiss."}
	}
	request, err := readDecision(r, action == "rehearse")
	if err != nil {
		return nil, err
	}
	if len(request.Edits) > 0 {
		return nil, &problem{http.StatusBadRequest, "Values are edited in one write at a time."}
	}
	f, after, err := query(r)
	if err != nil {
		return nil, err
	}
	counted, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("at"))
	if err != nil {
		return nil, &problem{http.StatusBadRequest, "at is the time that the list's first page has."}
	}
	if f.Before.IsZero() || counted.Before(f.Before) {
		f.Before = counted
	}
	page, next, more, err := c.Applier.Ledger.Records(ctx, f, after, bulkRecords)
	if err != nil {
		return nil, err
	}
	out := step{Failed: []notDone{}}
	if more {
		out.Next = next.String()
	}
	if action == "dismiss" {
		err = c.dismissAll(ctx, page, request.By, &out)
	} else {
		err = c.replayAll(ctx, page, request, action == "rehearse", &out)
	}
	return out, err
}

func (c *Console) dismissAll(ctx context.Context, page []ledger.Record, by ledger.By, out *step) error {
	ids := make([]string, 0, len(page))
	for _, record := range page {
		ids = append(ids, record.ID)
	}
	closed, err := c.Applier.Ledger.Close(ctx, ids, ledger.Dismissed, by, ledger.Own{})
	out.Done = len(closed)
	return err
}

func (c *Console) replayAll(ctx context.Context, page []ledger.Record, request replay.Request, isDryRun bool, out *step) error {
	began := time.Now()
	for i, record := range page {
		if request.Record = record; time.Since(began) > bulkTime {
			out.Next = page[i-1].Cursor().String()
			return nil
		}
		rejection, err := c.replayOne(ctx, request, isDryRun)
		var shown *problem
		switch {
		case errors.As(err, &shown):
			out.Failed = append(out.Failed, notDone{ID: record.ID, Message: shown.message})
		case err != nil:
			return err
		case rejection != nil:
			out.Failed = append(out.Failed, notDone{record.ID, string(rejection.Code), rejection.Message})
		default:
			out.Done++
		}
	}
	return nil
}

func (c *Console) replayOne(ctx context.Context, request replay.Request, isDryRun bool) (*refused, error) {
	if err := c.addAuthor(ctx, &request); err != nil {
		return nil, err
	}
	if isDryRun {
		_, err := replay.DryRun(ctx, c.Applier, c.Logger, request)
		return explain(err)
	}
	return explain(replay.Replay(ctx, c.Applier, c.Logger, request))
}
