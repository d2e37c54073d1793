package e2e_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"postern/service/local"
	"postern/tests/rig"
)

// powerSync stands in for the PowerSync Service, which comes as a container
// image only and cannot run here. A device gets the whole of its tables, anew with
// every write checkpoint. What it gets is what Postgres holds at that moment, so a write
// that was acknowledged before its commit would vanish from the device.
type powerSync struct {
	http.Handler
	t           *testing.T
	db          *rig.Database
	rows        string // the query for what a device has: table, id and columns
	checkpoints *local.Checkpoints

	mu       sync.Mutex
	subjects map[string]bool // of the tokens that the device presented
}

func newPowerSync(t *testing.T, db *rig.Database) *powerSync {
	return newPowerSyncOf(t, db, demoRows)
}

func newPowerSyncOf(t *testing.T, db *rig.Database, rows string) *powerSync {
	p := &powerSync{t: t, db: db, rows: rows, checkpoints: local.NewCheckpoints(), subjects: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sync/stream", p.stream)
	mux.HandleFunc("GET /write-checkpoint2.json", func(w http.ResponseWriter, r *http.Request) {
		p.note(r)
		p.checkpoints.ServeHTTP(w, r)
	})
	p.Handler = mux
	return p
}

// stream sends a checkpoint at once, and one after each write checkpoint.
func (p *powerSync) stream(w http.ResponseWriter, r *http.Request) {
	p.note(r)
	w.Header().Set("Content-Type", "application/x-ndjson")
	for {
		number, next := p.checkpoints.Last()
		rows, err := p.synced(r.Context(), number)
		if r.Context().Err() != nil {
			return
		}
		if err != nil {
			p.t.Error("the stand-in for PowerSync:", err)
			return
		}
		const most = 10_000 // rows of a checkpoint
		if local.SendCheckpoint(w, int64(number)*most, rows, number) != nil {
			return // the device has gone
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return
		}
	}
}

func (p *powerSync) note(r *http.Request) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(r.Header.Get("Authorization"), "Token "), &claims); err != nil {
		p.t.Error("the device's token:", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subjects[claims.Subject] = true
}

// demoRows are those of both tables, and the rejected writes that wait for somebody.
const demoRows = `
select 'lists', id::text, (to_jsonb(l) - 'id')::text from lists l
 union all
select 'todos', id::text, (to_jsonb(t) - 'id' || jsonb_build_object('completed', completed::int))::text from todos t
 union all
select 'rejected_writes', id::text, jsonb_build_object('status', status, 'code', code, 'message', message)::text
  from postern.rejected_writes where status in ('open', 'held')`

// synced are the rows of a device, and the number of their checkpoint.
func (p *powerSync) synced(ctx context.Context, number int) ([]local.SyncedRow, error) {
	rows, err := p.db.Owner.Query(ctx, p.rows+`
 union all
select 'checkpoints', '1', jsonb_build_object('number', $1::int)::text`, number)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[local.SyncedRow])
}

// users are the subjects of the tokens that the device presented.
func (p *powerSync) users() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.subjects))
}
