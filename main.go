// Postern is the write endpoint for PowerSync apps on Supabase and Neon. The command is
// in service/cli. An app with rules in Go has a main.go like this one, which passes them
// to cli.Main.
package main

import (
	"os"

	"postern/service/cli"
)

func main() { os.Exit(cli.Main()) }
