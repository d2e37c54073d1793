package service

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// acceptedEncodings are those of a body, as RFC 9110 section 8.4.1 names them.
const acceptedEncodings = "gzip, deflate"

// unpack returns a reader of a body whose Content-Encoding is one of acceptedEncodings or
// none.
func unpack(c *fiber.Ctx, sent io.Reader) (io.Reader, error) {
	named := bytes.Join(c.Request().Header.PeekAll(fiber.HeaderContentEncoding), []byte(","))
	switch strings.ToLower(string(bytes.TrimSpace(named))) {
	case "", "identity":
		return sent, nil
	case "gzip", "x-gzip":
		return gzip.NewReader(bufio.NewReader(sent))
	case "deflate":
		packed := bufio.NewReader(sent)
		if start, err := packed.Peek(2); err == nil && isZlib(start) {
			return zlib.NewReader(packed)
		}
		return flate.NewReader(packed), nil // some clients send it without zlib's header
	}
	c.Set(fiber.HeaderAcceptEncoding, acceptedEncodings)
	return nil, fiber.NewError(fiber.StatusUnsupportedMediaType, "send the body as it is, or with one Content-Encoding: gzip or deflate")
}

// isZlib reports whether these are the first two bytes of a zlib stream (RFC 1950).
func isZlib(start []byte) bool {
	return start[0]&0x0f == 8 && (int(start[0])<<8|int(start[1]))%31 == 0
}

// source is a body as it arrives. It gives up after a number of bytes, because a packed
// body may have any number of them with nothing in them.
type source struct {
	io.Reader
	left int
	err  error // that it ended with
}

func (s *source) Read(p []byte) (n int, err error) {
	if s.left <= 0 && s.err == nil {
		s.err = errPackedTooLarge
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err = s.Reader.Read(p[:min(len(p), s.left)])
	s.left -= n
	if err != nil {
		s.err = err
	}
	return n, err
}

var errPackedTooLarge = errors.New("the packed body is over the limit")

// explain tells what is wrong with a body after an error of unpacking it.
func (s *source) explain(err error, limit int) error {
	switch known := (*fiber.Error)(nil); {
	case errors.As(err, &known):
		return err
	case errors.Is(s.err, errPackedTooLarge):
		return &tooLarge{-1, limit}
	case s.err != nil && !errors.Is(s.err, io.EOF):
		return fiber.NewError(fiber.StatusRequestTimeout, "the body did not arrive in time or was cut off: send the request again")
	}
	return fiber.NewError(fiber.StatusBadRequest, "the body is not what its Content-Encoding says, or is cut off: compress it again")
}
