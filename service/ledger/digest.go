package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"

	"postern/service/identity"
	"postern/service/upload"
)

// Digest identifies a transaction of one device's upload queue.
type Digest struct {
	Sum     [sha256.Size]byte
	Receipt bool // whether a receipt may stand for the transaction
}

// DigestOf covers the sender, the device, the ids and the whole content. The same
// ids with other content are another transaction: a device sends that after its
// database was restored from a backup. The device is the client id, or else the
// token's session.
//
// If neither the transaction nor any operation has an id, a later transaction with
// the same content cannot be told apart. Then Receipt is false.
func DigestOf(who identity.Identity, clientID string, t upload.Transaction) Digest {
	h := sha256.New()
	hashTexts(h, "1", who.Issuer, who.Subject, device(who, clientID), t.ID)
	identified := t.ID != ""
	for _, op := range t.Operations {
		identified = identified || op.OpID != ""
		hashTexts(h, op.OpID, string(op.Op), op.Table, op.ID, op.Metadata)
		hashMembers(h, op.Data)
		hashMembers(h, op.Previous)
	}
	return Digest{Sum: [sha256.Size]byte(h.Sum(nil)), Receipt: identified}
}

// device names the upload queue that a transaction comes from. It is empty if the
// request names none.
func device(who identity.Identity, clientID string) string { return cmp.Or(clientID, who.SessionID) }

// hashTexts hashes each text after its length, so that different lists of texts
// have different digests.
func hashTexts(h hash.Hash, texts ...string) {
	for _, text := range texts {
		hashLength(h, len(text))
		_, _ = io.WriteString(h, text)
	}
}

func hashLength(h hash.Hash, n int) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(n))
	_, _ = h.Write(length[:])
}

// hashMembers hashes values as the client spelled them, without the white space
// between their tokens.
func hashMembers(h hash.Hash, members []upload.Member) {
	hashLength(h, len(members))
	for _, m := range members {
		value := m.Value.Clone()
		_ = value.Compact()
		hashTexts(h, m.Name, string(value))
	}
}

// bytea is the digest's sum in Postgres' text form.
func (d Digest) bytea() string { return `\x` + hex.EncodeToString(d.Sum[:]) }
