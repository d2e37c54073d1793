package service

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// TestBrokenStream connects to a server that announces a message of a gigabyte. No memory
// is taken for it.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			var length [4]byte
			_, _ = io.ReadFull(conn, length[:]) // of the startup message
			_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:]))-4)
			_, _ = conn.Write(append([]byte{'R'}, 0x3f, 0xff, 0xff, 0xff))
			_, _ = io.Copy(io.Discard, conn) // until it is closed
			_ = conn.Close()
		}
	}()
	db, err := Connect("postgres://u:p@" + listener.Addr().String() + "/d?sslmode=disable")
	require.NoError(t, err)
	defer db.Close()
	var tooLong *pgproto3.ExceededMaxBodyLenErr
	require.ErrorAs(t, db.Ping(t.Context()), &tooLong)
	require.Equal(t, maxAnswer, tooLong.MaxExpectedBodyLen)
}
