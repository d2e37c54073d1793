package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	barEvery  = 200 * time.Millisecond // on a terminal
	lineEvery = 10 * time.Second       // in a log
	barWidth  = 30

	unwrapped, wrapped = "\x1b[?7l", "\x1b[?7h" // the terminal cuts a line that is longer than it is wide
)

// progress shows how far a long command has come: a bar on a terminal, or else a line at
// times. It is safe for concurrent use.
type progress struct {
	out      io.Writer
	what     string        // that is counted: "writes replayed"
	total    atomic.Int64  // 0 if it is not known yet
	doing    func() string // what it does now, in place of the time that is left; nil if that can be told
	terminal bool
	began    time.Time
	done     atomic.Int64
	mu       sync.Mutex // of what is written
	drawn    bool       // the bar is in the line
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// newProgress begins. The caller must call end.
func newProgress(out io.Writer, what string, total int) *progress {
	return startProgress(out, what, total, nil)
}

func startProgress(out io.Writer, what string, total int, doing func() string) *progress {
	p := &progress{out: out, what: what, doing: doing, terminal: isTerminal(out), began: time.Now(), stop: make(chan struct{})}
	p.set(0, total)
	p.stopped.Go(p.run)
	return p
}

// finishing says, once ctx has ended, that the command finishes what has begun. The
// caller must call the result before end.
func (p *progress) finishing(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		p.print(func() { fmt.Fprintln(p.out, "finishing what has begun; Ctrl-C again ends it at once") })
	})
}

func (p *progress) run() {
	every := lineEvery
	if p.terminal {
		every = barEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.show(now.Sub(p.began))
		case <-p.stop:
			return
		}
	}
}

// add counts what is done.
func (p *progress) add(n int) { p.done.Add(int64(n)) }

// set says what is done, of how much.
func (p *progress) set(done, total int) {
	p.done.Store(int64(done))
	p.total.Store(int64(total))
}

// print writes what must not stand in the bar's line.
func (p *progress) print(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	write()
}

// end removes the bar.
func (p *progress) end() {
	close(p.stop)
	p.stopped.Wait()
	p.print(func() {})
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.drawn = false
}

func (p *progress) show(took time.Duration) {
	doing := ""
	if p.doing != nil {
		doing = p.doing()
	}
	line := p.line(int(p.done.Load()), int(p.total.Load()), doing, took.Round(time.Second))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	if p.drawn = p.terminal; p.drawn {
		fmt.Fprint(p.out, unwrapped+line+wrapped)
	} else {
		fmt.Fprintln(p.out, line)
	}
}

// line is like "120 of 3000 writes replayed, 4%, about 2m0s left", or "3 of 9 migrations,
// 33%, receipts: scanning table 43%".
func (p *progress) line(done, total int, doing string, took time.Duration) string {
	text := p.what
	if total > 0 {
		text = fmt.Sprintf("%d of %d %s, %d%%", done, total, p.what, 100*done/total)
	}
	switch {
	case doing != "":
		text += ", " + doing
	case total == 0 || p.doing != nil:
		text += fmt.Sprintf(", %s so far", took)
	case done > 0 && done < total:
		text += fmt.Sprintf(", about %s left", time.Duration(float64(took)/float64(done)*float64(total-done)).Round(time.Second))
	}
	if p.terminal && total > 0 {
		full := min(barWidth*done/total, barWidth)
		text = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + text
	}
	return text
}

// errInterrupted says that a command was ended by Ctrl-C or SIGTERM, and how to go on.
func errInterrupted(format string, args ...any) error {
	return errors.New("interrupted: " + fmt.Sprintf(format, args...))
}

// isTerminal reports whether people read the output on a terminal.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && file.Name() != os.DevNull
}
