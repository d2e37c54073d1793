package command_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"postern/tests/rig"
)

const deployFolder = repository + "/service/deploy"

// TestUnit has systemd check the unit, with the binary at hand in the place of the
// installed one.
func TestUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		rig.Missing(t, "systemd-analyze is not installed: apt-get install systemd")
	}
	unit, err := os.ReadFile(filepath.Join(deployFolder, "postern@.service"))
	require.NoError(t, err)
	require.Contains(t, string(unit), "/usr/local/bin/postern serve")
	file := filepath.Join(t.TempDir(), "postern@.service")
	require.NoError(t, os.WriteFile(file, bytes.Replace(unit, []byte("/usr/local/bin/postern"), []byte(rig.Command(t)), 1), 0o600))
	output, err := exec.Command("systemd-analyze", "verify", "--recursive-errors=one", file).CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.NotContains(t, string(output), "postern@", "systemd has a warning")
}

// TestManifests checks that Kubernetes' manifests are YAML, and name commands and settings
// that there are.
func TestManifests(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(deployFolder, "kubernetes.yaml"))
	require.NoError(t, err)
	var kinds []string
	for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var object struct{ Kind string }
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		kinds = append(kinds, object.Kind)
	}
	require.Equal(t, []string{"Job", "Deployment", "Service"}, kinds)
	requireSettings(t, content)
}

// TestFlyConfig checks that fly.toml names settings that there are. Fly's own program
// would check the rest, and needs an account.
func TestFlyConfig(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(repository + "/fly.toml")
	require.NoError(t, err)
	requireSettings(t, content)
}

// requireSettings fails if a setting in a file is not in the table of README.md.
func requireSettings(t *testing.T, content []byte) {
	t.Helper()
	readme, err := os.ReadFile(repository + "/README.md")
	require.NoError(t, err)
	names := regexp.MustCompile(`\b(POSTERN|POWERSYNC|SUPABASE|NEON|DATABASE)_[A-Z_]+\b`).FindAllString(string(content), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.True(t, strings.Contains(string(readme), "`"+name+"`"), "README.md has no setting %s", name)
	}
}

// TestPoliciesInAConfigMap mounts policies as Kubernetes does: the files are symbolic links
// through another one, ..data, which is replaced when the ConfigMap changes.
func TestPoliciesInAConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_11_28_12_00_00.1")
	require.NoError(t, os.Mkdir(data, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, "app.yaml"), []byte("tables: {lists: {allow: [put]}}\n"), 0o600))
	require.NoError(t, os.Symlink(filepath.Base(data), filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/app.yaml", filepath.Join(dir, "app.yaml")))
	database := rig.NewDatabase(t)
	cmd := exec.Command(rig.Command(t), "policy", "check", "--database", database.OwnerURL, dir)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
}
