package service

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPanicText has panics as they are logged. Only the runtime's own errors quote no
// values for certain.
func TestPanicText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		cause      func()
	}{
		{"Runtime", "runtime error: index out of range [3] with length 0", func() { n := 3; _ = []int{}[n] }},
		{"Text", "a string", func() { panic("secret") }},
		{"Error", "a *errors.errorString", func() { panic(errors.New("secret")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			defer func() { require.Equal(t, test.want, panicText(recover())) }()
			test.cause()
		})
	}
}
