// Package timing measures where the time of an upload goes: phases that follow each
// other, each from the end of the one before. It knows nothing of what happens in them.
//
// Metrics and the decision log need how long each phase took. A trace needs when, so its
// upload has the laps kept, too.
package timing

import "time"

// Phase is a step of an upload. A phase may happen several times in one upload.
type Phase byte

// The phases, in the order in which they begin.
const (
	Token    Phase = iota // verifying it
	Body                  // reading it from the device
	Decode                // JSON becomes operations
	Plan                  // the rules, and the statements of the operations
	Pool                  // waiting for a database connection
	Database              // the round trips to it
	Retry                 // pausing before another attempt, and waiting for a turn to wait for a lock
	Answer                // the results become JSON
	phases
)

var names = [phases]string{"token", "body", "decode", "plan", "pool", "database", "retry", "answer"}

func (p Phase) String() string { return names[p] }

// Phases are all of them.
func Phases() []Phase { return []Phase{Token, Body, Decode, Plan, Pool, Database, Retry, Answer} }

// Slow is how long a round trip takes at least to have its slow statements kept.
const Slow = 100 * time.Millisecond

// maxKept bounds the laps that are kept of one upload.
const maxKept = 500

// Laps are the times of one upload. nil measures nothing. They are not safe for
// concurrent use.
type Laps struct {
	began time.Time
	last  time.Duration // when the last phase ended, since the beginning
	took  [phases]time.Duration
	kept  *Kept // nil if they are not kept
}

// Kept are the laps of an upload one by one, in their order.
type Kept struct {
	Began      time.Time
	Laps       []Lap
	Statements []Statement // the slow ones
}

// Lap is one time of a phase.
type Lap struct {
	Phase    Phase
	From, To time.Duration // since the upload began
}

// Statement is what the database did for a long time within a lap.
type Statement struct {
	Operation string // such as insert; never SQL, which may have values
	Table     string // such as public.lists; empty if there is none
	From, To  time.Duration
}

// Start begins an upload's first phase.
func Start() *Laps { return &Laps{began: time.Now()} }

// End adds the time since the end of the phase before to a phase, and returns it.
func (l *Laps) End(p Phase) (took time.Duration) {
	if l == nil {
		return 0
	}
	now := time.Since(l.began)
	took = now - l.last
	l.took[p] += took
	l.kept.add(Lap{p, l.last, now})
	l.last = now
	return took
}

// Keep has the laps kept from now on.
func (l *Laps) Keep() { l.kept = &Kept{Began: l.began} }

// Kept are the laps so far; nil if they are not kept.
func (l *Laps) Kept() *Kept {
	if l == nil {
		return nil
	}
	return l.kept
}

// add joins a lap with the one before if they are of one phase.
func (k *Kept) add(lap Lap) {
	switch {
	case k == nil:
	case len(k.Laps) > 0 && k.Laps[len(k.Laps)-1].Phase == lap.Phase:
		k.Laps[len(k.Laps)-1].To = lap.To
	case len(k.Laps) < maxKept:
		k.Laps = append(k.Laps, lap)
	}
}

// Now is the time since the upload began, for its statements.
func (k *Kept) Now() time.Duration { return time.Since(k.Began) }

// Took is how long a phase took so far; 0 if it has not happened.
func (l *Laps) Took(p Phase) time.Duration { return l.took[p] }

// Total is how long all phases took so far.
func (l *Laps) Total() time.Duration { return l.last }
