package apply

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/service/timing"
)

// askEvery is how often Postgres is asked what it runs for slow round trips.
const askEvery = timing.Slow / 2

// askTimeout bounds a question, and the connecting before it.
const askTimeout = 2 * time.Second

// watcher finds the slow statements of traced requests. The answers of a round trip arrive
// together, so they do not tell. But Postgres tells another connection which statement a
// backend runs, and since when. It is asked while a traced round trip takes longer than
// timing.Slow: one question for all of them, again and again until they are over.
type watcher struct {
	db *pgxpool.Pool

	mu     sync.Mutex
	slow   map[*trip]bool // the round trips that Postgres is asked about
	asking bool           // a goroutine asks, until slow is empty
}

// FindSlowStatements has traces include the slow statements. Postgres is asked for them on
// connections of db, of which one is enough, so that no upload waits for one. It must be
// called before the first upload.
func (a *Applier) FindSlowStatements(db *pgxpool.Pool) {
	a.watcher = &watcher{db: db, slow: map[*trip]bool{}}
}

// sighting is what a backend was seen to run.
type sighting struct {
	PID     uint32
	At      time.Time // by the clock of Postgres, as is Since
	Since   time.Time // when the statement began
	Query   string    // its text, of which Postgres keeps the beginning
	Commits bool      // it is over, and is being committed
}

// lookAtBackends leaves out those that wait for Postern. As the login role it sees the texts
// of the login role's own sessions.
const lookAtBackends = `select pid, clock_timestamp(), query_start, query, coalesce(lower(wait_event) in ('syncrep', 'walsync'), false)
from pg_catalog.pg_stat_activity where pid = any($1) and state = 'active' and wait_event_type is distinct from 'Client'`

func (w *watcher) run() {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for w.ask() {
		<-ticker.C
	}
}

// ask asks once. It reports whether a round trip is left to ask about. If Postgres does not
// answer, none is.
func (w *watcher) ask() (more bool) {
	trips, pids := w.backends()
	if trips == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	rows, _ := w.db.Query(ctx, lookAtBackends, pids)
	seen, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sighting])
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		clear(w.slow)
		w.asking = false
		return false
	}
	for _, s := range seen {
		if t := trips[s.PID]; w.slow[t] {
			t.saw(s)
		}
	}
	return true
}

// backends are those that Postgres is asked about; nil if no round trip is left.
func (w *watcher) backends() (trips map[uint32]*trip, pids []uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asking = len(w.slow) > 0; !w.asking {
		return nil, nil
	}
	trips = map[uint32]*trip{}
	for t := range w.slow {
		if pid := t.backend.Load(); pid != 0 {
			trips[pid], pids = t, append(pids, pid)
		}
	}
	return trips, pids
}

// trip is a round trip of a traced request.
type trip struct {
	*watcher
	timer   *time.Timer
	backend *atomic.Uint32 // its process id; 0 until it is known
	named   *statements
	steps   []step
	kept    *timing.Kept
	began   time.Duration

	// The watcher's mutex guards these, and the statements that are kept.
	over    bool
	since   time.Time        // of the latest sighting
	current timing.Statement // that was seen last; To is when that was
}

// watch has the slow statements of a round trip found, if its request is traced. The caller
// must call end.
func (a *attempt) watch(named *statements, steps []step) *trip {
	kept := a.laps.Kept()
	if kept == nil || a.watcher == nil {
		return nil
	}
	t := &trip{watcher: a.watcher, backend: &a.backend, named: named, steps: steps, kept: kept, began: kept.Now()}
	t.timer = time.AfterFunc(timing.Slow, t.isSlow)
	return t
}

// isSlow has Postgres asked about the round trip from now on.
func (t *trip) isSlow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.slow[t] = true
	if !t.asking {
		t.asking = true
		go t.run()
	}
}

// end ends the round trip. Its connection may be another request's afterwards.
func (t *trip) end() {
	if t == nil || t.timer.Stop() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	delete(t.slow, t)
	t.endCurrent(t.kept.Now())
}

// saw adds a sighting. What was seen before it has ended when this began.
func (t *trip) saw(s sighting) {
	now := t.kept.Now()
	seen := timing.Statement{From: max(t.began, now-s.At.Sub(s.Since)), To: now}
	if step := t.stepOf(s.Query); s.Commits {
		seen.Operation = kindNames[commit]
	} else if step != nil {
		seen.Operation, seen.Table = step.does(), step.table()
	}
	if t.since.Equal(s.Since) && t.current.Operation == seen.Operation {
		t.current.To = now
		return
	}
	t.endCurrent(seen.From)
	seen.From = max(seen.From, t.current.To) // a commit comes after its statement
	t.since, t.current = s.Since, seen
}

// endCurrent keeps the current statement, if it had run for long when it was seen.
func (t *trip) endCurrent(at time.Duration) {
	long := t.current.Operation != "" && t.current.To-t.current.From >= timing.Slow/2
	if t.current.To = max(t.current.To, at); long {
		t.kept.Statements = append(t.kept.Statements, t.current)
	}
}

// stepOf is the step whose statement is a text, or else begins with it; nil if none does.
func (t *trip) stepOf(text string) (found *step) {
	for i := range t.steps {
		sent := t.named.text(t.steps[i].SQL)
		if sent == text {
			return &t.steps[i]
		}
		if found == nil && strings.HasPrefix(sent, text) {
			found = &t.steps[i]
		}
	}
	return found
}

// findBackend finds out which backend the attempt has, if its request is traced. Behind a
// pooler only the backend knows. So it is asked in the first step, and answers at once.
func (a *attempt) findBackend() {
	if a.laps.Kept() == nil || a.watcher == nil {
		return
	}
	if isDirect(a.conn.PgConn()) {
		a.backend.Store(a.conn.PgConn().PID())
		return
	}
	ask := ours(session, `select pg_backend_pid()`)
	ask.atOnce = true
	ask.save = func(row [][]byte) {
		pid, _ := strconv.ParseUint(string(row[0]), 10, 32)
		a.backend.Store(uint32(pid))
	}
	a.steps = slices.Insert(a.steps, 0, ask)
}
