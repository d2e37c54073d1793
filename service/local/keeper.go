package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/go-json-experiment/json"
)

// KeepCommand is the argument with which StartPostgres runs this very binary again.
// The binary must then call Keep.
const KeepCommand = "keep-postgres"

// job is what a keeper reads from its standard input, as one line of JSON.
type job struct {
	Dir                       string
	Port                      int
	Reset, Throwaway, Logical bool
	MaxConnections            int
	UID, GID                  int
}

// keeperProcess is a keeper seen from the process that started it.
type keeperProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer // closing it, as the end of this process does, ends the keeper
}

// startKeeper runs this very binary again, as a keeper, and waits until its
// Postgres answers. A context that ends before that ends the keeper.
func startKeeper(ctx context.Context, j job) (*keeperProcess, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	task, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, KeepCommand)
	cmd.Dir = "/" // the server's user may not be allowed in our folder
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = ownGroup()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &keeperProcess{cmd, stdin}
	if _, err := stdin.Write(append(task, '\n')); err != nil {
		k.stop()
		return nil, fmt.Errorf("the process that looks after Postgres did not start: %w", err)
	}
	interrupt := context.AfterFunc(ctx, func() { _ = stdin.Close() })
	defer interrupt()
	report, _ := io.ReadAll(bufio.NewReader(stdout)) // it closes its end after one report
	if ctx.Err() != nil {
		k.stop()
		return nil, ctx.Err()
	}
	if problem := strings.TrimSpace(string(report)); problem != ready {
		k.stop()
		if problem == "" {
			problem = "the process that looks after Postgres ended at once"
		}
		return nil, errors.New(problem)
	}
	return k, nil
}

func (k *keeperProcess) stop() {
	_ = k.stdin.Close()
	_ = k.cmd.Wait()
}

const ready = "ready"

// errInterrupted is the error of a keeper that is ended before Postgres answers.
var errInterrupted = errors.New("interrupted")

// Keep makes this process the keeper of a Postgres. It reads its job from in, writes
// one line to out when Postgres answers, or why it does not, and returns when in ends,
// as it does when the process that started it ends in any way. Then Postgres is
// stopped. A caller must end the process after Keep: a download may still be running.
func Keep(in io.Reader, out io.WriteCloser) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the end of in is the signal
	signal.Ignore(syscall.SIGPIPE)                               // out and standard error may have ended before
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	var j job
	if err == nil {
		err = json.Unmarshal(line, &j)
	}
	if err == nil {
		end := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, lines)
			close(end)
		}()
		err = j.keep(out, end)
	}
	if err != nil {
		fmt.Fprintln(out, err)
	}
	return err
}

// keep runs Postgres until the end.
func (j job) keep(out io.WriteCloser, end <-chan struct{}) error {
	if err := j.stepDown(); err != nil {
		return err
	}
	unlock, err := lockFolder(j.Dir, end)
	if err != nil {
		return err
	}
	defer unlock()
	data := filepath.Join(j.Dir, "data")
	binaries, version, err := j.choosePostgres(data)
	if err != nil {
		return err
	}
	if err := stopOrphan(binaries, data); err != nil {
		return err
	}
	if j.Reset {
		if err := os.RemoveAll(data); err != nil {
			return fmt.Errorf("--reset: %w", err)
		}
	}
	if !hasServer(binaries) {
		fmt.Fprintf(os.Stderr, "No suitable Postgres is installed. Downloading Postgres %s to %s\n", version, binaries)
	}
	server := embeddedpostgres.NewDatabase(j.config(data, binaries, version))
	if err := startServer(server, binaries, end); err != nil {
		return j.explain(err, binaries)
	}
	fmt.Fprintln(out, ready)
	_ = out.Close()
	<-end
	return server.Stop()
}

