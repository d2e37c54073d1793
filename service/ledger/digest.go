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

// Digest identifies a transaction of a device's queue.
type Digest struct {
	Sum     [sha256.Size]byte
	Receipt bool // the transaction is identifiable, so a receipt may stand for it
}

// DigestOf covers who sent the transaction, from which device, its ids and its
// whole content: the same ids with other content, as a restored backup sends
// them, are another transaction. Where the client sends no id of its device the
// token's session stands for it. A transaction with neither op ids nor an id of
// its own cannot be told from a later one that says the same, so it gets no
// receipt.
func DigestOf(who identity.Identity, clientID string, t upload.Transaction) Digest {
	h := sha256.New()
	write(h, "1", who.Issuer, who.Subject, device(who, clientID), t.ID)
	identified := t.ID != ""
	for _, op := range t.Operations {
		identified = identified || op.OpID != ""
		write(h, op.OpID, string(op.Op), op.Table, op.ID, op.Metadata)
		writeMembers(h, op.Data)
		writeMembers(h, op.Previous)
	}
	return Digest{Sum: [sha256.Size]byte(h.Sum(nil)), Receipt: identified}
}

// device names the queue that a transaction comes from; empty where nothing does.
func device(who identity.Identity, clientID string) string { return cmp.Or(clientID, who.SessionID) }

// write hashes each text with its length, so that no two lists hash alike.
func write(h hash.Hash, texts ...string) {
	for _, text := range texts {
		writeLength(h, len(text))
		_, _ = io.WriteString(h, text)
	}
}

func writeLength(h hash.Hash, n int) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(n))
	_, _ = h.Write(length[:])
}

func writeMembers(h hash.Hash, members []upload.Member) {
	writeLength(h, len(members))
	for _, m := range members {
		value := m.Value.Clone()
		_ = value.Compact()
		write(h, m.Name, string(value))
	}
}

// hexBytes is Postgres' text form of a digest.
func hexBytes(d Digest) string { return `\x` + hex.EncodeToString(d.Sum[:]) }
