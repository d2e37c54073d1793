package identity

import (
	"slices"
	"strings"
	"time"
)

// KeySetState describes the key set that is in use for an issuer.
type KeySetState struct {
	Issuer  string
	Keys    int       // 0 if there is none, or the last good one is too old
	Fetched time.Time // when it was last fetched successfully; zero if never
}

// KeySets returns the state of each issuer's key set, by issuer.
func (v *Verifier) KeySets() []KeySetState {
	list := make([]KeySetState, 0, len(v.issuers))
	for name, i := range v.issuers {
		state := KeySetState{Issuer: name}
		if last := i.keys.last.Load(); last != nil {
			state.Fetched = last.fetched
		}
		if current := i.keys.current(); current != nil {
			state.Keys = len(current.ids)
		}
		list = append(list, state)
	}
	slices.SortFunc(list, func(a, b KeySetState) int { return strings.Compare(a.Issuer, b.Issuer) })
	return list
}
