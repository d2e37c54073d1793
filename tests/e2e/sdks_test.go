package e2e_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSDKLines runs the lines for JavaScript of service/upload/SDKS.md, with which a
// reference connector sends all that Postern can use.
func TestSDKLines(t *testing.T) {
	b := setup(t)
	page, err := os.ReadFile("../../service/upload/SDKS.md")
	require.NoError(t, err)
	scenario, err := os.ReadFile("scenarios/sdk-lines.mjs")
	require.NoError(t, err)
	_, lines, found := strings.Cut(string(page), "```js\n")
	require.True(t, found)
	lines, _, _ = strings.Cut(lines, "```")
	for line := range strings.Lines(lines) {
		if code, _, _ := strings.Cut(line, "//"); strings.TrimSpace(code) != "" {
			require.Contains(t, string(scenario), strings.TrimRight(strings.TrimSpace(code), ","))
		}
	}

	r := b.run(t, "sdk-lines")
	require.Len(t, r.Uploads, 2)
	made, changed := r.Uploads[0].Request, r.Uploads[1].Request
	require.Equal(t, r.ClientID, made.ClientID)
	require.Equal(t, "made on the phone", made.Transactions[0].Crud[0].Metadata)
	require.Equal(t, 1, made.Transactions[0].Crud[0].OpID)
	require.Equal(t, 3, changed.Transactions[0].Crud[0].OpID)
	require.Equal(t, "0", string(changed.Transactions[0].Crud[0].Previous["completed"]))
	require.Equal(t, "true", b.db.Text(t, `select completed from todos`))
	require.Equal(t, "2", b.db.Text(t, `select count(*) from postern.receipts`))
}
