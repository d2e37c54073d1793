package conformance_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestSDKs uploads what the connector of each SDK sends for the same two transactions, each
// twice, as if its answer had been lost. The row is the same, however the SDK spells it.
// With the lines of service/upload/SDKS.md it sends previous values, and the UPDATE counts
// only if those are the stored ones.
func TestSDKs(t *testing.T) {
	t.Parallel()
	const schema = `
		create table things (id uuid primary key, title text, n int, done boolean, price numeric(10,2), ratio float8, at timestamptz, extra jsonb, tags text[], note int);
		grant select, insert, update, delete on things to authenticated;`
	plain := setupSchema(t, schema, `tables: {things: {allow: all}}`)
	tracked := setupSchema(t, schema, `tables: {things: {allow: all, conflict: fields}}`)
	for line := range bytes.Lines(rig.Fixture(t, "sdks/recorded.jsonl")) {
		var sent struct {
			SDK    string   `json:"sdk"`
			ID     string   `json:"id"`
			Bodies []string `json:"bodies"`
			Again  []string `json:"again"` // those of the second try, if they differ
		}
		require.NoError(t, json.Unmarshal(bytes.TrimSpace(line), &sent))
		b := plain
		if strings.HasSuffix(sent.SDK, "with the lines") {
			b = tracked
		}
		t.Run(sent.SDK, func(t *testing.T) {
			row := func() string {
				return b.db.Text(t, `select concat_ws(' | ', title, n, done, price, ratio, at at time zone 'UTC', extra, tags, coalesce(note::text, 'no note')) from things where id = $1`, sent.ID)
			}
			receipts := func() string { return b.db.Text(t, `select count(*) from postern.receipts`) }
			for i, want := range []string{
				`It’s a/b | 42 | t | 2.00 | 0.5 | 2026-11-23 15:50:30.96 | {"a": [1, 2]} | {a,b} | 7`,
				`It’s a/b | 42 | f | 2.00 | 0.5 | 2026-11-23 15:50:30.96 | {"a": [1, 2]} | {a,b} | no note`,
			} {
				require.Equal(t, "success", b.Upload(t, "alice", sent.Bodies[i]).Results(t)[0].Status)
				require.Equal(t, want, row())
				before := receipts()
				again := sent.Bodies[i]
				if sent.Again != nil {
					again = sent.Again[i]
				}
				require.Equal(t, "success", b.Upload(t, "alice", again).Results(t)[0].Status)
				require.Equal(t, want, row())
				require.Equal(t, before, receipts(), "the second try is the same transaction")
			}
		})
	}
}
