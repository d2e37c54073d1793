package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"postern/service/identity"
	"postern/service/upload"
)

// Digest identifies a transaction of one device's upload queue.
type Digest struct {
	Sum     [sha256.Size]byte
	Receipt bool // whether a receipt may stand for the transaction
}

// DigestOf covers the sender, the queue, the ids and the whole content. The same ids
// with other content are another transaction: a device sends that after its database
// was restored from a backup. Content is hashed in a canonical form, so the order of
// JSON members and the escapes in texts do not matter; numbers count digit by digit.
//
// The queue is the client id. Without one it is the token's session, unless the
// transaction is unique by itself: then a retry under a new session is the same
// transaction. README.md has the table of what each client is promised.
//
// Receipt is false if two transactions that the user meant separately could have the
// same digest: if neither the transaction nor any operation has an id, or if nothing
// names the queue and the transaction is not unique by itself.
func DigestOf(who identity.Identity, clientID string, t upload.Transaction) Digest {
	if t.Unreadable != nil {
		return digestOfBytes(who, device(who, clientID), t)
	}
	numbered := t.ID != "" || slices.ContainsFunc(t.Operations, func(op upload.Operation) bool { return op.OpID != "" })
	unique := slices.ContainsFunc(t.Operations, insertsFreshRow)
	queue := clientID
	if queue == "" && !unique {
		queue = who.SessionID
	}
	h := hasher{pending: make([]byte, 0, usualLength)}
	h.texts("2", who.Issuer, who.Subject, queue, t.ID)
	for i := range t.Operations {
		op := &t.Operations[i]
		h.texts(op.OpID, string(op.Op), op.Table, op.ID, op.Metadata)
		h.members(op.Data)
		h.members(op.Previous)
	}
	return Digest{Sum: h.sum(), Receipt: numbered && (queue != "" || unique)}
}

// digestOfBytes identifies a transaction that cannot be read, which is never applied.
func digestOfBytes(who identity.Identity, queue string, t upload.Transaction) Digest {
	h := hasher{}
	h.texts("unreadable", who.Issuer, who.Subject, queue, string(t.Unreadable.Sent))
	return Digest{Sum: h.sum(), Receipt: t.ID != "" && queue != ""}
}

// insertsFreshRow reports whether an operation inserts a row under a random or
// time-based UUID, which no other device makes up.
func insertsFreshRow(op upload.Operation) bool {
	id, err := uuid.Parse(op.ID)
	return op.Op == upload.Put && err == nil && slices.Contains([]uuid.Version{1, 4, 6, 7}, id.Version())
}

// device names the upload queue that a transaction comes from. It is empty if the
// request names none.
func device(who identity.Identity, clientID string) string { return cmp.Or(clientID, who.SessionID) }

// hasher hashes each text after its length, so that different lists of texts have
// different digests. It collects short texts, because each Write to a hash allocates.
type hasher struct {
	hash    hash.Hash // nil until pending is full
	pending []byte
}

const (
	hashedAtOnce = 4 << 10
	usualLength  = 400 // of what is hashed of a transaction of one operation
)

func (h *hasher) texts(texts ...string) {
	for _, text := range texts {
		h.length(len(text))
		if len(text) < hashedAtOnce {
			h.pending = append(h.pending, text...)
			continue
		}
		h.flush()
		_, _ = io.WriteString(h.hash, text)
	}
}

func (h *hasher) length(n int) {
	if len(h.pending) >= hashedAtOnce {
		h.flush()
	}
	h.pending = binary.BigEndian.AppendUint64(h.pending, uint64(n))
}

func (h *hasher) flush() {
	if h.hash == nil {
		h.hash = sha256.New()
	}
	_, _ = h.hash.Write(h.pending)
	h.pending = h.pending[:0]
}

func (h *hasher) sum() (sum [sha256.Size]byte) {
	if h.hash == nil {
		return sha256.Sum256(h.pending)
	}
	h.flush()
	h.hash.Sum(sum[:0])
	return sum
}

// members hashes members in the order of their names, with canonical values.
func (h *hasher) members(members []upload.Member) {
	h.length(len(members))
	byName := func(a, b upload.Member) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(members, byName) {
		members = slices.SortedStableFunc(slices.Values(members), byName)
	}
	for _, m := range members {
		h.texts(m.Name, string(canonical(m.Value)))
	}
}

// canonical is a value in the form of RFC 8785, except that numbers stay as they are
// spelled: the RFC's numbers lose digits beyond a float64.
func canonical(value jsontext.Value) jsontext.Value {
	switch value.Kind() {
	case '{', '[':
	case '"':
		if bytes.IndexByte(value, '\\') < 0 {
			return value
		}
	default:
		return value
	}
	clone := value.Clone()
	_ = clone.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false), jsontext.AllowDuplicateNames(true)) // it was decoded, so it is valid
	return clone
}

// bytea is the digest's sum in Postgres' text form.
func (d Digest) bytea() string { return `\x` + hex.EncodeToString(d.Sum[:]) }
