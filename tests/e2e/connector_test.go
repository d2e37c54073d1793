package e2e_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

const (
	// node is the npm package's: the SDK needs a newer one than most machines have.
	node      = "node_modules/node/bin/node"
	connector = "../../service/connector"
	tsc       = connector + "/node_modules/typescript/bin/tsc"
)

// needNode skips the test if the npm packages are not there, and installs the connector
// beside them.
func needNode(t *testing.T) {
	t.Helper()
	for _, path := range []string{node, connector + "/node_modules"} {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			rig.Missing(t, "the npm packages of the devices are not installed: make test installs them")
		}
		require.NoError(t, err)
	}
	require.NoError(t, installConnector())
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
	tests := []string{"../../supabase/connector/index.test.ts", "../../neon/connector/index.test.ts"}
	core, err := filepath.Glob(connector + "/test/*.test.ts")
	require.NoError(t, err)
	require.NotEmpty(t, core)
	output, err := exec.CommandContext(t.Context(), node, tsc, "-p", connector+"/test").CombinedOutput()
	require.NoError(t, err, string(output))
	output, err = exec.CommandContext(t.Context(), node, append([]string{"--test"}, append(tests, core...)...)...).CombinedOutput()
	require.NoError(t, err, string(output))
}

// Apps in strict TypeScript compile against the packed connector, also where nothing but
// the connector and the SDK's core is there.
func TestConnectorTypes(t *testing.T) {
	needNode(t)
	t.Parallel()
	for _, test := range []struct {
		platform string
		broken   []string // packages whose own types have errors, so that the app needs skipLibCheck
	}{
		{"connector", nil},
		{"node", nil},
		{"web", []string{"@supabase/auth-js", "@supabase/phoenix", "@supabase/storage-js"}},
		// React Native and React, which declare what these miss, are not installed here.
		{"react-native", []string{"@better-auth/core", "@better-auth/telemetry", "@better-fetch/fetch", "@powersync/react", "@powersync/react-native", "better-auth", "better-call", "jose", "zod"}},
	} {
		t.Run(test.platform, func(t *testing.T) {
			t.Parallel()
			compile := func(more ...string) (string, error) {
				arguments := append([]string{tsc, "-p", "apps/tsconfig." + test.platform + ".json"}, more...)
				output, err := exec.CommandContext(t.Context(), node, arguments...).CombinedOutput()
				return string(output), err
			}
			output, err := compile()
			require.NoError(t, err, output)
			output, _ = compile("--skipLibCheck", "false")
			var broken []string
			for _, found := range regexp.MustCompile(`(?m)^node_modules/((?:@[^/]+/)?[^/]+)/`).FindAllStringSubmatch(output, -1) {
				broken = append(broken, found[1])
			}
			slices.Sort(broken)
			require.Equal(t, test.broken, slices.Compact(broken), output)
		})
	}
}

// The package has ES modules with types, and nothing that an app would have to install
// but the SDK.
func TestConnectorPackage(t *testing.T) {
	needNode(t)
	t.Parallel()
	description, err := os.ReadFile("node_modules/@postern/connector/package.json")
	require.NoError(t, err)
	var pkg struct {
		Dependencies     map[string]string `json:"dependencies"`
		PeerDependencies map[string]string `json:"peerDependencies"`
	}
	require.NoError(t, json.Unmarshal(description, &pkg))
	require.Empty(t, pkg.Dependencies)
	require.Equal(t, []string{"@powersync/common"}, slices.Collect(maps.Keys(pkg.PeerDependencies)))
	const imports = `for (const part of ['', '/supabase', '/neon']) console.log(Object.keys(await import('@postern/connector' + part)).join())`
	output, err := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", imports).CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, `OtherUserError,PosternConnector,PosternError
OtherUserError,PosternConnector,PosternError,SupabaseConnector
NeonConnector,OtherUserError,PosternConnector,PosternError
`, string(output))
}
