package rig_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

func TestBlocks(t *testing.T) {
	t.Parallel()
	const page = "Run:\n\n```sql\nselect 1;\n\nselect 2;\n```\n\n```\nprinted\n```\n\n1. Deploy. " + rig.NotRun + "\n\n   ```sh\n   fly deploy\n   ```\n"
	require.Equal(t, []rig.Block{{"sql", "select 1;\n\nselect 2;\n", true}, {"sh", "fly deploy\n", false}}, rig.Blocks(page))
}
