package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	// node is the npm package's: the SDK needs a newer one than most machines have.
	node      = "node_modules/node/bin/node"
	connector = "../../service/connector"
)

// needNode skips the test if the npm packages are not there, and installs the connector
// beside them.
func needNode(t *testing.T) {
	t.Helper()
	for _, path := range []string{node, connector + "/node_modules"} {
		need(t, path, "make test installs the npm packages that the devices need")
	}
	require.NoError(t, installConnector())
}

// need skips the test if path does not exist. In CI the test fails.
func need(t *testing.T, path, remedy string) {
	t.Helper()
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: %s", path, remedy)
	}
	t.Skipf("%s is missing: %s", path, remedy)
}

// installConnector builds and packs the connector, and unpacks it as npm would. Its
// entry in package-lock.json would have the hash of a file that each build changes.
var installConnector = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "postern-connector-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	pack := exec.Command("npm", "pack", "--silent", "--pack-destination", dir)
	pack.Dir = connector
	if output, err := pack.CombinedOutput(); err != nil {
		return errors.New("npm pack: " + string(output))
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return errors.New("npm pack made no package")
	}
	const installed = "node_modules/@postern/connector"
	if err := os.RemoveAll(installed); err != nil {
		return err
	}
	if err := os.MkdirAll(installed, 0o755); err != nil {
		return err
	}
	return exec.Command("tar", "-xzf", packed[0], "-C", installed, "--strip-components=1").Run()
})

// The connector does with every answer what the write API says, also where
// Postern gives no occasion for it.
func TestConnector(t *testing.T) {
	needNode(t)
	t.Parallel()
	tests, err := filepath.Glob(connector + "/test/*.test.ts")
	require.NoError(t, err)
	require.NotEmpty(t, tests)
	output, err := exec.CommandContext(t.Context(), node, append([]string{"--test"}, tests...)...).CombinedOutput()
	require.NoError(t, err, string(output))
}
