package e2e_test

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
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

// A queue of a thousand transactions is uploaded by a connector that sends one in a
// request, as PowerSync's reference connectors do by default, and by one that sends 50.
func TestTransactionsInARequest(t *testing.T) {
	if testing.Short() {
		t.Skip("uploads two thousand transactions")
	}
	b := setup(t)
	for i, test := range []struct{ transactions, requests int }{{1, 1000}, {50, 20}} {
		r := b.runNode(t, "scenarios/reference-queue.mjs", strconv.Itoa(test.transactions))
		require.Len(t, r.Uploads, test.requests)
		require.Equal(t, strconv.Itoa(1000*(i+1)), b.db.Text(t, `select count(*) from lists where owner_id = $1`, b.alice))
		took := time.Duration(r.Uploads[test.requests-1].AnsweredAt-r.Uploads[0].SentAt) * time.Millisecond
		t.Logf("%d in a request: %v", test.transactions, took)
	}
}

// The connector of our tests sends byte for byte what PowerSync's reference connector did
// when it was recorded.
func TestReferenceConnectorBytes(t *testing.T) {
	needNode(t)
	t.Parallel()
	var recorded struct {
		SDK    string   `json:"sdk"`
		ID     string   `json:"id"`
		Bodies []string `json:"bodies"`
	}
	line, _, _ := bytes.Cut(rig.Fixture(t, "sdks/recorded.jsonl"), []byte("\n"))
	require.NoError(t, json.Unmarshal(line, &recorded))
	require.Equal(t, "JavaScript", recorded.SDK)
	var sent []string
	runDevice(t, "reference-bytes", []string{"ROW=" + recorded.ID}, &sent, nil)
	require.Equal(t, recorded.Bodies, sent)
}
