package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// The owner of every database is a superuser. The password is no secret: the server
// listens on the loopback address alone.
const (
	owner         = "postgres"
	ownerPassword = "postgres"
)

// PostgresOptions says which Postgres to run.
type PostgresOptions struct {
	Dir            string // absolute; it holds the data, and a downloaded Postgres
	PreferPort     int    // used if it is free, else any free port
	Reset          bool   // delete the data first
	Throwaway      bool   // do not wait for the disk: a crash of the machine may lose the data
	Logical        bool   // allow logical replication
	MaxConnections int    // 0 is Postgres' default, 100
}

// Postgres is a running server on 127.0.0.1. A process of its own, the keeper,
// looks after it, and stops it when this process ends, however it ends.
type Postgres struct {
	port   int
	keeper *keeperProcess
}

// StartPostgres starts a server and returns when it answers. Data that is in the
// folder is kept. A binary that calls it must call Keep if its argument is KeepCommand.
//
// As root it runs the server as the user postgres, else nobody, because Postgres
// refuses to run as root; the folder then belongs to that user.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	job, err := prepare(o)
	if err != nil {
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	for try := 1; ; try++ {
		keeper, err := startKeeper(ctx, job)
		if err == nil {
			return &Postgres{job.Port, keeper}, nil
		}
		if !portTaken(err, job.Port) || try == maxTries || ctx.Err() != nil {
			return nil, fmt.Errorf("starting Postgres in %s: %w", o.Dir, err)
		}
		if job.Port, err = choosePort(0); err != nil { // another process has just taken it
			return nil, err
		}
	}
}

// maxTries is how many ports are tried, if other processes take them a moment before.
const maxTries = 3

// Stop ends the server and returns when it has ended.
func (p *Postgres) Stop() { p.keeper.stop() }

// OwnerURL is the URL by which the owner connects to a database.
func (p *Postgres) OwnerURL(database string) string { return p.URL(owner, ownerPassword, database) }

// URL is the URL by which a user connects to a database.
func (p *Postgres) URL(user, password, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func prepare(o PostgresOptions) (job, error) {
	uid, gid, err := serverUser()
	if err != nil {
		return job{}, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return job{}, fmt.Errorf("the data folder: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(o.Dir, uid, gid); err != nil {
			return job{}, fmt.Errorf("the data folder: %w", err)
		}
	}
	port, err := choosePort(o.PreferPort)
	if err != nil {
		return job{}, err
	}
	return job{
		Dir: o.Dir, Port: port, Reset: o.Reset, Throwaway: o.Throwaway, Logical: o.Logical, MaxConnections: o.MaxConnections,
		UID: uid, GID: gid,
	}, nil
}

// serverUser is the user that the server runs as: that of this process, or if that
// is root, postgres or nobody.
func serverUser() (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid(), nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return 0, 0, err
		}
		return uid, gid, nil
	}
	return 0, 0, errors.New("Postgres refuses to run as root, and there is no user postgres or nobody to run it as: run as an ordinary user, or create the user postgres")
}

// choosePort stays below the ports that the system gives to outgoing connections
// (from 32768 on Linux), because one of those may be taken a moment later.
func choosePort(preferred int) (int, error) {
	const first, last = 26000, 32767
	if preferred != 0 && portFree(preferred) {
		return preferred, nil
	}
	start := rand.IntN(last - first) // so that servers which start at the same moment hardly meet
	for i := range last - first {
		if port := first + (start+i)%(last-first); portFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free", first, last)
}

// portTaken reports whether a start failed because another process had the port, which
// it may have had for a moment only.
func portTaken(err error, port int) bool {
	return strings.Contains(err.Error(), "Address already in use") || strings.Contains(err.Error(), "already listening on port") || !portFree(port)
}

func portFree(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

// ReachableDir is a data folder that the server's user can reach: dir, or if a folder
// above dir is closed to that user (often root's home), one in /var/lib/postern.
func ReachableDir(dir string) string {
	if os.Geteuid() != 0 {
		return dir
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err == nil && info.Mode().Perm()&0o001 == 0 {
			sum := sha256.Sum256([]byte(dir))
			return filepath.Join("/var/lib/postern", hex.EncodeToString(sum[:8]))
		}
		if parent == filepath.Dir(parent) {
			return dir
		}
	}
}
