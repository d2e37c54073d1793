package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/plan"
	"postern/service/upload"
)

func TestCheckCatalogue(t *testing.T) {
	t.Parallel()
	const tables = "tables: {notes: {allow: all}, secrets: {allow: all}}"
	for _, test := range []struct {
		name       string
		operations []upload.Operation
		args       string // empty if nothing is checked
	}{
		{"Put", []upload.Operation{put("notes", "n1", `{"title": "a"}`)}, ""},
		{"PutWithAGeneratedColumn", []upload.Operation{put("notes", "n1", `{"rank": 3}`), put("notes", "n2", `{"rank": 3}`)}, `{"1"}|{"rank"}|{}`},
		{"PatchWithoutRowSecurity", []upload.Operation{patch("notes", "n1", `{"title": "a"}`), patch("notes", "n2", `{"title": "a"}`)}, `{}|{}|{"1"}`},
		{"DeleteWithoutRowSecurity", []upload.Operation{remove("notes", "n1")}, `{}|{}|{"1"}`},
		{"PatchWithRowSecurity", []upload.Operation{patch("secrets", "s1", `{"title": "a"}`)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, ok := plan.CheckCatalogue(planned(t, newPlanner(t, shop, tables), test.operations...))
			require.Equal(t, test.args != "", ok)
			if ok {
				require.Equal(t, test.args, strings.Join(args(s), "|"))
			}
		})
	}
}
