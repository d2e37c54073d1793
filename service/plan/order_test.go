package plan_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/upload"
)

// tree has the tables of TestOrder. A list has todos, and a todo has items. A shelf's
// books are deleted with it. later is checked at the end of the transaction.
const tree = `{"tables": [
	{"schema": "public", "name": "lists", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "name", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "todos", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "list_id", "type": "text", "is": "text"}, {"name": "title", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "todos_list", "schema": "public", "references": "lists", "columns": ["list_id"], "targets": ["id"], "restricts": true}]},
	{"schema": "public", "name": "items", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "todo_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "items_todo", "schema": "public", "references": "todos", "columns": ["todo_id"], "targets": ["id"], "restricts": true}]},
	{"schema": "public", "name": "later", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "list_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "later_list", "schema": "public", "references": "lists", "columns": ["list_id"], "targets": ["id"], "restricts": true, "deferrable": true}]},
	{"schema": "public", "name": "nodes", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "parent_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "nodes_parent", "schema": "public", "references": "nodes", "columns": ["parent_id"], "targets": ["id"], "restricts": true}]},
	{"schema": "public", "name": "shelves", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "books", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "shelf_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "books_shelf", "schema": "public", "references": "shelves", "columns": ["shelf_id"], "targets": ["id"]}]},
	{"schema": "public", "name": "hens", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "egg_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "hens_egg", "schema": "public", "references": "eggs", "columns": ["egg_id"], "targets": ["id"], "restricts": true}]},
	{"schema": "public", "name": "eggs", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "hen_id", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "eggs_hen", "schema": "public", "references": "hens", "columns": ["hen_id"], "targets": ["id"], "restricts": true}]},
	{"schema": "public", "name": "parts", "primary_key": ["a", "b"], "columns": [{"name": "a", "type": "text", "is": "text"}, {"name": "b", "type": "text", "is": "text"}]},
	{"schema": "public", "name": "uses", "primary_key": ["id"], "columns": [{"name": "id", "type": "text", "is": "text"}, {"name": "a", "type": "text", "is": "text"}, {"name": "b", "type": "text", "is": "text"}],
	 "foreign_keys": [{"name": "uses_part", "schema": "public", "references": "parts", "columns": ["a", "b"], "targets": ["a", "b"], "restricts": true}]}
]}`

