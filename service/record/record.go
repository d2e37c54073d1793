// Package record keeps applied requests in a file, one JSON object a line, so that changed
// policies can be tried on them: postern serve --record and postern policy diff. It never
// fails or delays a request: what does not fit is left out.
package record

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

const (
	maxWaiting   = 8 << 20 // bytes of lines that wait for the disk
	maxLines     = 10_000  // likewise
	closeTimeout = 3 * time.Second
)

// file is what a Recorder needs of an *os.File.
type file interface {
	io.WriteCloser
	Truncate(size int64) error
}

// Recorder writes requests to a file until it has a number of bytes, or cannot be
// written. It is safe for concurrent use.
type Recorder struct {
	file        file
	size, limit int64 // bytes; run alone uses them
	logger      *slog.Logger
	lines       chan []byte
	waiting     atomic.Int64 // bytes of them
	ended       atomic.Bool  // nothing more is written
	written     atomic.Int64 // requests
	dropped     atomic.Int64
	closing     sync.Once
	stop, done  chan struct{}
}

// Open appends to a file, or creates it for its owner alone. The caller must call Close.
func Open(path string, limit int64, logger *slog.Logger) (*Recorder, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	size, err := wholeLines(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return start(f, size, limit, logger), nil
}

// wholeLines cuts off a line that a killed process has not finished, and returns the
// file's size.
func wholeLines(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return 0, fmt.Errorf("others may read it, and requests have users' data: run chmod 600 on it, or name another file")
	}
	chunk := make([]byte, 64<<10)
	for size = info.Size(); size > 0; {
		part := chunk[:min(size, int64(len(chunk)))]
		if _, err := f.ReadAt(part, size-int64(len(part))); err != nil {
			return 0, err
		}
		if end := bytes.LastIndexByte(part, '\n') + 1; end > 0 {
			size -= int64(len(part) - end)
			break
		}
		size -= int64(len(part))
	}
	return size, f.Truncate(size)
}

func start(f file, size, limit int64, logger *slog.Logger) *Recorder {
	r := &Recorder{file: f, size: size, limit: limit, logger: logger, lines: make(chan []byte, maxLines), stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

// Close writes what waits, for as long as closeTimeout, and closes the file.
func (r *Recorder) Close() {
	r.closing.Do(func() { close(r.stop) })
	select {
	case <-r.done:
	case <-time.After(closeTimeout):
		r.logger.Warn("the last recorded requests are not written, because the disk is slow")
	}
}

// Written counts the requests that are in the file since Open, and Dropped those that are
// not.
func (r *Recorder) Written() int64 { return r.written.Load() }

// Dropped is as Written says.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Record takes a request. It does not wait for the disk.
func (r *Recorder) Record(at time.Time, who identity.Identity, clientID string, transactions []upload.Transaction) {
	if len(transactions) == 0 {
		return
	}
	if r.ended.Load() || r.waiting.Load() > maxWaiting {
		r.dropped.Add(1)
		return
	}
	line, err := encode(at, who, clientID, transactions)
	if err != nil {
		r.dropped.Add(1)
		r.logger.Warn("a request cannot be recorded", "error", err)
		return
	}
	r.waiting.Add(int64(len(line)))
	select {
	case r.lines <- line:
	default:
		r.waiting.Add(-int64(len(line)))
		r.dropped.Add(1)
	}
}

func encode(at time.Time, who identity.Identity, clientID string, transactions []upload.Transaction) ([]byte, error) {
	request := Request{At: at.Truncate(time.Microsecond), Issuer: who.Issuer, Subject: who.Subject, Role: who.Role, Claims: who.Claims, ClientID: clientID}
	for _, t := range transactions {
		encoded, err := ledger.EncodeTransaction(t)
		if err != nil {
			return nil, err
		}
		request.Transactions = append(request.Transactions, encoded)
	}
	line, err := json.Marshal(request, jsontext.AllowDuplicateNames(true)) // inside values
	return append(line, '\n'), err
}

// run writes the lines.
func (r *Recorder) run() {
	defer close(r.done)
	defer func() { _ = r.file.Close() }()
	for {
		select {
		case line := <-r.lines:
			r.write(line)
			continue
		default:
		}
		select {
		case line := <-r.lines:
			r.write(line)
		case <-r.stop:
			if len(r.lines) == 0 {
				r.ended.Store(true)
				return
			}
		}
	}
}

// write writes a whole line, or nothing.
func (r *Recorder) write(line []byte) {
	r.waiting.Add(-int64(len(line)))
	if r.ended.Load() {
		r.dropped.Add(1)
		return
	}
	if r.size+int64(len(line)) > r.limit {
		r.end("recording has ended, because the file has its greatest size: move it away and restart, or raise POSTERN_RECORD_LIMIT", "bytes", r.size)
		return
	}
	if _, err := r.file.Write(line); err != nil {
		r.end("recording has ended, because the file cannot be written: make room and restart", "error", err)
		_ = r.file.Truncate(r.size)
		return
	}
	r.size += int64(len(line))
	r.written.Add(1)
}

func (r *Recorder) end(message string, attributes ...any) {
	r.ended.Store(true)
	r.dropped.Add(1)
	r.logger.Error(message, attributes...)
}
