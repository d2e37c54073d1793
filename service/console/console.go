// Package console is the team's page about a running service. It is served beside the
// metrics, on a listener that users cannot reach. Requests from other machines need its
// password.
//
// The page is files without a build step. A view is a tab of it: a module in page, which
// draws it, and a file here, which answers the module's requests for JSON under
// /console/api. To add one, write both, and add it to the list in views. The views use the
// ledger and replay exactly as the commands do. The files put what clients have sent into
// text nodes only.
package console

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/time/rate"

	"postern/service/apply"
	"postern/service/ledger"
)

//go:embed page
var files embed.FS

const timeout = 25 * time.Second // of a request

// Console answers the requests of the page. Its fields are what the server has for it.
type Console struct {
	Applier  *apply.Applier
	Logger   *slog.Logger
	Password string   // for requests from other machines; without one they are refused
	Roles    []string // that users write as
	Server   Server   // nil if only the database is looked at

	// Users returns the claims of a user of the development issuer, by name. It is nil if
	// the users are real; then the console lets nobody write as one of them.
	Users func(name string) (jsontext.Value, error)

	Phones bool // whether /phone/ beside the console has devices to look at
}

// view is a tab of the page. page/<name>.js draws it at the address #/<name>.
type view struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	// routes answer the module's requests, by method and path below /console/api/. A view
	// without routes is one that this server does not offer, and the page does not list it.
	routes map[string]route
}

// route returns what is written as JSON.
type route func(ctx context.Context, r *http.Request) (any, error)

// views are the tabs in their order.
func (c *Console) views() []view {
	return []view{
		c.now(),
		c.rejected(),
		c.playground(),
		c.devices(),
		c.coverage(),
	}
}

// Handler answers all paths below /console.
func (c *Console) Handler() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /console", http.RedirectHandler("/console/", http.StatusMovedPermanently))
	mux.Handle("GET /console/", http.StripPrefix("/console/", http.FileServerFS(page)))
	offered := slices.DeleteFunc(c.views(), func(v view) bool { return len(v.routes) == 0 })
	mux.HandleFunc("GET /console/api/views", c.handle(func(context.Context, *http.Request) (any, error) { return offered, nil }))
	for _, v := range offered {
		for pattern, r := range v.routes {
			method, path, _ := strings.Cut(pattern, " ")
			mux.HandleFunc(method+" /console/api/"+path, c.handle(r))
		}
	}
	return guard(&signIn{password: c.Password, next: mux, wrong: map[netip.Addr]*rate.Limiter{}})
}

// problem is an error that the page shows, with its status.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// handle writes what a route returns as JSON.
func (c *Console) handle(answer route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		body, err := answer(ctx, r)
		status := http.StatusOK
		var shown *problem
		switch {
		case err == nil:
		case errors.As(err, &shown):
			status, body = shown.status, map[string]string{"error": shown.message}
		case errors.Is(err, ledger.ErrNoRecord):
			status, body = http.StatusNotFound, map[string]string{"error": err.Error()}
		default:
			c.Logger.Error("the console cannot answer", "path", r.URL.Path, "error", err)
			status, body = http.StatusServiceUnavailable, map[string]string{"error": "The database did not answer as expected. The log says why. Try again."}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.MarshalWrite(w, body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) // inside values
	}
}
