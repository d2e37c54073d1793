package conformance_test

import (
	"bytes"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

// TestSDKs uploads what the reference connector of each SDK sends for the same two
// transactions. The row is the same, however the SDK spells it.
func TestSDKs(t *testing.T) {
	t.Parallel()
	b := setupSchema(t, `
		create table things (id uuid primary key, title text, n int, done boolean, price numeric(10,2), ratio float8, at timestamptz, extra jsonb, tags text[], note int);
		grant select, insert, update, delete on things to authenticated;`, `tables: {things: {allow: all}}`)
	for line := range bytes.Lines(rig.Fixture(t, "sdks/requests.jsonl")) {
		var sent struct {
			SDK    string   `json:"sdk"`
			ID     string   `json:"id"`
			Bodies []string `json:"bodies"`
		}
		require.NoError(t, json.Unmarshal(bytes.TrimSpace(line), &sent))
		t.Run(sent.SDK, func(t *testing.T) {
			t.Parallel()
			row := func() string {
				return b.db.Text(t, `select concat_ws(' | ', title, n, done, price, ratio, at at time zone 'UTC', extra, tags, coalesce(note::text, 'no note')) from things where id = $1`, sent.ID)
			}
			for i, want := range []string{
				`It’s a/b | 42 | t | 2.00 | 0.5 | 2026-11-23 15:50:30.96 | {"a": [1, 2]} | {a,b} | 7`,
				`It’s a/b | 42 | f | 2.00 | 0.5 | 2026-11-23 15:50:30.96 | {"a": [1, 2]} | {a,b} | no note`,
			} {
				for range 2 { // and once more, as if the answer had been lost
					require.Equal(t, "success", b.Upload(t, "alice", sent.Bodies[i]).Results(t)[0].Status)
					require.Equal(t, want, row())
				}
			}
		})
	}
}
