package upload

// piece is a run of operations of a list that have the same transaction id.
type piece struct {
	id   string // empty if they have none
	from int    // the index of the first one
}

// decodeList decodes a body that is a list of operations, such as {"batch": […]}. If the
// body names a transaction, the list is that one. Otherwise operations with the same
// transaction id are one, and so are neighbours without any. So a list without
// transaction ids is applied as a whole or not at all.
func decodeList(body []byte) ([]Transaction, error) {
	t, pieces, err := decodeTransaction(body, map[string]string{}, form{listed: true})
	switch {
	case err != nil:
		return nil, malformed(err)
	case t.Unreadable != nil, t.ID != "", len(pieces) == 0:
		return []Transaction{t}, nil
	}
	var list []Transaction
	begun := map[string]int{}
	for i, p := range pieces {
		end := len(t.Operations)
		if i+1 < len(pieces) {
			end = pieces[i+1].from
		}
		operations := t.Operations[p.from:end:end]
		if first, ok := begun[p.id]; ok && p.id != "" {
			list[first].Operations = append(list[first].Operations, operations...)
			continue
		}
		begun[p.id] = len(list)
		list = append(list, Transaction{ID: p.id, Operations: operations})
	}
	return list, nil
}

// DecodeOperation decodes the body of PUT, PATCH or DELETE /api/data, such as {"table":
// "lists", "data": {"id": "1"}}. It becomes a batch of one transaction of one operation.
// Errors and the body are as with DecodeBatch.
func DecodeOperation(body []byte, op Op) (Batch, error) {
	body = withoutMark(body)
	if _, err := frame(body, true); err != nil {
		return Batch{}, malformed(err)
	}
	t, _, err := decodeTransaction(body, nil, form{verb: op})
	if err != nil {
		return Batch{}, malformed(err)
	}
	return Batch{StatusOnly: true, Transactions: []Transaction{t}}, nil
}
