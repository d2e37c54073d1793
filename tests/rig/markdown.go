package rig

import (
	"regexp"
	"strings"
)

// NotRun is what a page says above a block of code that no test runs.
const NotRun = "*Not run in our tests.*"

// Block is a fenced block of code in a Markdown page.
type Block struct {
	Kind string // the words behind the fence, such as "sql" or "yaml sync"
	Code string
	Run  bool // the page does not say otherwise
}

var fence = regexp.MustCompile("(?ms)^( *)```([a-z][^\n]*)\n(.*?)^ *```$")

// Blocks are the blocks of a page, in order. Only blocks that have a kind count: others
// show what is printed.
func Blocks(page string) (blocks []Block) {
	for _, at := range fence.FindAllStringSubmatchIndex(page, -1) {
		indent := page[at[2]:at[3]]
		code := strings.ReplaceAll("\n"+page[at[6]:at[7]], "\n"+indent, "\n")[1:]
		before := strings.TrimSpace(page[:at[0]])
		blocks = append(blocks, Block{Kind: page[at[4]:at[5]], Code: code, Run: !strings.HasSuffix(before, NotRun)})
	}
	return blocks
}
