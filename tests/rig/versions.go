package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// repository is the root, seen from the folder of a package's tests.
const repository = "../.."

// PreviousSource unpacks the source of the previous release, which tools/release/previous
// names. It skips the test if the history here does not have that commit.
func PreviousSource(t testing.TB) (dir string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, "tools", "release", "previous"))
	require.NoError(t, err)
	commit := strings.TrimSpace(string(content))
	git := func(args ...string) *exec.Cmd { // in a checkout of another user's, too
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*"}, args...)...)
		cmd.Dir = repository
		return cmd
	}
	if output, err := git("cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		Unable(t, fmt.Sprintf("the history here does not have commit %s, the previous release: clone all of it (%s)", commit, strings.TrimSpace(string(output))))
	}
	dir = t.TempDir()
	archive := filepath.Join(t.TempDir(), "source.tar")
	output, err := git("archive", "-o", archive, commit).CombinedOutput()
	require.NoError(t, err, "%s", output)
	output, err = exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", dir).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return dir
}

// PreviousCommand builds the command of the previous release, see PreviousSource.
func PreviousCommand(t testing.TB) (binary string) {
	t.Helper()
	return buildIn(t, PreviousSource(t))
}

// NextCommand builds the command with more migrations: the SQL of each file name.
func NextCommand(t testing.TB, migrations map[string]string) (binary string) {
	t.Helper()
	files := map[string]string{}
	for name, text := range migrations {
		files["service/ledger/migrations/"+name] = text
	}
	return buildWith(t, files)
}

// Change replaces a text that is in a source file once.
type Change struct{ File, Old, New string }

// ChangedCommand builds the command with changes of its source, each in a file of its own.
// It is for faults that a build without a bug does not have, and for constants.
func ChangedCommand(t testing.TB, changes ...Change) (binary string) {
	t.Helper()
	files := map[string]string{}
	for _, c := range changes {
		content, err := os.ReadFile(filepath.Join(repository, c.File))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(content), c.Old), "%s has this once: %s", c.File, c.Old)
		files[c.File] = strings.Replace(string(content), c.Old, c.New, 1)
	}
	return buildWith(t, files)
}

// buildWith builds the command with the contents of some files, by their paths in the
// repository.
func buildWith(t testing.TB, files map[string]string) (binary string) {
	t.Helper()
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	dir, replaced := t.TempDir(), map[string]string{}
	for name, text := range files {
		file := filepath.Join(dir, filepath.Base(name))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		replaced[filepath.Join(root, name)] = file
	}
	overlay := filepath.Join(dir, "overlay.json")
	content, err := json.Marshal(map[string]any{"Replace": replaced})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, content, 0o644))
	return buildIn(t, root, "-overlay", overlay)
}

func buildIn(t testing.TB, source string, flags ...string) (binary string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	binary = filepath.Join(t.TempDir(), "postern")
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", binary, ".")...)
	cmd.Dir = source
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}
