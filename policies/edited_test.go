package policies_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/policies"
)

// Edited policies are tried out beside those in force.
func TestEdited(t *testing.T) {
	t.Parallel()
	l := setupLive(t, opensLists)
	require.Equal(t, []policies.File{{Path: "policies/app.yaml", Text: opensLists}}, l.Files())
	edited, err := l.Edited(policies.File{Path: "policies/app.yaml", Text: opensTodos})
	require.NoError(t, err)
	set, err := edited.For(l.before)
	require.NoError(t, err)
	require.Equal(t, "1 table, 0 rules", set.String())
	require.Equal(t, opensTodos, edited.Files()[0].Text)
	require.True(t, l.opens(t, l.before, "lists"), "the policies in force stay")
	require.False(t, l.opens(t, l.before, "todos"))

	_, err = l.Edited(policies.File{Path: "policies/other.yaml", Text: opensTodos})
	require.EqualError(t, err, "policies: there is no file policies/other.yaml: edit one of those that were read")
	_, err = l.Edited(policies.File{Path: "policies/app.yaml", Text: "tables: {todos: {alow: all}}"})
	require.ErrorContains(t, err, "policies/app.yaml:1:18")
	misspells, err := l.Edited(policies.File{Path: "policies/app.yaml", Text: misspelt})
	require.NoError(t, err)
	_, err = misspells.For(l.before)
	require.ErrorContains(t, err, `no column "nobody"`)
}
