package policies

import (
	"embed"
	"io/fs"
)

//go:embed demo/*.yaml
var demo embed.FS

// Demo is the folder of policies that dev mode uses unless told otherwise.
func Demo() fs.FS {
	sub, err := fs.Sub(demo, "demo")
	if err != nil {
		panic(err) // the name is a constant of this file
	}
	return sub
}
