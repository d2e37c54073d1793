package identity

import (
	"crypto/sha256"
	"strings"
	"sync"
)

// verified remembers tokens whose signature was good, because a device sends the same
// token for an hour and most of Verify's time goes into the signature. It is keyed by
// the hash of the whole token. An entry counts only as long as the issuer's key set is
// the one that it was verified with. The claims are checked against the clock, and the
// session with the issuer, each time.
//
// There are two generations. When the younger one is full it becomes the older one.
// What nobody has used since then is forgotten with it.
type verified struct {
	mu             sync.Mutex
	younger, older map[[sha256.Size]byte]token
	bytes          int // of the younger ones
	most           int // of both generations
}

func (v *verified) find(hash [sha256.Size]byte) (t token, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t, ok = v.younger[hash]; ok {
		return t, true
	}
	if t, ok = v.older[hash]; ok {
		v.add(hash, t)
	}
	return t, ok
}

// remember keeps a token that was verified with these keys. Its text is copied, because
// the request that it came with owns it.
func (v *verified) remember(hash [sha256.Size]byte, t token, with *keys) {
	t.text, t.verifiedWith = strings.Clone(t.text), with
	t.signed = t.text[:len(t.signed)]
	v.mu.Lock()
	defer v.mu.Unlock()
	v.add(hash, t)
}

func (v *verified) add(hash [sha256.Size]byte, t token) {
	const each = 1 << 10 // at most what an entry takes besides the text and the claims
	size := each + len(t.text) + len(t.raw)
	if v.younger == nil || v.bytes+size > v.most/2 {
		v.younger, v.older, v.bytes = map[[sha256.Size]byte]token{}, v.younger, 0
	}
	v.younger[hash] = t
	v.bytes += size
}
