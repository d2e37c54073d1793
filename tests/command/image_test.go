package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
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
	if output, err := exec.Command("chroot", "/", "true").CombinedOutput(); err != nil {
		rig.Unable(t, "the image, because chroot is not permitted: "+string(bytes.TrimSpace(output)))
	}
	source := copySource(t)
	demo, err := os.ReadFile(filepath.Join(demoPolicies(t), "lists-and-todos.yaml"))
	require.NoError(t, err)
	write(t, filepath.Join(source, "policies", "app.yaml"), string(demo))
	img := buildImage(t, source)

	require.Equal(t, []string{"LICENSE", "THIRD_PARTY_LICENSES", "etc/ssl/certs/ca-certificates.crt", "policies/app.yaml", "postern"}, filesIn(t, img.root))
	want, err := os.ReadFile(binary)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(img.root, "postern"))
	require.NoError(t, err)
	require.True(t, slices.Equal(want, got), "the image has the release's binary")
	licences, err := os.ReadFile(filepath.Join(img.root, "THIRD_PARTY_LICENSES"))
	require.NoError(t, err)
	require.Contains(t, string(licences), "github.com/jackc/pgx/v5")

	postern := func(databaseURL string, args ...string) *exec.Cmd {
		line := img.command(t, []string{"DATABASE_URL=" + databaseURL}, args...)
		return exec.Command(line[0], line[1:]...)
	}
	database := requireCommands(t, postern, "/policies")
	output, err := postern("", "policy", "test", "--schema", "/policies/app.yaml").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "use a database of yours with --database", "there is no Postgres in the image")
	serveImage(t, img, database)
	serveMounted(t, img, database)
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
	env := serveEnv(database, rig.ServeIssuer(t, issuer))
	p, address := startImage(t, img.command(t, env, img.cmd...))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^Uid:\t65532\t65532\t65532\t65532$`, string(status))
	require.Regexp(t, `(?m)^Gid:\t65532\t65532\t65532\t65532$`, string(status))
	alive, err := http.Get(address + "/livez")
	require.NoError(t, err)
	require.NoError(t, alive.Body.Close())
	require.Equal(t, http.StatusOK, alive.StatusCode)
	require.Equal(t, `{"results":[{"status":"success"}]}`, upload(t, issuer, address, 1))

	line := img.command(t, env, "doctor")
	findings, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	t.Logf("doctor in the image, %v: %s", err, findings)
	require.Contains(t, string(findings), "errors: 0, ")
	require.Equal(t, 0, p.Stop())
}

// serveMounted runs the image as Kubernetes does: its file system is read-only, and other
// policies are mounted over its own.
func serveMounted(t *testing.T, img image, database *rig.Database) {
	t.Helper()
	if output, err := exec.Command("unshare", "--mount", "mount", "--bind", t.TempDir(), t.TempDir()).CombinedOutput(); err != nil {
		rig.Omit(t, "the image with mounted policies, because mounts are not permitted: "+string(bytes.TrimSpace(output)))
		return
	}
	policies := dataDir(t)
	write(t, filepath.Join(policies, "mounted.yaml"), "tables: {lists: {allow: all, rules: [{name: mounted, check: 'false', code: MOUNTED, message: mounted}]}}\n")
	require.NoError(t, os.Chmod(filepath.Join(policies, "mounted.yaml"), 0o644))
	issuer, err := local.OpenIssuer(t.TempDir())
	require.NoError(t, err)
	const mount = `mount --bind "$0" "$0" && mount --bind "$1" "$0/policies" && mount -o remount,bind,ro "$0" && shift && exec "$@"`
	line := append([]string{"unshare", "--mount", "sh", "-c", mount, img.root, policies}, img.command(t, serveEnv(database, rig.ServeIssuer(t, issuer)), img.cmd...)...)
	p, address := startImage(t, line)
	require.Contains(t, upload(t, issuer, address, 2), `"error_code":"MOUNTED"`)
	require.Equal(t, 0, p.Stop())
}

// startImage returns once the image's service is ready.
func startImage(t *testing.T, line []string) (p process, address string) {
	t.Helper()
	running, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), nil, line[0], line[1:]...)
	require.NoError(t, err)
	t.Cleanup(func() { running.Stop() })
	p = process{running}
	address = "http://" + p.await(t, `"msg":"serving","address":"([^"]+)"`)
	require.NoError(t, p.AwaitReady(t.Context(), address))
	return p, address
}
