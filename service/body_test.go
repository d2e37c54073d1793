package service

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"
)

// serveBodies answers each request with the length of its body, or with the error. A
// request to /hold waits for let before it gives its bytes back.
func serveBodies(t *testing.T, b *bodies, let <-chan struct{}) (address string) {
	t.Helper()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: b.limit})
	app.Post("/*", func(c *fiber.Ctx) error {
		body, release, err := b.read(c)
		defer release()
		drain(c)
		if err != nil {
			var large *tooLarge
			if errors.As(err, &large) {
				return c.Status(fiber.StatusRequestEntityTooLarge).SendString(err.Error())
			}
			return err
		}
		if c.Path() == "/hold" {
			<-let
		}
		return c.SendString(strconv.Itoa(len(body)))
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(listener) }()
	t.Cleanup(func() { require.NoError(t, app.Shutdown()) })
	return listener.Addr().String()
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	address := serveBodies(t, &bodies{budget: semaphore.NewWeighted(4 * limit), limit: limit}, nil)
	for _, test := range []struct {
		name    string
		length  int
		chunked bool
		status  int
		want    string
	}{
		{"Empty", 0, false, http.StatusOK, "0"},
		{"One", 1, false, http.StatusOK, "1"},
		{"AChunkOfTheBuffer", firstChunk, false, http.StatusOK, "16384"},
		{"TheLimit", limit, false, http.StatusOK, "1048576"},
		{"OneMore", limit + 1, false, http.StatusRequestEntityTooLarge, "1048577 bytes long, more than the limit of 1048576 bytes"},
		{"EmptyAndChunked", 0, true, http.StatusOK, "0"},
		{"OneAndChunked", 1, true, http.StatusOK, "1"},
		{"TheLimitAndChunked", limit, true, http.StatusOK, "1048576"},
		{"OneMoreAndChunked", limit + 1, true, http.StatusRequestEntityTooLarge, "longer than the limit of 1048576 bytes"},
		{"FarMore", 8 * limit, true, http.StatusRequestEntityTooLarge, "POSTERN_BODY_LIMIT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var body io.Reader = bytes.NewReader(make([]byte, test.length))
			if test.chunked {
				body = io.MultiReader(body) // of a length that the client does not know
			}
			response, err := http.Post("http://"+address+"/", "application/json", body)
			require.NoError(t, err)
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, response.StatusCode, string(answer))
			require.Contains(t, string(answer), test.want)
		})
	}
}

