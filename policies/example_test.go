package policies_test

import (
	"context"
	"fmt"

	"postern/policies"
	"postern/service/upload"
)

func ExampleCodeRule() {
	oneListOnly := policies.CodeRule{
		Name:   "one list only",
		Tables: []string{"todos"},
		Decide: func(_ context.Context, tx *policies.Tx) error {
			var list string
			for i, op := range tx.Operations {
				for _, member := range op.Data {
					if member.Name != "list_id" {
						continue
					}
					if list != "" && list != string(member.Value) {
						return policies.NewRejection("TWO_LISTS", "the todos of one transaction must be in one list", i)
					}
					list = string(member.Value)
				}
			}
			return nil
		},
	}
	todo := func(list string) upload.Operation {
		return upload.Operation{Op: upload.Put, Table: "todos", Data: []upload.Member{{Name: "list_id", Value: []byte(list)}}}
	}
	fmt.Println(oneListOnly.Decide(context.Background(), &policies.Tx{Operations: []upload.Operation{todo(`"a"`), todo(`"a"`)}}))
	fmt.Println(oneListOnly.Decide(context.Background(), &policies.Tx{Operations: []upload.Operation{todo(`"a"`), todo(`"b"`)}}))
	// Output:
	// <nil>
	// TWO_LISTS: the todos of one transaction must be in one list
}
