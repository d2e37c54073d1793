package conformance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestNames runs the policy that README.md shows names with: a role that is looked up
// once, a let, a function and a param.
func TestNames(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../policies/README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "## Names for things")
	require.True(t, found)
	_, section, found = strings.Cut(section, "```yaml\n")
	require.True(t, found)
	yaml, _, _ := strings.Cut(section, "```")
	b := setupSchema(t, `
		create table staff (user_id uuid primary key, role text);
		insert into staff values ('`+rig.UserID("alice")+`', 'admin');
		create table expenses (id text primary key, title text, owner_id uuid default auth.uid(), approved boolean);
		grant select, insert, update, delete on staff, expenses to authenticated`, yaml)
	for _, test := range []struct{ name, user, operation, want string }{
		{"Own", "bob", op("PUT", "expenses", "1", `"title":"Taxi"`), "success"},
		{"OwnChange", "bob", op("PUT", "expenses", "1", `"title":"Train"`), "success"},
		{"OthersChange", "carol", op("PUT", "expenses", "1", `"title":"Mine"`), "NOT_YOURS"},
		{"OthersPatch", "carol", op("PATCH", "expenses", "1", `"title":"Mine"`), "NOT_YOURS"},
		{"OwnApproval", "bob", op("PATCH", "expenses", "1", `"approved":1`), "NOT_APPROVED"},
		{"AdminsApproval", "alice", op("PATCH", "expenses", "1", `"approved":1`), "success"},
		{"AdminsOwn", "alice", op("PUT", "expenses", "2", `"title":"Hotel","approved":1`), "NOT_APPROVED"},
		{"Long", "bob", op("PATCH", "expenses", "1", `"title":"`+strings.Repeat("x", 201)+`"`), "TITLE_TOO_LONG"},
	} {
		require.Equal(t, test.want, b.outcome(t, test.user, test.operation), test.name)
	}
}
