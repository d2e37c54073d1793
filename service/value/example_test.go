package value_test

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
	"postern/service/value"
)

func ExampleConvert() {
	todos := &catalog.Table{Schema: "public", Name: "todos"}
	done := &catalog.Column{Name: "done", TypeName: "boolean", Type: &catalog.Type{Name: "bool", Kind: catalog.Base}}
	for _, sent := range []string{`1`, `"0"`, `"maybe"`} {
		text, err := value.Convert(todos, done, jsontext.Value(sent))
		fmt.Printf("%s %v\n", text, err)
	}
	// Output:
	// true <nil>
	// false <nil>
	//  public.todos.done cannot hold "maybe": send 0, 1, true or false
}
