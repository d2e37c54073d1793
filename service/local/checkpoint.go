package local

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
)

// Checkpoints are what stand-ins for the PowerSync Service share: as much of its protocol
// as a client needs to take itself for connected. All rows of a user are one bucket, which
// the next checkpoint's replaces.
type Checkpoints struct {
	mu    sync.Mutex
	empty int           // how often a device has said that its queue is empty
	asked chan struct{} // closed and replaced then
}

// NewCheckpoints is before the first checkpoint.
func NewCheckpoints() *Checkpoints { return &Checkpoints{asked: make(chan struct{})} }

// ServeHTTP answers GET /write-checkpoint2.json, which a device asks for when its queue has
// run empty: what it gets from this checkpoint on has all that it uploaded.
func (c *Checkpoints) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty++
	close(c.asked)
	c.asked = make(chan struct{})
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"data":{"write_checkpoint":"%d"}}`, c.empty)
}

// Last is the number of the last write checkpoint; 0 if there is none. next is closed at
// the next one.
func (c *Checkpoints) Last() (number int, next <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.empty, c.asked
}

// SyncedRow is a row as a device gets it.
type SyncedRow struct {
	Table string `json:"object_type"`
	ID    string `json:"object_id"`
	Data  string `json:"data"` // its other columns, a JSON object
}

// SendCheckpoint sends all rows of a device to POST /sync/stream, after a write checkpoint.
// Their operations are numbered after the number given, which must be higher than those
// of other rows that were sent before.
func SendCheckpoint(w http.ResponseWriter, after int64, rows []SyncedRow, writeCheckpoint int) error {
	type operation struct {
		ID       string `json:"op_id"`
		Op       string `json:"op"`
		Checksum int    `json:"checksum"` // the client adds them up, and does not look into the rows
		SyncedRow
	}
	type bucket struct {
		Bucket   string `json:"bucket"`
		Count    int    `json:"count"`
		Checksum int    `json:"checksum"`
		Priority int    `json:"priority"`
	}
	number := func(row int) string { return strconv.FormatInt(after+int64(row), 10) }
	operations := make([]operation, len(rows))
	for i, row := range rows {
		operations[i] = operation{ID: number(i + 1), Op: "PUT", SyncedRow: row}
	}
	name, last := fmt.Sprintf("rows[%d]", after), number(len(rows))
	checkpoint := map[string]any{"last_op_id": last, "buckets": []bucket{{Bucket: name, Count: len(rows), Priority: 3}}}
	if writeCheckpoint > 0 {
		checkpoint["write_checkpoint"] = strconv.Itoa(writeCheckpoint)
	}
	for _, line := range []any{
		map[string]any{"checkpoint": checkpoint},
		map[string]any{"data": map[string]any{"bucket": name, "data": operations}},
		map[string]any{"checkpoint_complete": map[string]any{"last_op_id": last}},
	} {
		if err := json.MarshalWrite(w, line, json.Deterministic(true)); err != nil {
			return err
		}
		if _, err := w.Write([]byte("\n")); err != nil {
			return err
		}
	}
	return http.NewResponseController(w).Flush()
}