// TestOrder has the orders of a transaction, by the indexes of its operations. The
// second order is the fallback.
func TestOrder(t *testing.T) {
	t.Parallel()
	type transaction = []upload.Operation
	type orders = [][]int
	p := newPlanner(t, tree, `tables: {parts: {allow: all, id: [a, b]}, "*": {allow: all, because: RLS decides}}`)
	for _, test := range []struct {
		name string
		transaction
		want orders
	}{
		{"NoOperation", nil, orders{{}}},
		{"OneOperation", transaction{put("todos", "t1", `{"list_id": "l1"}`)}, orders{{0}}},
		{"EmptyPatchIsLeftOut", transaction{put("lists", "l1", `{}`), patch("lists", "l1", `{}`), patch("lists", "l1", `{"name": "a"}`)}, orders{{0, 2}}},

		{"ParentFirst", transaction{put("lists", "l1", `{}`), put("todos", "t1", `{"list_id": "l1"}`)}, orders{{0, 1}}},
		{"ChildFirst", transaction{put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{1, 0}, {0, 1}}},
		{"PatchedChildFirst", transaction{patch("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{1, 0}, {0, 1}}},
		{"ChildOfAnotherRow", transaction{put("todos", "t1", `{"list_id": "l2"}`), put("lists", "l1", `{}`)}, orders{{0, 1}}},
		{"ChildOfNoRow", transaction{put("todos", "t1", `{"list_id": null}`), put("lists", "l1", `{}`)}, orders{{0, 1}}},
		{"ChildWithoutTheColumn", transaction{put("todos", "t1", `{"title": "l1"}`), put("lists", "l1", `{}`)}, orders{{0, 1}}},
		{"PatchedParent", transaction{put("todos", "t1", `{"list_id": "l1"}`), patch("lists", "l1", `{"name": "a"}`)}, orders{{0, 1}}},
		{"Grandchildren", transaction{put("items", "i1", `{"todo_id": "t1"}`), put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{2, 1, 0}, {0, 1, 2}}},
		{"OnlyTheParentMoves", transaction{put("shelves", "s1", `{}`), put("todos", "t1", `{"list_id": "l1"}`), put("shelves", "s2", `{}`), put("lists", "l1", `{}`)}, orders{{0, 3, 1, 2}, {0, 1, 2, 3}}},
		{"KeyOfTwoColumns", transaction{put("uses", "u1", `{"a": "1", "b": "2"}`), put("parts", "1:2", `{}`)}, orders{{1, 0}, {0, 1}}},

		{"Deferrable", transaction{put("later", "x1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{0, 1}}},
		{"DeferrableDelete", transaction{remove("lists", "l1"), remove("later", "x1")}, orders{{0, 1}}},
		{"DeferrableBesideAChild", transaction{put("later", "x1", `{"list_id": "l1"}`), put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{0, 2, 1}, {0, 1, 2}}},
		{"Circle", transaction{put("hens", "h1", `{"egg_id": "e1"}`), put("eggs", "e1", `{"hen_id": "h1"}`)}, orders{{0, 1}}},
		{"CircleBesideAChild", transaction{put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`), put("hens", "h1", `{"egg_id": "e1"}`), put("eggs", "e1", `{"hen_id": "h1"}`)}, orders{{0, 1, 2, 3}}},
		{"Tree", transaction{put("nodes", "n1", `{"parent_id": "n2"}`), put("nodes", "n2", `{"parent_id": "n3"}`), put("nodes", "n3", `{}`)}, orders{{2, 1, 0}, {0, 1, 2}}},
		{"DeletedTree", transaction{remove("nodes", "n1"), remove("nodes", "n2")}, orders{{0, 1}}},
		{"DeletedTreeBesideAChild", transaction{put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`), remove("nodes", "n1"), remove("nodes", "n2")}, orders{{1, 0, 2, 3}, {0, 1, 2, 3}}},
		{"RowOfItsOwn", transaction{put("nodes", "n1", `{"parent_id": "n1"}`), put("nodes", "n2", `{"parent_id": "n1"}`)}, orders{{0, 1}}},

		{"SameRow", transaction{put("todos", "t1", `{"list_id": "l1"}`), patch("todos", "t1", `{"title": "a"}`), put("lists", "l1", `{}`)}, orders{{2, 0, 1}, {0, 1, 2}}},
		{"SameRowOfTheParent", transaction{put("todos", "t1", `{"list_id": "l1"}`), patch("lists", "l1", `{"name": "a"}`), put("lists", "l1", `{}`)}, orders{{1, 2, 0}, {0, 1, 2}}},
		{"ParentIsWrittenAgain", transaction{put("lists", "l1", `{}`), put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{0, 1, 2}}},
		{"RowIsMadeAgain", transaction{put("lists", "l1", `{}`), remove("lists", "l1"), put("todos", "t1", `{"list_id": "l1"}`), put("lists", "l1", `{}`)}, orders{{0, 1, 3, 2}, {0, 1, 2, 3}}},
		{"RowIsThereBefore", transaction{put("todos", "t1", `{"list_id": "l1"}`), remove("lists", "l1"), put("lists", "l1", `{}`)}, orders{{0, 1, 2}}},
		{"RowIsRemovedAfter", transaction{put("lists", "l1", `{}`), put("todos", "t1", `{"list_id": "l1"}`), remove("lists", "l1")}, orders{{0, 1, 2}}},

		{"DeletedChildFirst", transaction{remove("todos", "t1"), remove("lists", "l1")}, orders{{0, 1}}},
		{"DeletedParentFirst", transaction{remove("lists", "l1"), remove("todos", "t1")}, orders{{1, 0}, {0, 1}}},
		{"DeletedGrandparentFirst", transaction{remove("lists", "l1"), remove("todos", "t1"), remove("items", "i1")}, orders{{2, 1, 0}, {0, 1, 2}}},
		{"ChildLetsGo", transaction{remove("lists", "l1"), patch("todos", "t1", `{"list_id": null}`)}, orders{{1, 0}, {0, 1}}},
		{"ChildMovesAway", transaction{remove("lists", "l1"), patch("todos", "t1", `{"list_id": "l2"}`)}, orders{{1, 0}, {0, 1}}},
		{"ChildMovesToANewRow", transaction{remove("lists", "l1"), patch("todos", "t1", `{"list_id": "l2"}`), put("lists", "l2", `{}`)}, orders{{2, 1, 0}, {0, 1, 2}}},
		{"ChildMovesToTheDeletedRow", transaction{remove("lists", "l1"), patch("todos", "t1", `{"list_id": "l1"}`)}, orders{{0, 1}}},
		{"ChildKeepsItsParent", transaction{remove("lists", "l1"), patch("todos", "t1", `{"title": "a"}`)}, orders{{0, 1}}},

		{"CascadesAlone", transaction{remove("shelves", "s1"), remove("books", "b1")}, orders{{0, 1}}},
		{"CascadesFirst", transaction{put("books", "b1", `{"shelf_id": "s1"}`), put("shelves", "s1", `{}`), remove("shelves", "s2")}, orders{{0, 1, 2}, {1, 0, 2}}},
		{"CascadesOfATableThatIsNotDeleted", transaction{put("books", "b1", `{"shelf_id": "s1"}`), put("shelves", "s1", `{}`), remove("books", "b2")}, orders{{1, 0, 2}, {0, 1, 2}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := orders{}
			for _, order := range planned(t, p, test.transaction...) {
				indexes := []int{}
				for _, o := range inOrder(t, order) {
					indexes = append(indexes, o.Index)
				}
				got = append(got, indexes)
			}
			require.Equal(t, test.want, got)
		})
	}
}

// TestEndedRequest plans for a request whose time is up.
func TestEndedRequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := newPlanner(t, tree, `tables: {"*": {allow: all, because: RLS decides}}`)
	_, _, rejection, err := p.Transaction(ctx, upload.Transaction{Operations: []upload.Operation{put("nowhere", "1", `{}`)}})
	require.Nil(t, rejection)
	require.ErrorIs(t, err, context.Canceled)
}
