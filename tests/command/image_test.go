package command_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/tests/rig"
)

// image is what a container engine makes of our Dockerfile, as a folder to chroot to.
type image struct {
	root, user string
	env        []string
	entrypoint []string
	cmd        []string
}

// buildImage follows the Dockerfile as an engine does, on this machine and in the source
// folder, whose go and root certificates stand for those of the build stage.
func buildImage(t *testing.T, source string) image {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(source, "Dockerfile"))
	require.NoError(t, err)
	img := image{root: filepath.Join(source, "rootfs")}
	for line := range strings.Lines(string(content)) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "RUN":
			cmd := exec.CommandContext(t.Context(), "sh", "-c", rest)
			cmd.Dir, cmd.Env = source, append(os.Environ(), "VERSION="+releaseVersion)
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", rest, output)
		case "COPY":
			require.Contains(t, []string{"go.mod go.sum ./", ". .", "--from=build /src/rootfs/ /"}, rest)
		case "ENV":
			img.env = append(img.env, rest)
		case "USER":
			img.user = rest
		case "ENTRYPOINT":
			require.NoError(t, json.Unmarshal([]byte(rest), &img.entrypoint))
		case "CMD":
			require.NoError(t, json.Unmarshal([]byte(rest), &img.cmd))
		default:
			require.Contains(t, []string{"", "#", "FROM", "WORKDIR", "ARG", "EXPOSE"}, instruction)
		}
	}
	return img
}

// command runs the image's entry point in its file system, as its user, and with nothing
// but its environment and additions.
func (img image) command(t *testing.T, env []string, args ...string) []string {
	t.Helper()
	chroot, err := exec.LookPath("chroot")
	require.NoError(t, err)
	return slices.Concat([]string{"env", "-i"}, img.env, env, []string{chroot, "--userspec=" + img.user, img.root}, img.entrypoint, args)
}

// testImage builds the image without a container engine, and runs it.
func testImage(t *testing.T, binary string) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	source := copySource(t)
	demo, err := os.ReadFile(filepath.Join(demoPolicies(t), "lists-and-todos.yaml"))
	require.NoError(t, err)
	write(t, filepath.Join(source, "policies", "app.yaml"), string(demo))
	img := buildImage(t, source)

	require.Equal(t, []string{"etc/ssl/certs/ca-certificates.crt", "policies/app.yaml", "postern"}, filesIn(t, img.root))
	want, err := os.ReadFile(binary)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(img.root, "postern"))
	require.NoError(t, err)
	require.True(t, slices.Equal(want, got), "the image has the release's binary")

	postern := func(databaseURL string, args ...string) *exec.Cmd {
		line := img.command(t, []string{"DATABASE_URL=" + databaseURL}, args...)
		return exec.Command(line[0], line[1:]...)
	}
	database := requireCommands(t, postern, "/policies")
	output, err := postern("", "policy", "test", "--schema", "/policies/app.yaml").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "use a database of yours with --database", "there is no Postgres in the image")
	serveImage(t, img, database)
}

func filesIn(t *testing.T, root string) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path.Clean(name))
		}
		return err
	})
	require.NoError(t, err)
	return files
}

// serveImage runs what the image runs by default, and writes a row.
func serveImage(t *testing.T, img image, database *rig.Database) {
	t.Helper()
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	line := img.command(t, serveEnv(database, rig.ServeIssuer(t, issuer)), img.cmd...)
	p, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), nil, line[0], line[1:]...)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop() })
	service := process{p}
	address := "http://" + service.await(t, `"msg":"serving","address":"([^"]+)"`)
	require.NoError(t, p.AwaitReady(t.Context(), address))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^Uid:\t65532\t65532\t65532\t65532$`, string(status))
	require.Regexp(t, `(?m)^Gid:\t65532\t65532\t65532\t65532$`, string(status))

	require.Equal(t, `{"results":[{"status":"success"}]}`, upload(t, issuer, address, 1))
	require.Equal(t, 0, p.Stop())
}