// startServer returns early if the end comes during the download, which may take
// minutes. The rest takes seconds, and would leave a half-made database.
func startServer(server *embeddedpostgres.EmbeddedPostgres, binaries string, end <-chan struct{}) error {
	started := make(chan error, 1)
	go func() { started <- server.Start() }()
	select {
	case err := <-started:
		return err
	case <-end:
		if !hasServer(binaries) {
			return errInterrupted
		}
		return <-started
	}
}

func hasServer(binaries string) bool {
	_, err := exec.LookPath(filepath.Join(binaries, "bin", "pg_ctl"))
	return err == nil
}

// lockFolder waits for the keeper of an earlier run to finish.
func lockFolder(dir string, end <-chan struct{}) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("the data folder must belong to the user that runs Postgres: %w", err)
	}
	const patience, pause = 15 * time.Second, 50 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		if err = tryLock(file); err == nil {
			return func() { _ = file.Close() }, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("another run uses the data folder: stop it, or choose another folder (%s: %w)", path, err)
		}
		select {
		case <-time.After(pause):
		case <-end:
			return nil, errInterrupted
		}
	}
}

// stopOrphan ends a server whose keeper was killed before it could.
func stopOrphan(binaries, data string) error {
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	pgCtl := filepath.Join(binaries, "bin", "pg_ctl")
	if exec.Command(pgCtl, "status", "-D", data).Run() != nil {
		return nil // a stale file, which Postgres deals with
	}
	output, err := exec.Command(pgCtl, "stop", "-w", "-m", "fast", "-D", data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("stopping the server that an earlier run left: %w: %s", err, output)
	}
	return nil
}

func (j job) config(data, binaries string, version embeddedpostgres.PostgresVersion) embeddedpostgres.Config {
	parameters := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"timezone":                "UTC",
	}
	if j.Throwaway {
		parameters["fsync"], parameters["synchronous_commit"], parameters["full_page_writes"] = "off", "off", "off"
	}
	if j.Logical {
		parameters["wal_level"] = "logical"
		parameters["max_slot_wal_keep_size"] = "1GB" // for a PowerSync Service that does not come back
	}
	if j.MaxConnections != 0 {
		parameters["max_connections"] = strconv.Itoa(j.MaxConnections)
	}
	return embeddedpostgres.DefaultConfig().
		Version(version).Port(uint32(j.Port)).
		Username(owner).Password(ownerPassword).
		DataPath(data).RuntimePath(filepath.Join(j.Dir, "run")).CachePath(j.downloads()).
		BinariesPath(binaries).
		Encoding("UTF8").Locale(locale()).
		StartParameters(parameters).StartTimeout(30 * time.Second).
		Logger(io.Discard) // the text of a failure is in the error
}

// downloads is the folder of the archives that were downloaded: one for all data folders,
// in the user's cache, or in the data folder if the server's user has no cache here.
func (j job) downloads() string {
	if cache, err := os.UserCacheDir(); err == nil {
		shared := filepath.Join(cache, "postern")
		if os.MkdirAll(shared, 0o755) == nil {
			return shared
		}
	}
	return filepath.Join(j.Dir, "cache")
}

// locale is one that initdb finds on any machine of this system. With that of Windows,
// upper and lower change ASCII letters only.
func locale() string {
	switch runtime.GOOS {
	case "darwin":
		return "en_US.UTF-8"
	case "windows":
		return "C"
	}
	return "C.UTF-8"
}

// explain says what to do about a server that did not start.
func (j job) explain(err error, binaries string) error {
	if errors.Is(err, errInterrupted) {
		return err
	}
	if hasServer(binaries) {
		return fmt.Errorf("%w\nif the data in %s is broken, start over with --reset", err, j.Dir)
	}
	remedy := "install it (Debian: apt-get install postgresql; macOS: brew install postgresql@17), or connect to the network"
	if runtime.GOOS == "windows" {
		remedy = "connect to the network (on ARM, where there is no download, use WSL)"
	}
	return fmt.Errorf("no Postgres is installed here, and downloading one failed: %w: %s", err, remedy)
}
