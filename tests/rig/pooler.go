package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"postern/service/ledger"
	"postern/service/local"
)

// poolerEnv puts PgBouncer, in transaction mode, between Postern and Postgres in
// all tests of a run. POSTERN_TEST_POOLER=1 takes the installed one, and uses no
// prepared statements. The path of a PgBouncer from version 1.21 on takes that one,
// which keeps prepared statements, and Postern names its statements.
const poolerEnv = "POSTERN_TEST_POOLER"

// Pooled reports whether PgBouncer is between Postern and Postgres, without prepared
// statements.
func Pooled() bool { return bouncer != nil && !bouncer.named }

// Pooler is a running PgBouncer; its address stands in for the server's.
type Pooler struct {
	cmd     *exec.Cmd
	address string
	named   bool // it keeps prepared statements
}

// StartPooler starts a PgBouncer before a server, with its files in dir. Its path is empty
// for the installed one, which is taken to keep no prepared statements.
func StartPooler(ctx context.Context, dir, path string, server *local.Postgres) (*Pooler, error) {
	named := path != ""
	if !named {
		var err error
		if path, err = installedPooler(); err != nil {
			return nil, err
		}
	}
	upstream, err := url.Parse(server.OwnerURL("postgres"))
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	listener.Close()
	users, config := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini")
	if err := errors.Join(
		os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", ledger.Login, local.LoginPassword), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = md5
auth_file = %s
pool_mode = transaction
max_client_conn = 2000
default_pool_size = 20
server_idle_timeout = 5
ignore_startup_parameters = extra_float_digits
%s
`, upstream.Hostname(), upstream.Port(), port, users, preparedStatements(named)), 0o644)); err != nil {
		return nil, err
	}
	args := []string{config}
	if os.Geteuid() == 0 { // it refuses to run as root
		args = []string{"--user", "nobody", config}
	}
	p := &Pooler{cmd: exec.Command(path, args...), address: address, named: named}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			return p, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.Stop()
	return nil, errors.New("PgBouncer does not start")
}

func installedPooler() (path string, err error) {
	if path, err = exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	if path, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
		return "", fmt.Errorf("PgBouncer is not installed (Debian: apt-get install pgbouncer): %w", err)
	}
	return path, nil
}

// preparedStatements is the setting, which older versions do not know.
func preparedStatements(named bool) string {
	if named {
		return "max_prepared_statements = 200"
	}
	return ""
}

// Stop ends it.
func (p *Pooler) Stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Through replaces the server's address in a URL.
func (p *Pooler) Through(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // our own
	}
	u.Host = p.address
	if p.named {
		u.RawQuery += "&statements=named"
	}
	return u.String()
}
