package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/upload"
)

// EncodeTransaction writes a transaction in the write API's form. Numbers stay as the
// client spelled them. Texts lose escapes that they do not need.
func EncodeTransaction(t upload.Transaction) ([]byte, error) {
	type operation struct {
		OpID     jsontext.Value `json:"op_id,omitzero"`
		ID       string         `json:"id"`
		Op       upload.Op      `json:"op"`
		Table    string         `json:"table"`
		Data     jsontext.Value `json:"op_data,omitzero"`
		Previous jsontext.Value `json:"previous_values,omitzero"`
		Metadata string         `json:"metadata,omitempty"`
	}
	out := []byte("{")
	if id := encodeNumber(t.ID); id != nil {
		out = append(append(append(out, `"transaction_id":`...), id...), ',')
	}
	out = append(out, `"crud":[`...)
	for i, op := range t.Operations {
		data, err := encodeMembers(op.Data)
		if err != nil {
			return nil, err
		}
		previous, err := encodeMembers(op.Previous)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		// One by one, because a transaction may have many.
		encoded, err := json.Marshal(operation{encodeNumber(op.OpID), op.ID, op.Op, op.Table, data, previous, op.Metadata}, jsontext.AllowDuplicateNames(true)) // inside values
		if err != nil {
			return nil, err
		}
		out = append(out, encoded...)
	}
	return append(out, "]}"...), nil
}

// DecodeTransaction is the reverse of EncodeTransaction.
func DecodeTransaction(transaction []byte) (upload.Transaction, error) {
	batch, err := upload.DecodeBatch(slices.Concat([]byte(`{"transactions":[`), bytes.TrimSpace(transaction), []byte(`]}`)))
	if err != nil {
		return upload.Transaction{}, fmt.Errorf("decoding the transaction of a rejected write: %w", err)
	}
	return batch.Transactions[0], nil
}

// encodeNumber returns nil, which is left out, if the client sent no number.
func encodeNumber(decimal string) jsontext.Value {
	if decimal == "" {
		return nil
	}
	return jsontext.Value(decimal)
}

// encodeMembers writes a row as a JSON object, and no row as nil.
func encodeMembers(members []upload.Member) (jsontext.Value, error) {
	if members == nil {
		return nil, nil
	}
	value := jsontext.Value{'{'}
	for i, m := range members {
		if i > 0 {
			value = append(value, ',')
		}
		name, err := jsontext.AppendQuote(nil, m.Name)
		if err != nil {
			return nil, fmt.Errorf("encoding a column's name: %w", err)
		}
		value = append(append(append(value, name...), ':'), m.Value...)
	}
	return append(value, '}'), nil
}
