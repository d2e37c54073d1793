package service

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/timing"
	"postern/service/upload"
)

// Where decisions go, besides a file, and how they name a user.
const (
	decisionsToStdout = "stdout"
	subjectPlain      = "plain"
	subjectHashed     = "hashed"
	subjectOmitted    = "omitted"
)

// maxDecisionNames is how many tables of a transaction a line names, and how many rules.
const maxDecisionNames = 20

// decisions is the decision log: a line of JSON for each transaction that was answered.
// The lines of a request are one write. It is safe for concurrent use.
type decisions struct {
	path    string // empty for standard output
	subject string
	logger  *slog.Logger
	lost    atomic.Int64 // lines that could not be written

	mu     sync.Mutex
	file   *os.File
	failed bool // the last write has failed
}

// DecisionFile is the file of the decision log; empty if there is none.
func (c Config) DecisionFile() string {
	if c.DecisionLog == decisionsToStdout {
		return ""
	}
	return c.DecisionLog
}

// openDecisions returns nil if there is no decision log.
func openDecisions(cfg Config, logger *slog.Logger) (*decisions, error) {
	d := &decisions{path: cfg.DecisionFile(), subject: cfg.DecisionSubject, logger: logger}
	switch {
	case cfg.DecisionLog == "":
		return nil, nil
	case d.path == "":
		d.file = os.Stdout
	}
	if err := d.reopen(); err != nil {
		return nil, fmt.Errorf("POSTERN_DECISION_LOG: %w: create its folder, and let this process write there", err)
	}
	return d, nil
}

// reopen begins the file anew if a program such as logrotate has renamed it. If that
// fails, the lines go on into the renamed file.
func (d *decisions) reopen() error {
	if d == nil || d.path == "" {
		return nil
	}
	file, err := os.OpenFile(d.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		_ = d.file.Close() // what was written is in it
	}
	d.file = file
	return nil
}

func (d *decisions) close() {
	if d != nil && d.path != "" {
		_ = d.file.Close()
	}
}

// lostLines is how many lines could not be written.
func (d *decisions) lostLines() int64 {
	if d == nil {
		return 0
	}
	return d.lost.Load()
}

// decided is what the transactions of a request have in common.
type decided struct {
	requestID string
	traceID   string // empty if the request is not traced
	subject   string
	laps      *timing.Laps
}

// write adds a line for each transaction.
func (d *decisions) write(of decided, batch upload.Batch, results []upload.Result) {
	if d == nil {
		return
	}
	head, tail := d.head(of), appendTimes(nil, of.laps)
	lines := make([]byte, 0, len(results)*(len(head)+len(tail)+200))
	for i, result := range results {
		lines = append(lines, head...)
		lines = appendDecision(lines, i, batch.Transactions[i], result)
		lines = append(lines, tail...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.file.Write(lines)
	if err != nil {
		d.lost.Add(int64(len(results)))
	}
	if err != nil && !d.failed {
		d.logger.Error("cannot write the decision log; the next such line follows after a write that succeeds", "error", err)
	}
	d.failed = err != nil
}

// head is how each line of a request begins.
func (d *decisions) head(of decided) []byte {
	line := append(make([]byte, 0, 200), `{"time":"`...)
	line = time.Now().UTC().AppendFormat(line, "2006-01-02T15:04:05.000000Z07:00")
	line = appendText(append(line, `","request_id":`...), of.requestID)
	if of.traceID != "" {
		line = appendText(append(line, `,"trace_id":`...), of.traceID)
	}
	switch d.subject {
	case subjectPlain:
		line = appendText(append(line, `,"subject":`...), of.subject)
	case subjectHashed:
		line = appendText(append(line, `,"subject":`...), hashedSubject(of.subject))
	}
	return line
}

// hashedSubject is what `printf %s SUB | sha256sum | cut -c1-32` prints.
func hashedSubject(subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return hex.EncodeToString(sum[:16])
}

func appendDecision(line []byte, index int, t upload.Transaction, result upload.Result) []byte {
	line = appendNumber(append(line, `,"transaction":`...), index)
	if t.ID != "" {
		line = appendText(append(line, `,"transaction_id":`...), t.ID)
	}
	line = appendNumber(append(line, `,"operations":`...), len(t.Operations))
	line = appendTexts(append(line, `,"tables":`...), tablesOf(t))
	line = appendText(append(line, `,"outcome":`...), string(result.Status))
	if failed := result.FailedOperation; failed != nil {
		line = appendText(append(line, `,"code":`...), string(failed.ErrorCode))
		if failed.OperationIndex != nil {
			line = appendNumber(append(line, `,"operation":`...), *failed.OperationIndex)
		}
	}
	if result.Decision.Rule != "" {
		line = appendText(append(line, `,"rule":`...), result.Decision.Rule)
	}
	if rules := result.Decision.WouldReject; len(rules) > 0 {
		line = appendTexts(append(line, `,"would_reject":`...), rules[:min(len(rules), maxDecisionNames)])
	}
	if result.Decision.Repeated {
		line = append(line, `,"repeated":true`...)
	}
	line = appendNumber(append(line, `,"rows":`...), result.Decision.Rows)
	line = appendNumber(append(line, `,"dropped":`...), result.Decision.Dropped)
	return appendNumber(append(line, `,"merged":`...), result.Decision.Merged)
}

// tablesOf are the client's names of the tables that a transaction writes, each once, and
// the first of them if there are many.
func tablesOf(t upload.Transaction) (tables []string) {
	last := ""
	for _, o := range t.Operations {
		if o.Table == last || slices.Contains(tables, o.Table) {
			continue
		}
		if len(tables) == maxDecisionNames {
			break
		}
		last = o.Table
		tables = append(tables, last)
	}
	return tables
}

// appendTimes ends a line with the phases of its request.
func appendTimes(line []byte, laps *timing.Laps) []byte {
	line = append(line, `,"ms":{"total":`...)
	line = appendMilliseconds(line, laps.Total())
	for _, phase := range timing.Phases() {
		if took := laps.Took(phase); took > 0 {
			line = append(append(append(line, `,"`...), phase.String()...), `":`...)
			line = appendMilliseconds(line, took)
		}
	}
	return append(line, "}}\n"...)
}

func appendMilliseconds(line []byte, d time.Duration) []byte {
	return strconv.AppendFloat(line, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func appendNumber(line []byte, n int) []byte { return strconv.AppendInt(line, int64(n), 10) }

func appendTexts(line []byte, texts []string) []byte {
	line = append(line, '[')
	for i, text := range texts {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendText(line, text)
	}
	return append(line, ']')
}

// appendText adds a string of JSON, cut to 100 characters. It replaces what is no UTF-8.
func appendText(line []byte, text string) []byte {
	line, _ = jsontext.AppendQuote(line, upload.Short(text))
	return line
}
