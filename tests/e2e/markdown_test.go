package e2e_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notRun is what a page says above a block of code that no test runs.
const notRun = "*Not run in our tests.*"

// block is a fenced block of code in a Markdown page.
type block struct {
	kind string // the words behind the fence, such as "sql" or "yaml sync"
	code string
	run  bool // the page does not say otherwise
}

var fence = regexp.MustCompile("(?ms)^( *)```([a-z][^\n]*)\n(.*?)^ *```$")

// blocksOf are the blocks of a page, in order. Only blocks that have a kind count:
// others show what is printed.
func blocksOf(page string) (blocks []block) {
	for _, at := range fence.FindAllStringSubmatchIndex(page, -1) {
		indent := page[at[2]:at[3]]
		code := strings.ReplaceAll("\n"+page[at[6]:at[7]], "\n"+indent, "\n")[1:]
		before := strings.TrimSpace(page[:at[0]])
		blocks = append(blocks, block{kind: page[at[4]:at[5]], code: code, run: !strings.HasSuffix(before, notRun)})
	}
	return blocks
}

func TestBlocksOf(t *testing.T) {
	t.Parallel()
	const page = "Run:\n\n```sql\nselect 1;\n\nselect 2;\n```\n\n```\nprinted\n```\n\n1. Deploy. " + notRun + "\n\n   ```sh\n   fly deploy\n   ```\n"
	require.Equal(t, []block{{"sql", "select 1;\n\nselect 2;\n", true}, {"sh", "fly deploy\n", false}}, blocksOf(page))
}
