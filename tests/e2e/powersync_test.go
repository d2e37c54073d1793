package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"postern/tests/rig"
)

// powerSync stands in for the PowerSync Service, which comes as a container
// image only and cannot run here. It speaks as much of the sync protocol as the
// SDK needs to take itself for connected: one user's device, and the whole of
// both tables as one bucket, sent anew with every write checkpoint. What it
// sends is what Postgres holds at that moment, so a write that was acknowledged
// before its commit would vanish from the device.
type powerSync struct {
	http.Handler
	t  *testing.T
	db *rig.Database

	mu               sync.Mutex
	subjects         map[string]bool // of the tokens that the device presented
	writeCheckpoints int             // how often the device said that its queue is empty
	changed          chan struct{}   // closed and replaced at each write checkpoint
}

func newPowerSync(t *testing.T, db *rig.Database) *powerSync {
	p := &powerSync{t: t, db: db, subjects: map[string]bool{}, changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sync/stream", p.stream)
	mux.HandleFunc("GET /write-checkpoint2.json", p.writeCheckpoint)
	p.Handler = mux
	return p
}

// stream sends a checkpoint at once, and one after each write checkpoint.
func (p *powerSync) stream(w http.ResponseWriter, r *http.Request) {
	p.note(r)
	w.Header().Set("Content-Type", "application/x-ndjson")
	for {
		p.mu.Lock()
		number, changed := p.writeCheckpoints, p.changed
		p.mu.Unlock()
		lines, err := p.checkpoint(r.Context(), number)
		if r.Context().Err() != nil {
			return
		}
		if err != nil {
			p.t.Error("the stand-in for PowerSync:", err)
			return
		}
		for _, line := range lines {
			_ = json.MarshalWrite(w, line) // an error is the device's going away, which the context says too
			_, _ = w.Write([]byte("\n"))
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// writeCheckpoint is asked for when the queue has run empty: what the device
// gets from this checkpoint on includes all it has uploaded.
func (p *powerSync) writeCheckpoint(w http.ResponseWriter, r *http.Request) {
	p.note(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeCheckpoints++
	close(p.changed)
	p.changed = make(chan struct{})
	_, _ = fmt.Fprintf(w, `{"data":{"write_checkpoint":"%d"}}`, p.writeCheckpoints)
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

type (
	checkpointLine struct {
		Checkpoint struct {
			LastOpID        string   `json:"last_op_id"`
			WriteCheckpoint string   `json:"write_checkpoint,omitempty"`
			Buckets         []bucket `json:"buckets"`
		} `json:"checkpoint"`
	}
	bucket struct {
		Bucket   string `json:"bucket"`
		Count    int    `json:"count"`
		Checksum int    `json:"checksum"`
		Priority int    `json:"priority"`
	}
	dataLine struct {
		Data struct {
			Bucket string      `json:"bucket"`
			Data   []operation `json:"data"`
		} `json:"data"`
	}
	operation struct {
		OpID       string `json:"op_id"`
		Op         string `json:"op"`
		ObjectType string `json:"object_type"`
		ObjectID   string `json:"object_id"`
		Checksum   int    `json:"checksum"` // the client adds them up, and does not look into the rows
		Data       string `json:"data"`
	}
	completeLine struct {
		CheckpointComplete struct {
			LastOpID string `json:"last_op_id"`
		} `json:"checkpoint_complete"`
	}
)

// checkpoint is the rows of both tables, and the rejected writes that wait for
// somebody, in the bucket of that number, which takes the place of the one before.
func (p *powerSync) checkpoint(ctx context.Context, number int) ([]any, error) {
	rows, err := p.db.Owner.Query(ctx, `
select 'lists', id::text, (to_jsonb(l) - 'id')::text from lists l
 union all
select 'todos', id::text, (to_jsonb(t) - 'id' || jsonb_build_object('completed', completed::int))::text from todos t
 union all
select 'rejected_writes', id::text, jsonb_build_object('status', status, 'code', code, 'message', message)::text
  from postern.rejected_writes where status in ('open', 'held')
 union all
select 'checkpoints', '1', jsonb_build_object('number', $1::int)::text`, number)
	if err != nil {
		return nil, err
	}
	const most = 10_000 // rows a checkpoint
	operations, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o operation, err error) {
		o.Op = "PUT"
		return o, row.Scan(&o.ObjectType, &o.ObjectID, &o.Data)
	})
	if err != nil {
		return nil, err
	}
	for i := range operations {
		operations[i].OpID = strconv.Itoa(number*most + i + 1)
	}
	var (
		name  = fmt.Sprintf("everything[%d]", number)
		last  = strconv.Itoa(number*most + len(operations))
		first checkpointLine
		data  dataLine
		done  completeLine
	)
	first.Checkpoint.LastOpID, first.Checkpoint.Buckets = last, []bucket{{Bucket: name, Count: len(operations), Priority: 3}}
	if number > 0 {
		first.Checkpoint.WriteCheckpoint = strconv.Itoa(number)
	}
	data.Data.Bucket, data.Data.Data = name, operations
	done.CheckpointComplete.LastOpID = last
	return []any{first, data, done}, nil
}

// users are the subjects of the tokens that the device presented.
func (p *powerSync) users() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.subjects))
}
