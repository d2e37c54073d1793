package rig

import (
	"fmt"
	"os"
	"testing"
)

// notRunEnv names the file that collects what is not run. make test and CI print it at
// the end, because go test does not show a test that is skipped. It is a new file each
// time, so that go test does not take the results of such tests from its cache.
const notRunEnv = "POSTERN_TEST_NOT_RUN"

// Missing skips a test that lacks a program or a package. CI installs them, so there the
// test fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	Unable(t, what)
}

// Unable skips a test of what this machine cannot do or does not have.
func Unable(t testing.TB, why string) {
	t.Helper()
	Omit(t, why)
	t.SkipNow()
}

// Omit says that a part of a test is not run.
func Omit(t testing.TB, why string) {
	t.Helper()
	line := fmt.Sprintf("not run here: %s: %s", t.Name(), why)
	t.Log(line)
	name := os.Getenv(notRunEnv)
	if name == "" {
		return
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(file, line)
		_ = file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
