package command_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

const (
	releaseVersion = "v1.2.3-test.1"
	npmVersion     = "1.2.3-test.1"
	repository     = "../.."
)

// TestRelease makes a release for this machine's platform, and runs what people get from
// it: the binary, the npm packages, and the container's root file system.
func TestRelease(t *testing.T) {
	t.Parallel()
	dist := filepath.Join(t.TempDir(), "dist")
	makeRelease(t, repository, dist)
	binary := unpack(t, dist)

	t.Run("Checksums", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
		cmd.Dir = dist
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		files, err := os.ReadDir(dist)
		require.NoError(t, err)
		require.Equal(t, len(files)-1, strings.Count(string(output), ": OK\n"), "every other file has a checksum")
	})

	t.Run("Reproducible", func(t *testing.T) {
		t.Parallel()
		again := filepath.Join(t.TempDir(), "dist")
		makeRelease(t, copySource(t), again)
		require.Equal(t, checksums(t, dist), checksums(t, again), "from another folder, a release has the same bytes")
	})

	t.Run("SBOM", func(t *testing.T) {
		t.Parallel()
		content, err := os.ReadFile(onlyFile(t, filepath.Join(dist, "*.cdx.json")))
		require.NoError(t, err)
		require.Contains(t, string(content), `"purl": "pkg:golang/postern@`+releaseVersion+`"`)
		require.Contains(t, string(content), `"purl": "pkg:golang/github.com/jackc/pgx/v5@v5.`)
		require.NotContains(t, string(content), "testify", "it is not in the binary")
		require.Regexp(t, `"name": "github.com/jackc/pgx/v5",[^{]*"licenses": \[\s*\{\s*"license": \{\s*"id": "MIT"`, string(content))
	})

	t.Run("Licences", func(t *testing.T) {
		t.Parallel()
		content, err := exec.Command("tar", "-xOzf", onlyFile(t, filepath.Join(dist, "postern_*.tar.gz")), "THIRD_PARTY_LICENSES").Output()
		require.NoError(t, err)
		for _, text := range []string{
			"\n======== std 1.", "Copyright 2009 The Go Authors.", // of Go itself
			"\n======== github.com/jackc/pgx/v5 v5.", "Jack Christensen",
			"Copyright 2012-2015 The Prometheus Authors", // a NOTICE
		} {
			require.Contains(t, string(content), text)
		}
	})

	t.Run("Binary", func(t *testing.T) {
		t.Parallel()
		requireCommands(t, installed(binary), demoPolicies(t))
		output, err := exec.Command("go", "version", "-m", binary).Output()
		require.NoError(t, err)
		require.Contains(t, string(output), "CGO_ENABLED=0", "it is static")
		here, err := filepath.Abs(repository)
		require.NoError(t, err)
		content, err := os.ReadFile(binary)
		require.NoError(t, err)
		require.NotContains(t, string(content), here, "nothing of this machine is in it")
	})

	t.Run("Npx", func(t *testing.T) {
		t.Parallel()
		testNpx(t, dist)
	})

	t.Run("Image", func(t *testing.T) {
		t.Parallel()
		testImage(t, binary)
	})
}

// makeRelease makes a release of the source in a folder, for this machine's platform only.
func makeRelease(t *testing.T, source, dist string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "-C", "tools", "run", "./release",
		"-version", releaseVersion, "-only", runtime.GOOS+"/"+runtime.GOARCH, "-out", dist)
	cmd.Dir = source
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// copySource copies what a container engine's build receives.
func copySource(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	content, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	require.NoError(t, err)
	ignored := strings.Fields(string(content))
	err = filepath.WalkDir(repository, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of another test, which is gone
		}
		require.NoError(t, err)
		relative, err := filepath.Rel(repository, name)
		require.NoError(t, err)
		target := filepath.Join(dir, relative)
		isIgnored := slices.Contains(ignored, relative) || slices.Contains(ignored, "**/"+entry.Name())
		switch {
		case isIgnored && entry.IsDir():
			return fs.SkipDir
		case isIgnored:
			return nil
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		}
		content, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		return os.WriteFile(target, content, 0o644)
	})
	require.NoError(t, err)
	return dir
}

func checksums(t *testing.T, dist string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	require.NoError(t, err)
	return string(content)
}

// onlyFile is the one file that a pattern finds.
func onlyFile(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.Len(t, found, 1, pattern)
	return found[0]
}

// unpack returns the binary in a release's archive.
func unpack(t *testing.T, dist string) (binary string) {
	t.Helper()
	file, err := os.Open(onlyFile(t, filepath.Join(dist, "postern_"+npmVersion+"_*.tar.gz")))
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	archive := tar.NewReader(unzipped)
	header, err := archive.Next()
	require.NoError(t, err)
	require.Equal(t, "postern", header.Name)
	binary = filepath.Join(t.TempDir(), "postern")
	content, err := io.ReadAll(archive)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, content, header.FileInfo().Mode()))
	return binary
}

func demoPolicies(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(repository, "policies", "demo"))
	require.NoError(t, err)
	return dir
}

// command is a way to run postern.
type command func(databaseURL string, args ...string) *exec.Cmd

// installed runs a program of this machine, with arguments before those of postern.
func installed(program ...string) command {
	return func(databaseURL string, args ...string) *exec.Cmd {
		cmd := exec.Command(program[0], slices.Concat(program[1:], args)...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL)
		return cmd
	}
}

// requireCommands runs the commands that need nothing but a database and policies.
func requireCommands(t *testing.T, postern command, policies string) *rig.Database {
	t.Helper()
	database := rig.NewDatabase(t)
	database.Exec(t, `drop schema postern cascade`)
	for _, run := range []struct {
		cmd  *exec.Cmd
		want string
	}{
		{postern("", "version"), "postern " + releaseVersion + " ("},
		{postern(database.OwnerURL, "migrate"), "applied 00001_"},
		{postern(database.LoginURL, "policy", "check", policies), "for the tables of the database"},
	} {
		output, err := run.cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", run.cmd, output)
		require.Contains(t, string(output), run.want)
	}
	output, err := postern(database.LoginURL, "doctor").CombinedOutput()
	require.Error(t, err, "no issuer is set")
	require.Contains(t, string(output), "no issuer of tokens is set")
	return database
}
