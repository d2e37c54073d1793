// Package console is the team's page about a running service. It is served beside the
// metrics, on a listener that users cannot reach, and has no authentication of its own.
//
// The page is files without a build step. They call this package's JSON routes under
// /console/api, which use the ledger and replay exactly as the command rejected does. The
// files put what clients have sent into text nodes only.
package console

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/apply"
	"postern/service/ledger"
)

//go:embed page
var files embed.FS

const timeout = 25 * time.Second // of a request

// Console answers the requests of the page.
type Console struct {
	applier *apply.Applier
	logger  *slog.Logger
}

// New returns a handler for all paths below /console.
func New(applier *apply.Applier, logger *slog.Logger) http.Handler {
	c := &Console{applier, logger}
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /console", http.RedirectHandler("/console/", http.StatusMovedPermanently))
	mux.Handle("GET /console/", http.StripPrefix("/console/", http.FileServerFS(page)))
	mux.HandleFunc("GET /console/api/rejected", c.handle(c.list))
	mux.HandleFunc("GET /console/api/rejected/{id}", c.handle(c.show))
	mux.HandleFunc("POST /console/api/rejected/{id}/rehearse", c.handle(c.rehearse))
	mux.HandleFunc("POST /console/api/rejected/{id}/replay", c.handle(c.replay))
	mux.HandleFunc("POST /console/api/rejected/{id}/dismiss", c.handle(c.dismiss))
	return guard(mux)
}

// problem is an error that the page shows, with its status.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// handle writes what a route returns as JSON.
func (c *Console) handle(route func(ctx context.Context, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		body, err := route(ctx, r)
		status := http.StatusOK
		var shown *problem
		switch {
		case err == nil:
		case errors.As(err, &shown):
			status, body = shown.status, map[string]string{"error": shown.message}
		case errors.Is(err, ledger.ErrNoRecord):
			status, body = http.StatusNotFound, map[string]string{"error": err.Error()}
		default:
			c.logger.Error("the console cannot answer", "path", r.URL.Path, "error", err)
			status, body = http.StatusServiceUnavailable, map[string]string{"error": "The database did not answer as expected. The log says why. Try again."}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.MarshalWrite(w, body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) // inside values
	}
}
