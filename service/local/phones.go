package local

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed phone
var phoneFiles embed.FS

// Phones serves two devices in the browser, of which the console shows one beside the
// other: GET /phone/. They have the demo's lists. What they send goes to the service; what
// other devices have written comes from a stand-in for the PowerSync Service, because dev
// mode has none (standin.go).
type Phones struct {
	http.Handler
	db          *pgxpool.Pool
	issuer      *Issuer
	checkpoints *Checkpoints
}

// sdkFolder is where `npm ci` in the end-to-end tests puts the web client for the phones,
// below the repository. Without it the phones are simulations, and say so.
const sdkFolder = "tests/e2e/node_modules/.phone"

// OpenPhones connects to the database as its owner. serviceURL is the write API's.
// Close must be called.
func OpenPhones(ctx context.Context, ownerURL, serviceURL string, issuer *Issuer) (*Phones, error) {
	service, err := url.Parse(serviceURL)
	if err != nil {
		return nil, err
	}
	db, err := pgxpool.New(ctx, ownerURL)
	if err != nil {
		return nil, err
	}
	p := &Phones{db: db, issuer: issuer, checkpoints: NewCheckpoints()}
	page, err := fs.Sub(phoneFiles, "phone")
	if err != nil {
		panic(err) // the folder is embedded
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(service)
		r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/phone")
	}}
	mux := http.NewServeMux()
	mux.Handle("/phone/", http.StripPrefix("/phone/", http.FileServerFS(page)))
	mux.Handle("/phone/api/", proxy)
	mux.Handle("GET /phone/dev/token", proxy)
	mux.Handle("GET /phone/sdk/", http.StripPrefix("/phone/sdk/", http.FileServerFS(sdk())))
	mux.HandleFunc("GET /phone/rows", p.rows)
	mux.HandleFunc("GET /phone/users", p.users)
	mux.HandleFunc("POST /phone/sync/stream", p.serveStream)
	mux.Handle("GET /phone/write-checkpoint2.json", p.checkpoints)
	p.Handler = framed(mux)
	return p, nil
}

// Close ends the connections.
func (p *Phones) Close() { p.db.Close() }

// sdk is the folder of the web client, in this folder's repository or the one above.
func sdk() fs.FS {
	dir, err := os.Getwd()
	if err != nil {
		return embed.FS{}
	}
	for at := dir; ; at = filepath.Dir(at) {
		found := filepath.Join(at, filepath.FromSlash(sdkFolder))
		if _, err := os.Stat(found); err == nil {
			return os.DirFS(found)
		}
		if at == filepath.Dir(at) {
			return embed.FS{}
		}
	}
}

// framed lets the page run the web client's database, and the console frame it.
func framed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; frame-ancestors 'self'")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// rows answers with the demo's lists as Postgres has them, the newest first.
func (p *Phones) rows(w http.ResponseWriter, r *http.Request) {
	var body string
	err := p.db.QueryRow(r.Context(), `select coalesce(jsonb_agg(l), '[]') from (select id, name, owner_id from lists order by created_at desc, id limit 100) l`).Scan(&body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprint(w, body)
}

// users answers with the subs of the phones' users, by name.
func (p *Phones) users(w http.ResponseWriter, _ *http.Request) {
	users := map[string]string{}
	for _, name := range []string{"alice", "bob", "carol"} {
		users[name] = UserID(name)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, users, json.Deterministic(true))
}
