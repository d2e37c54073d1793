package value

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// isJSON reports whether a text is JSON. Names may appear twice, see checkNames.
func isJSON(text string) bool {
	return jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true))
}

// checkNames refuses JSON in which a name appears twice in one object. Of such names
// readers of JSON see the first, the last, or a merge, so a rule could judge another
// value than the one that is stored.
//
// Names are compared by their hashes: an object may have very many, and the sets that
// JSON decoders keep of them take twenty times their bytes.
func checkNames(text string) error {
	if !strings.Contains(text, ":") {
		return nil
	}
	seed := maphash.MakeSeed()
	var hashes []uint64 // of the names of all open objects
	var begins []int    // where those of each open array or object begin
	d := newNameReader(text)
	for {
		name, isName, kind, ok := d.next()
		switch {
		case !ok:
			return nil
		case isName:
			hashes = append(hashes, maphash.String(seed, name))
		case kind == '{' || kind == '[':
			begins = append(begins, len(hashes))
		case kind == '}' || kind == ']':
			last := len(begins) - 1
			own := hashes[begins[last]:]
			slices.Sort(own)
			for i := 1; i < len(own); i++ {
				if own[i] == own[i-1] {
					return fmt.Errorf("the name %q appears twice in one of its objects: send it once", cut(nameOf(text, seed, own[i]), 100))
				}
			}
			hashes, begins = hashes[:begins[last]], begins[:last]
		}
	}
}

// nameOf finds the name with a hash.
func nameOf(text string, seed maphash.Seed, hash uint64) string {
	d := newNameReader(text)
	for {
		name, isName, _, ok := d.next()
		if !ok || isName && maphash.String(seed, name) == hash {
			return name
		}
	}
}

// nameReader reads the tokens of JSON.
type nameReader struct{ *jsontext.Decoder }

func newNameReader(text string) nameReader {
	return nameReader{jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true))}
}

// next reads a token, which may be an object's name. It is not ok at the end.
func (r nameReader) next() (name string, isName bool, kind jsontext.Kind, ok bool) {
	token, err := r.ReadToken()
	if err != nil {
		return "", false, 0, false
	}
	if token.Kind() == '"' {
		if in, length := r.StackIndex(r.StackDepth()); in == '{' && length%2 == 1 {
			return token.String(), true, '"', true
		}
	}
	return "", false, token.Kind(), true
}
