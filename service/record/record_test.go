package record

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"postern/service/identity"
	"postern/service/ledger"
	"postern/service/upload"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	alice = identity.Identity{Issuer: "i", Subject: "alice", Role: "authenticated", Claims: jsontext.Value(`{"sub":"alice"}`)}
	noon  = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
)

func write(t *testing.T, id string) []upload.Transaction {
	t.Helper()
	transaction, err := ledger.DecodeTransaction([]byte(`{"transaction_id":1,"crud":[{"op_id":1,"id":"` + id + `","op":"PUT","table":"lists","op_data":{"name":"a","json":{"b":1,"b":2}}}]}`))
	require.NoError(t, err)
	return []upload.Transaction{transaction}
}

func read(t *testing.T, path string) (ids []string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for request, err := range Read(f) {
		require.NoError(t, err)
		require.Equal(t, alice, request.Who())
		require.Equal(t, noon, request.At)
		for _, encoded := range request.Transactions {
			transaction, err := ledger.DecodeTransaction(encoded)
			require.NoError(t, err)
			require.Equal(t, write(t, transaction.Operations[0].ID)[0], transaction)
			ids = append(ids, transaction.Operations[0].ID)
		}
	}
	return ids
}

// TestFile has a file that two processes write one after the other. The first is killed
// within a line.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	r, err := Open(path, 1<<20, quiet)
	require.NoError(t, err)
	r.Record(noon, alice, "phone", write(t, "first"))
	r.Record(noon, alice, "phone", nil)
	r.Close()
	require.EqualValues(t, 1, r.Written())
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"at":"2026` + strings.Repeat("x", 100_000))
	require.NoError(t, errors.Join(err, f.Close()))
	require.Equal(t, []string{"first"}, read(t, path))

	r, err = Open(path, 1<<20, quiet)
	require.NoError(t, err)
	r.Record(noon, alice, "", write(t, "second"))
	r.Close()
	require.Equal(t, []string{"first", "second"}, read(t, path))

	require.NoError(t, os.WriteFile(path, []byte("{}\nno line of a recording\n"), 0o600))
	f, err = os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var last error
	for _, err := range Read(f) {
		last = err
	}
	require.ErrorContains(t, last, "line 2 is no recorded request")
}

func TestOthersMustNotRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no such mode")
	}
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chmod(path, 0o640))
	_, err := Open(path, 1<<20, quiet)
	require.ErrorContains(t, err, "run chmod 600 on it")
}

// TestLimit has a file that ends with the last line that fits.
func TestLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	line, err := encode(noon, alice, "", write(t, "a"))
	require.NoError(t, err)
	for range 2 { // the second process finds it full
		r, err := Open(path, int64(2*len(line)+1), quiet)
		require.NoError(t, err)
		for _, id := range []string{"a", "b", "c", "d"} {
			r.Record(noon, alice, "", write(t, id))
		}
		r.Close()
		require.EqualValues(t, 4, r.Written()+r.Dropped())
	}
	require.Equal(t, []string{"a", "b"}, read(t, path))
}

// disk is a file whose disk is full or slow.
type disk struct {
	content strings.Builder
	blocked chan struct{} // closed when it can go on; nil if it is not slow
	room    int
}

func (d *disk) Write(p []byte) (int, error) {
	if d.blocked != nil {
		<-d.blocked
	}
	n, _ := d.content.Write(p[:min(len(p), d.room)])
	d.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (d *disk) Truncate(size int64) error {
	kept := d.content.String()[:size]
	d.content.Reset()
	d.content.WriteString(kept)
	return nil
}

func (d *disk) Close() error { return nil }

// TestDiskFull has a disk without room for the second line.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	line, err := encode(noon, alice, "", write(t, "a"))
	require.NoError(t, err)
	var log strings.Builder
	full := &disk{room: len(line) + 10}
	r := start(full, 0, 1<<20, slog.New(slog.NewTextHandler(&log, nil)))
	for range 5 {
		r.Record(noon, alice, "", write(t, "a"))
	}
	r.Close()
	require.Equal(t, string(line), full.content.String(), "whole lines")
	require.EqualValues(t, 1, r.Written())
	require.EqualValues(t, 4, r.Dropped())
	require.Equal(t, 1, strings.Count(log.String(), "recording has ended"))
}

// TestSlowDisk has a disk that takes nothing. More than may wait is dropped at once.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	slow := &disk{blocked: make(chan struct{}), room: 1 << 30}
	r := start(slow, 0, 1<<30, quiet)
	large := write(t, strings.Repeat("x", maxWaiting/4))
	for range 20 {
		r.Record(noon, alice, "", large)
	}
	require.Positive(t, r.Dropped())
	require.LessOrEqual(t, r.waiting.Load(), int64(maxWaiting+maxWaiting/2), "at most a line more")
	close(slow.blocked)
	r.Close()
	require.EqualValues(t, 20, r.Written()+r.Dropped())
	require.Positive(t, r.Written())
}
