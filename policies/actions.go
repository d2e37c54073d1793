package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"postern/service/upload"
)

// actions is a set of what operations do to rows. A word in a policy file stands for
// some of them: put for all that a PUT does, create for what happens to a new row.
type actions uint8

const (
	putNew       actions = 1 << iota // a PUT of a row that does not exist
	putStored                        // a PUT of a row that exists
	patchStored                      // a PATCH
	deleteStored                     // a DELETE
)

const (
	creates    = putNew
	updates    = putStored | patchStored
	puts       = putNew | putStored
	allActions = creates | updates | deleteStored
)

// actionWords are the words for actions: first what happens to the row, then the
// client's verbs.
var actionWords = []struct {
	word   string
	stands actions
}{{"create", creates}, {"update", updates}, {"delete", deleteStored}, {"put", puts}, {"patch", patchStored}}

// actionsOf returns the actions that an operation may be.
func actionsOf(op upload.Op) actions {
	switch op {
	case upload.Put:
		return puts
	case upload.Patch:
		return patchStored
	case upload.Delete:
		return deleteStored
	}
	return 0
}

// appliesTo reports whether the set has an operation on some row.
func (a actions) appliesTo(op upload.Op) bool { return a&actionsOf(op) != 0 }

// appliesToRow is appliesTo for a row that exists, or does not. Only a PUT can be of
// either.
func (a actions) appliesToRow(op upload.Op, exists bool) bool {
	switch {
	case op != upload.Put:
		return a.appliesTo(op)
	case exists:
		return a&putStored != 0
	}
	return a&putNew != 0
}

// dependsOnRow reports whether the set has an operation on some rows alone: on those
// that exist, or on those that do not.
func (a actions) dependsOnRow(op upload.Op) bool {
	return a.appliesToRow(op, true) != a.appliesToRow(op, false)
}

// in returns the set as far as it matters to a table that allows some actions. If each
// allowed PUT does the same to its row, nobody needs to know whether the row exists.
func (a actions) in(allowed actions) actions {
	put := a & puts & allowed
	if allowed&puts == puts || put == 0 {
		return a&^puts | put
	}
	return a | puts
}

// actions returns what some words stand for. Words for what happens to the row and for
// the client's verbs are not mixed: on: [create, patch] would leave out a PUT that
// updates. The set is empty if there is a mistake, so that nothing is said of what follows
// from it.
func (c *compiler) actions(words opList, at place) (set actions) {
	var byRow, byVerb, mistaken bool
	for i, word := range words {
		stands := wordActions(word)
		if stands == 0 {
			c.add(at.in(i).problem("%q is not an operation%s", word, cmp.Or(suggestAction(word), ": write create, update or delete")))
			mistaken = true
		}
		set |= stands
		byRow, byVerb = byRow || word == "create" || word == "update", byVerb || word == "put" || word == "patch"
	}
	if byRow && byVerb {
		c.add(at.problem("create and update say what happens to the row, put and patch which verb the client sends: write [%s]", strings.Join(rowWords(set), ", ")))
		mistaken = true
	}
	if mistaken {
		return 0
	}
	return set
}

func wordActions(word string) actions {
	for _, w := range actionWords {
		if w.word == word {
			return w.stands
		}
	}
	return 0
}

// suggestAction suggests the word that other languages of rules have for an action.
func suggestAction(word string) string {
	for _, w := range []struct{ others, word string }{{"insert add post new", "create"}, {"edit modify change upsert write", "update"}, {"remove destroy", "delete"}} {
		if slices.Contains(strings.Fields(w.others), strings.ToLower(word)) {
			return fmt.Sprintf(`: did you mean %q?`, w.word)
		}
	}
	words := make([]string, len(actionWords))
	for i, w := range actionWords {
		words[i] = w.word
	}
	return didYouMean(word, words)
}

// operations lists the operations that the set has on some row.
func (a actions) operations() (ops []upload.Op) {
	for _, op := range []upload.Op{upload.Put, upload.Patch, upload.Delete} {
		if a.appliesTo(op) {
			ops = append(ops, op)
		}
	}
	return ops
}

// rowWords are the words for what happens to rows that cover a set.
func rowWords(set actions) (words []string) {
	for _, w := range actionWords[:3] {
		if set&w.stands != 0 {
			words = append(words, w.word)
		}
	}
	return words
}
