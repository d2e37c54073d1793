package upload

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// decodeList decodes a body that is a list of operations, such as {"batch": […]}. If the
// body names a transaction, the list is that one. Otherwise operations with the same
// transaction id are one, and so are neighbours without any. So a list without
// transaction ids is applied as a whole or not at all.
func decodeList(body []byte, list jsontext.Value) ([]Transaction, error) {
	d := newDecoderOfRequest()
	whole, ids, err := d.decode(body, form{list: list})
	if err != nil {
		return nil, malformed(err)
	}
	groups := groupByID(ids)
	switch {
	case whole.ID != "" || len(groups) == 0:
		return []Transaction{whole}, nil
	case len(groups) == 1:
		whole.ID = groups[0].id
		return []Transaction{whole}, nil
	}
	var sent [][]byte
	if whole.Unreadable != nil {
		sent = elements(list)
	}
	transactions := make([]Transaction, len(groups))
	for i, g := range groups {
		if sent == nil {
			transactions[i] = Transaction{ID: g.id, Operations: pick(whole.Operations, g.operations)}
			continue
		}
		// Only those transactions are unreadable that are at fault themselves.
		alone := slices.Concat([]byte(`{"crud":[`), bytes.Join(pick(sent, g.operations), []byte(",")), []byte(`]}`))
		if transactions[i], _, err = d.decode(alone, form{}); err != nil {
			return nil, malformed(err)
		}
		transactions[i].ID = g.id
	}
	return transactions, nil
}

// group is a transaction of a list.
type group struct {
	id         string // empty if it has none
	operations []int  // their indexes in the list
}

// groupByID groups the operations of a list by the ids of their transactions.
func groupByID(ids []string) (groups []group) {
	begun := map[string]int{}
	for i, id := range ids {
		at, ok := begun[id]
		if !ok || id == "" && ids[i-1] != "" {
			at, groups = len(groups), append(groups, group{id: id})
			begun[id] = at
		}
		groups[at].operations = append(groups[at].operations, i)
	}
	return groups
}

// elements are the elements of a list, as they were sent. The list was decoded before.
func elements(list jsontext.Value) (sent [][]byte) {
	d := newDecoder(plain(list), list, true)
	_, _ = d.array(func() error {
		element, err := d.value()
		sent = append(sent, element)
		return err
	})
	return sent
}

func pick[T any](list []T, indexes []int) []T {
	picked := make([]T, len(indexes))
	for i, at := range indexes {
		picked[i] = list[at]
	}
	return picked
}

// DecodeOperation decodes the body of PUT, PATCH or DELETE /api/data, such as {"table":
// "lists", "data": {"id": "1"}}. It becomes a batch of one transaction of one operation.
// Errors and the body are as with DecodeBatch.
func DecodeOperation(body []byte, op Op) (Batch, error) {
	body = withoutMark(body)
	if _, err := frame(body, true); err != nil {
		return Batch{}, malformed(err)
	}
	t, _, err := newDecoderOfRequest().decode(body, form{verb: op})
	if err != nil {
		return Batch{}, malformed(err)
	}
	return Batch{StatusOnly: true, Transactions: []Transaction{t}}, nil
}