// posting posts bodies of a length to paths of a server, and returns the answer's status, or
// 0 if there is none.
func posting(address string) func(path string, length int) int {
	return func(path string, length int) int {
		response, err := http.Post("http://"+address+path, "application/json", bytes.NewReader(make([]byte, length)))
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
}

// TestTooManyBodies has one body take the whole budget, then give it back.
func TestTooManyBodies(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	let, b := make(chan struct{}), &bodies{budget: semaphore.NewWeighted(limit), limit: limit}
	post := posting(serveBodies(t, b, let))
	held := make(chan int)
	go func() { held <- post("/hold", limit) }()
	require.Eventually(t, func() bool {
		if b.budget.TryAcquire(1) {
			b.budget.Release(1)
			return false
		}
		return true
	}, 10e9, 1e6)
	require.Equal(t, http.StatusServiceUnavailable, post("/", 1))
	close(let)
	require.Equal(t, http.StatusOK, <-held)
	require.Eventually(t, func() bool { return post("/", limit) == http.StatusOK }, 10e9, 1e6)
}

// TestManyRequests has as many requests under way as the budget allows. Each takes a part
// of it, however short its body is.
func TestManyRequests(t *testing.T) {
	t.Parallel()
	const least, limit, many = 1000, 2000, 5
	let := make(chan struct{})
	b := &bodies{budget: semaphore.NewWeighted(many * least), least: least, limit: limit}
	post := posting(serveBodies(t, b, let))
	held := make(chan int)
	for range many {
		go func() { held <- post("/hold", 1) }()
	}
	require.Eventually(t, func() bool { return b.used.Load() == many*least }, 10e9, 1e6)
	require.Equal(t, http.StatusServiceUnavailable, post("/", 1))
	close(let)
	for range many {
		require.Equal(t, http.StatusOK, <-held)
	}
	require.Eventually(t, func() bool { return b.used.Load() == 0 }, 10e9, 1e6)
	require.Equal(t, http.StatusOK, post("/", limit), "a longer body takes its length, and not more")
}

// TestManyOperations has requests of many short operations. They take more of the budget
// than their bodies, and give it back.
func TestManyOperations(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	b := &bodies{budget: semaphore.NewWeighted(limit), limit: limit}
	first, err := b.reserve(1000, 800_000)
	require.NoError(t, err)
	_, err = b.reserve(1000, 800_000)
	require.ErrorIs(t, err, errBodies)
	long, err := b.reserve(100_000, 1000)
	require.NoError(t, err, "a long body needs no more than it has")
	long()
	first()
	largest, err := b.reserve(0, 8*limit)
	require.NoError(t, err, "the largest request fits")
	_, err = b.reserve(0, 1)
	require.ErrorIs(t, err, errBodies)
	largest()
}

// TestAnAnnouncedBodyTakesNoMemory has a client send the header of a long body and its
// first bytes.
func TestAnAnnouncedBodyTakesNoMemory(t *testing.T) {
	t.Parallel()
	const limit, sent = 8 << 20, 20 << 10
	b := &bodies{budget: semaphore.NewWeighted(limit), limit: limit}
	address := serveBodies(t, b, nil)
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", limit, strings.Repeat(" ", sent))
	require.NoError(t, err)
	taken := func(n int64) bool { // whether n bytes or more of the budget are
		if b.budget.TryAcquire(limit - n + 1) {
			b.budget.Release(limit - n + 1)
			return false
		}
		return true
	}
	require.Eventually(t, func() bool { return taken(sent) }, 10e9, 1e6)
	require.False(t, taken(4*sent))
	_, err = fmt.Fprint(conn, strings.Repeat(" ", limit-sent))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Eventually(t, func() bool { return !taken(1) }, 10e9, 1e6, "the bytes go back")
}

// TestPackedBodies has bodies with a Content-Encoding.
func TestPackedBodies(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	address := serveBodies(t, &bodies{budget: semaphore.NewWeighted(4 * limit), limit: limit}, nil)
	pack := func(with func(io.Writer) io.WriteCloser, content []byte) []byte {
		var packed bytes.Buffer
		w := with(&packed)
		_, err := w.Write(content)
		require.NoError(t, errors.Join(err, w.Close()))
		return packed.Bytes()
	}
	gzipped := func(content []byte) []byte {
		return pack(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, content)
	}
	zlibbed := func(content []byte) []byte {
		return pack(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, content)
	}
	deflated := func(content []byte) []byte {
		return pack(func(w io.Writer) io.WriteCloser { return must(flate.NewWriter(w, flate.BestSpeed)) }, content)
	}
	zeros := func(n int) []byte { return make([]byte, n) }
	some := gzipped(zeros(100_000))
	for _, test := range []struct {
		name, encoding string
		body           []byte
		status         int
		want           string
	}{
		{"Gzip", "gzip", some, http.StatusOK, "100000"},
		{"GzipInCapitals", "GZIP", some, http.StatusOK, "100000"},
		{"XGzip", "x-gzip", some, http.StatusOK, "100000"},
		{"GzipOfTheLimit", "gzip", gzipped(zeros(limit)), http.StatusOK, "1048576"},
		{"GzipOfMore", "gzip", gzipped(zeros(limit + 1)), http.StatusRequestEntityTooLarge, "longer than the limit of 1048576 bytes"},
		{"GzipBomb", "gzip", gzipped(zeros(64 * limit)), http.StatusRequestEntityTooLarge, "longer than"},
		{"GzipMembers", "gzip", slices.Concat(some, some), http.StatusOK, "200000"},
		{"GzipOfNothing", "gzip", gzipped(nil), http.StatusOK, "0"},
		{"EmptyMembersWithoutEnd", "gzip", bytes.Repeat(gzipped(nil), limit/16), http.StatusRequestEntityTooLarge, "1048576"},
		{"GzipCutOff", "gzip", some[:len(some)-10], http.StatusBadRequest, "not what its Content-Encoding says"},
		{"GzipAndMore", "gzip", append(slices.Clip(some), "more"...), http.StatusBadRequest, "not what its Content-Encoding says"},
		{"GzipWithAnotherSum", "gzip", append(slices.Clone(some[:len(some)-8]), 1, 2, 3, 4, 5, 6, 7, 8), http.StatusBadRequest, "not what its Content-Encoding says"},
		{"NotGzip", "gzip", []byte(`{"transactions":[]}`), http.StatusBadRequest, "not what its Content-Encoding says"},
		{"NothingAsGzip", "gzip", []byte{}, http.StatusBadRequest, "not what its Content-Encoding says"},
		{"Zlib", "deflate", zlibbed(zeros(100_000)), http.StatusOK, "100000"},
		{"Deflate", "deflate", deflated(zeros(100_000)), http.StatusOK, "100000"},
		{"DeflateOfMore", "deflate", deflated(zeros(limit + 1)), http.StatusRequestEntityTooLarge, "longer than"},
		{"ZlibAndMore", "deflate", append(zlibbed(zeros(10)), "more"...), http.StatusOK, "10"},
		{"NotDeflate", "deflate", []byte(`{"transactions":[]}`), http.StatusBadRequest, "not what its Content-Encoding says"},
		{"Identity", "identity", zeros(10), http.StatusOK, "10"},
		{"Brotli", "br", zeros(10), http.StatusUnsupportedMediaType, "gzip or deflate"},
		{"Twice", "gzip, gzip", zeros(10), http.StatusUnsupportedMediaType, "gzip or deflate"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", test.name, chunked), func(t *testing.T) {
				t.Parallel()
				var body io.Reader = bytes.NewReader(test.body)
				if chunked {
					body = io.MultiReader(body)
				}
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/", body)
				require.NoError(t, err)
				request.Header.Set("Content-Encoding", test.encoding)
				response, err := http.DefaultClient.Do(request)
				require.NoError(t, err)
				defer response.Body.Close()
				answer, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.Equal(t, test.status, response.StatusCode, string(answer))
				require.Contains(t, string(answer), test.want)
				if test.status == http.StatusUnsupportedMediaType {
					require.Equal(t, "gzip, deflate", response.Header.Get("Accept-Encoding"))
				}
			})
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
