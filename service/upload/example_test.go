package upload_test

import (
	"fmt"

	"postern/service/upload"
)

func ExampleDecodeBatch() {
	batch, err := upload.DecodeBatch([]byte(`{"client_id":"phone","transactions":[
		{"transaction_id":7,"crud":[{"op_id":9,"op":"PATCH","table":"todos","id":"t1","op_data":{"done":1,"title":null}}]}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	t := batch.Transactions[0]
	fmt.Println(batch.ClientID, t.ID)
	for _, op := range t.Operations {
		fmt.Println(op.Op, op.Table, op.ID)
		for _, member := range op.Data {
			fmt.Printf("%s = %s\n", member.Name, member.Value)
		}
	}
	_, err = upload.DecodeBatch([]byte(`{"transactions":[{"crud":[{"op":"PATCH","table":"todos","id":"t1","values":{"done":1}}]}]}`))
	fmt.Println(err)
	// Output:
	// phone 7
	// PATCH todos t1
	// done = 1
	// title = null
	// transactions[0].crud[0].values: is not a member of an operation: those are op_id, transaction_id, id, op, table, op_data, previous_values and metadata
}
