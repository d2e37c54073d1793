package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/identity"
)

// Request is a line of the file: who sent which transactions. The token is not in it.
type Request struct {
	At           time.Time        `json:"at"`
	Issuer       string           `json:"issuer"`
	Subject      string           `json:"subject"`
	Role         string           `json:"role"`
	Claims       jsontext.Value   `json:"claims"`
	ClientID     string           `json:"client_id,omitzero"`
	Transactions []jsontext.Value `json:"transactions"` // see ledger.DecodeTransaction
}

// Who is the identity that sent the request, with the fields that policies need.
func (r Request) Who() identity.Identity {
	return identity.Identity{Issuer: r.Issuer, Subject: r.Subject, Role: r.Role, Claims: r.Claims}
}

// Read returns the requests of a file with their line numbers, from 1. It holds one of
// them in memory. An error ends it.
func Read(in io.Reader) iter.Seq2[Request, error] {
	return func(yield func(Request, error) bool) {
		lines := bufio.NewReader(in)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return // what follows the last whole line was cut off
			}
			var r Request
			if err == nil {
				err = json.Unmarshal(line, &r, jsontext.AllowDuplicateNames(true))
			}
			if err != nil {
				yield(r, fmt.Errorf("line %d is no recorded request: %w", n, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}
