package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postern/service/upload"
)

// encodeTransaction writes a transaction in the write API's form. Numbers stay as the
// client spelled them. Texts lose escapes that they do not need.
func encodeTransaction(t upload.Transaction) ([]byte, error) {
	type operation struct {
		OpID     jsontext.Value `json:"op_id,omitzero"`
		ID       string         `json:"id"`
		Op       upload.Op      `json:"op"`
		Table    string         `json:"table"`
		Data     jsontext.Value `json:"op_data,omitzero"`
		Previous jsontext.Value `json:"previous_values,omitzero"`
		Metadata string         `json:"metadata,omitempty"`
	}
	out := struct {
		ID   jsontext.Value `json:"transaction_id,omitzero"`
		Crud []operation    `json:"crud"`
	}{ID: encodeNumber(t.ID)}
	for _, op := range t.Operations {
		data, err := encodeMembers(op.Data)
		if err != nil {
			return nil, err
		}
		previous, err := encodeMembers(op.Previous)
		if err != nil {
			return nil, err
		}
		out.Crud = append(out.Crud, operation{encodeNumber(op.OpID), op.ID, op.Op, op.Table, data, previous, op.Metadata})
	}
	return json.Marshal(out, jsontext.AllowDuplicateNames(true)) // inside values
}

// decodeTransaction is the reverse of encodeTransaction.
func decodeTransaction(transaction []byte) (upload.Transaction, error) {
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
