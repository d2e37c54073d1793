package rig

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsed(t *testing.T) {
	t.Parallel()
	const (
		startup = "\x00\x00\x00\x09P\x00\x00\x00\x00"
		parse   = "P\x00\x00\x00\x0cselect P"
		bind    = "B\x00\x00\x00\x08PPPP"
		sync    = "S\x00\x00\x00\x04"
	)
	for _, test := range []struct {
		name, sent string
		want       int64
	}{
		{"Nothing", startup, 0},
		{"One", startup + parse + bind + sync, 1},
		{"Named", startup + bind + sync + bind + sync, 0},
		{"Several", startup + parse + parse + sync + bind + parse + sync, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, new(parsed).add([]byte(test.sent)), "in one chunk")
			var p parsed
			n := int64(0)
			for _, b := range strings.Split(test.sent, "") {
				n += p.add([]byte(b))
			}
			require.Equal(t, test.want, n, "in chunks of a byte")
		})
	}
}
