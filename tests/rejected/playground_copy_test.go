package rejected_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestPlaygroundCopies is that what was tried is a test that `postern policy test` passes,
// on a database without the rows of the service's.
func TestPlaygroundCopies(t *testing.T) {
	t.Parallel()
	live := rig.Policies(t, `tables:
  lists: {allow: all, owner: owner_id}
  todos:
    allow: [create, update]
    rules:
      - name: open-list
        on: [put]
        lookup: {list: select name from lists where id = $new.list_id}
        check: lookup.list.name != 'Closed'
        code: LIST_CLOSED
        message: The list is closed
`)
	s := rig.NewService(t, live)
	b := &testBundle{Service: s, db: s.Database, alice: rig.UserID("alice")}
	b.db.Exec(t, `insert into lists (id, name, owner_id) values ('11111111-1111-4111-8111-111111111111', 'Closed', $1), ('22222222-2222-4222-8222-222222222222', 'Open', $1)`, b.alice)
	b.db.Exec(t, `insert into todos (id, list_id, description, created_by) values ('44444444-4444-4444-8444-444444444444', '22222222-2222-4222-8222-222222222222', 'Milk', $1)`, b.alice)
	empty := rig.NewDatabase(t)
	for _, test := range []struct{ name, op, want, shows string }{
		{"a list", `{"op":"PUT","table":"lists","id":"33333333-3333-4333-8333-333333333333","op_data":{"name":"New"}}`, "inserted", ""},
		{"an open list's todo", `{"op":"PUT","table":"todos","id":"33333333-3333-4333-8333-333333333333","op_data":{"list_id":"22222222-2222-4222-8222-222222222222","description":"x"}}`, "inserted", `lookup.list = {\"name\":\"Open\"}`},
		{"a closed list's todo", `{"op":"PUT","table":"todos","id":"33333333-3333-4333-8333-333333333333","op_data":{"list_id":"11111111-1111-4111-8111-111111111111","description":"x"}}`, "LIST_CLOSED", `lookup.list = {\"name\":\"Closed\"}`},
		{"a change", `{"op":"PATCH","table":"lists","id":"11111111-1111-4111-8111-111111111111","op_data":{"name":"Renamed"}}`, "updated", ""},
		{"a change of a todo", `{"op":"PATCH","table":"todos","id":"44444444-4444-4444-8444-444444444444","op_data":{"description":"Bread"}}`, "updated", ""},
		{"a todo that may not be deleted", `{"op":"DELETE","table":"todos","id":"44444444-4444-4444-8444-444444444444"}`, "UNAUTHORIZED", ""},
		{"a list that is no UUID", `{"op":"PUT","table":"todos","id":"33333333-3333-4333-8333-333333333333","op_data":{"list_id":"x","description":"x"}}`, "INVALID_DATA", ""},
		{"a list with its first todo", `{"op":"PUT","table":"lists","id":"33333333-3333-4333-8333-333333333333","op_data":{"name":"New"}},
			{"op":"PUT","table":"todos","id":"33333333-3333-4333-8333-333333333333","op_data":{"list_id":"33333333-3333-4333-8333-333333333333","description":"x"}}`, "inserted", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := b.page(t, http.MethodPost, "/api/playground/try", fmt.Sprintf(`{"user":"alice","crud":[%s]}`, test.op))
			require.Equal(t, http.StatusOK, status, answer)
			require.Contains(t, answer, test.want)
			if test.shows != "" {
				require.Contains(t, answer, test.shows)
			}
			var tried struct{ Test string }
			unmarshalPage(t, answer, &tried)
			file := filepath.Join(live.Dir(), "copied_test.yaml")
			require.NoError(t, os.WriteFile(file, []byte(tried.Test), 0o600))
			output, err := postern(t, "", "policy", "test", live.Dir(), "--database", empty.OwnerURL)
			require.NoError(t, err, "%s\n%s\n%s", output, tried.Test, answer)
		})
	}
}
