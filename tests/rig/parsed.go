package rig

import "encoding/binary"

// parsed counts the Parse messages among what one connection sends to Postgres, without
// TLS: https://www.postgresql.org/docs/current/protocol-message-formats.html.
type parsed struct {
	begun  bool   // the first message has no type
	header []byte // of the message that has just begun: its type and length
	left   int    // bytes of the message after its header
}

// add takes the next bytes and returns how many Parse messages began in them.
func (p *parsed) add(chunk []byte) (n int64) {
	for len(chunk) > 0 {
		if p.left > 0 {
			skipped := min(p.left, len(chunk))
			p.left, chunk = p.left-skipped, chunk[skipped:]
			continue
		}
		p.header, chunk = append(p.header, chunk[0]), chunk[1:]
		if size := len(p.header); p.begun && size == 5 || !p.begun && size == 4 {
			if p.begun && p.header[0] == 'P' {
				n++
			}
			p.left = int(binary.BigEndian.Uint32(p.header[size-4:])) - 4
			p.begun, p.header = true, p.header[:0]
		}
	}
	return n
}
