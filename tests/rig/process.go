package rig

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"postern/service/local"
)

// BuildCommand builds the command postern into a file. It must be called from
// within the module.
func BuildCommand(ctx context.Context, file string) error {
	// Without the version control's stamp, which git refuses in a checkout of another user's.
	output, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", file, "postern").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the command: %w\n%s", err, output)
	}
	return nil
}

// Process is a program that runs beside us. What it prints goes into a file, so
// that reading it costs us nothing while it runs.
type Process struct {
	cmd    *exec.Cmd
	output string
	ended  chan struct{}
}

// StartProcess starts a program with additions to the environment. Stop or Kill
// it in the end.
func StartProcess(output string, env []string, program string, args ...string) (*Process, error) {
	file, err := os.Create(output)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &Process{cmd: exec.Command(program, args...), output: output, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is in its ProcessState
	}()
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is what the process has printed.
func (p *Process) Output() string {
	content, _ := os.ReadFile(p.output)
	return string(content)
}

// Await returns the pattern's last group once it is in the output.
func (p *Process) Await(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	var found []string
	err := p.poll(ctx, func() bool {
		found = pattern.FindStringSubmatch(p.Output())
		return found != nil
	})
	if err != nil {
		return "", fmt.Errorf("awaiting %q: %w", pattern, err)
	}
	return found[len(found)-1], nil
}

// AwaitReady returns once GET /readyz at a URL is answered with 200.
func (p *Process) AwaitReady(ctx context.Context, url string) error {
	return p.poll(ctx, func() bool {
		response, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// poll asks until it is told yes, the process has ended, or ctx has.
func (p *Process) poll(ctx context.Context, done func() bool) error {
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for {
		over := p.over()
		if done() {
			return nil
		}
		if over {
			return fmt.Errorf("the process ended: %s\n%s", p.cmd.ProcessState, p.Output())
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", ctx.Err(), p.Output())
		}
	}
}

func (p *Process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Stop asks the process to end, and returns its exit code when it has.
func (p *Process) Stop() int { return p.Signal(syscall.SIGTERM) }

// Kill ends the process at once, in the middle of whatever it does.
func (p *Process) Kill() { p.Signal(syscall.SIGKILL) }

// Signal sends a signal that ends the process, and returns its exit code.
func (p *Process) Signal(signal os.Signal) int {
	_ = p.cmd.Process.Signal(signal)
	return p.Wait()
}

// Wait returns the exit code of a process that ends by itself.
func (p *Process) Wait() int {
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

var serving = regexp.MustCompile(`"msg":"serving","address":"([^"]+)"`)

// Serve starts `postern serve` on a free loopback port, and returns it and its
// URL once it is ready. It believes the issuer of package local whose key set is
// below keys.
func Serve(ctx context.Context, output, binary, databaseURL, keys, policies string, env ...string) (p *Process, url string, err error) {
	env = append([]string{
		"DATABASE_URL=" + databaseURL, "POSTERN_LISTEN=127.0.0.1:0", "POSTERN_METRICS_LISTEN=127.0.0.1:0", "POSTERN_POLICIES=" + policies,
		"POSTERN_ISSUER=" + local.IssuerName, "POSTERN_JWKS_URL=" + keys + "/dev/jwks.json", "POSTERN_AUDIENCE=" + local.Audience,
	}, env...)
	p, err = StartProcess(output, env, binary, "serve")
	if err != nil {
		return nil, "", err
	}
	address, err := p.Await(ctx, serving)
	if err == nil {
		url = "http://" + strings.Replace(address, "[::]", "127.0.0.1", 1)
		err = p.AwaitReady(ctx, url)
	}
	if err != nil {
		p.Kill()
		return nil, "", err
	}
	return p, url, nil
}
