package rig

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Recorder keeps what one connection sends to Postgres: see ProxyOptions.Requests.
type Recorder struct {
	mu   sync.Mutex
	sent []byte
}

func (r *Recorder) Write(chunk []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, chunk...)
	return len(chunk), nil
}

// Reset forgets what was sent so far.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = nil
}

// Messages returns the messages since the last time: their types, followed by the
// statement if it is parsed, and by as many x as there are bytes if not. See
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
func (r *Recorder) Messages(t testing.TB) (messages []string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for rest := r.sent; len(rest) > 0; {
		require.Greater(t, len(rest), 4)
		if rest[0] == 0 { // a connection begins with a message that has no type
			rest = rest[binary.BigEndian.Uint32(rest):]
			continue
		}
		kind, length := string(rest[0]), int(binary.BigEndian.Uint32(rest[1:]))
		require.GreaterOrEqual(t, len(rest), 1+length)
		content := string(rest[5 : 1+length])
		if kind == "P" {
			messages = append(messages, kind+" "+strings.Split(content, "\x00")[1])
		} else {
			messages = append(messages, kind+" "+strings.Repeat("x", len(content)))
		}
		rest = rest[1+length:]
	}
	r.sent = nil
	return messages
}

// Parsed returns the statements that Postgres was asked to parse since the last time.
func (r *Recorder) Parsed(t testing.TB) (statements []string) {
	t.Helper()
	for _, message := range r.Messages(t) {
		if sql, ok := strings.CutPrefix(message, "P "); ok {
			statements = append(statements, sql)
		}
	}
	return statements
}
