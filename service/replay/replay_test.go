package replay_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/ledger"
	"postern/service/replay"
	"postern/service/upload"
)

// TestNoContent has a record of a write that was over a limit: applying the nothing that
// is stored would close it.
func TestNoContent(t *testing.T) {
	t.Parallel()
	err := replay.Replay(t.Context(), nil, nil, replay.Request{Record: ledger.Record{Code: upload.TooLarge}})
	require.ErrorContains(t, err, "its content is not stored: raise the limit")
}
