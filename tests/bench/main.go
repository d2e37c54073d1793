// Bench compares Postern with a floor, the least that any program must do that
// answers the same requests, and with a limit, which only writes: see floor.go. From
// the module's root:
//
//	go run ./tests/bench          every cell, some 10 minutes
//	go run ./tests/bench -quick   every cell, shorter and noisier, under a minute
//	go run ./tests/bench -direct  only the cells without added delay
//	go run ./tests/bench -against ./before
//	                              another build of Postern in the floor's place, with a
//	                              database of its own that its own migrate has prepared
//	go run ./tests/bench -reference ./powersync-nodejs-backend-todolist-demo
//	                              PowerSync's reference server in the floor's place: see
//	                              reference.go
//	go run ./tests/bench -growth  how the cost grows with one thing at a time, some 4
//	                              minutes: see growth.go
//
// It prints a Markdown table: for each delay added to the database's round trip,
// number of connections and shape of request, the throughput of Postern divided
// by that of the floor and of the limit, and the ratios of latencies to the floor; CPU
// time and database round trips a request; and then the peak memory of each.
//
// The programs are processes of their own, on the same throwaway Postgres (which
// does not wait for its disk, so that the programs weigh more than in production),
// with the same demo tables under row-level security and the same pool of 32
// connections. Postern is `postern serve` as it is built, logging each request to a
// file. Their slices of load take turns, each program leading in turn, so
// that what else the machine does hits all; the ratio is the median over pairs of
// neighbouring slices. Load, programs and Postgres share the machine: numbers of
// requests a second mean little, ratios much.
//
// Without added delay the programs talk to Postgres directly. With it they do so
// through rig.Proxy, which also counts the round trips.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"postern/policies"
	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

var (
	delays      = []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond}
	connections = []int{1, 8, 32}
	shapes      = []shape{{1, 1}, {1, 10}, {1, 100}, {50, 1}}
)

const (
	posternIndex, floorIndex, limitIndex = 0, 1, 2

	poolSize = 32 // so that no request waits for a connection
	users    = 8
	warmUp   = 500 * time.Millisecond
)

// names of the programs, by index.
var names = [3]string{"Postern", "floor", "limit"}

// What takes the floor's place, if anything does.
var (
	against   string // another build of Postern
	reference string // the folder of PowerSync's reference server
)

// effort is how long a cell is measured: rounds of one slice for each program.
type effort struct {
	rounds int
	slice  time.Duration
}

func main() {
	rig.KeepPostgres()
	if keySet := os.Getenv(floorEnv); keySet != "" {
		fmt.Fprintln(os.Stderr, runFloor(os.Getenv("DATABASE_URL"), keySet))
		os.Exit(1)
	}
	quick := flag.Bool("quick", false, "shorter and noisier, under a minute")
	direct := flag.Bool("direct", false, "only without added delay")
	flag.StringVar(&against, "against", "", "another build of Postern, in the floor's place")
	grows := flag.Bool("growth", false, "how the cost grows with one thing at a time")
	flag.StringVar(&reference, "reference", "", "the folder of PowerSync's reference server, in the floor's place")
	flag.Parse()
	if *direct {
		delays = delays[:1]
	}
	switch {
	case against != "":
		names[floorIndex] = "before"
	case reference != "":
		names[floorIndex] = "reference server"
	}
	e := effort{4, 1400 * time.Millisecond}
	if *quick {
		e = effort{2, 250 * time.Millisecond}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := bench
	if *grows {
		run = growth
	}
	if err := run(ctx, os.Stdout, e); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// stage is what all measurements share.
type stage struct {
	dir      string
	postgres *local.Postgres
	issuer   *local.Issuer
	keys     string // where the issuer's key set is, in front of /dev/jwks.json
	binary   string
	policies string
	loginURL string
	tokens   []string
}

func bench(ctx context.Context, out io.Writer, e effort) (err error) {
	s, closeStage, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer closeStage()
	fmt.Fprintf(out, "Postern beside %s, %d CPUs, %s/%s, %d slices of %v each.\n\n", strings.Join(names[1:], " and "), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, e.rounds, e.slice)
	printHeader(out)
	var peaks [3]int64
	for _, delay := range delays {
		if err := s.measure(ctx, out, e, delay, &peaks); err != nil {
			return fmt.Errorf("with %v added: %w", delay, err)
		}
	}
	fmt.Fprintf(out, "\nPeak resident memory, all of the above, at up to %d connections:", connections[len(connections)-1])
	for i, peak := range peaks {
		fmt.Fprintf(out, " %s %.1f MiB", names[i], float64(peak)/(1<<20))
	}
	fmt.Fprintln(out)
	return nil
}

func newStage(ctx context.Context) (s *stage, closeStage func(), err error) {
	dir, err := os.MkdirTemp("", "postern-bench-")
	if err != nil {
		return nil, nil, err
	}
	s = &stage{dir: dir}
	closers := []func(){func() { os.RemoveAll(dir) }}
	closeAll := func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	if err := os.Chmod(s.dir, 0o755); err != nil { // Postgres' user passes through it
		return nil, nil, err
	}
	s.binary = filepath.Join(s.dir, "postern")
	if err := rig.BuildCommand(ctx, s.binary); err != nil {
		return nil, nil, err
	}
	s.policies = filepath.Join(s.dir, "policies")
	if err := os.CopyFS(s.policies, policies.Demo()); err != nil {
		return nil, nil, err
	}
	s.postgres, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(s.dir, "postgres"), Throwaway: true, MaxConnections: 4 * poolSize})
	if err != nil {
		return nil, nil, err
	}
	closers = append(closers, s.postgres.Stop)
	if s.loginURL, err = local.PrepareDatabase(ctx, s.postgres, "postgres", supabase.Project); err != nil {
		return nil, nil, err
	}
	s.loginURL += fmt.Sprintf("&pool_max_conns=%d", poolSize)
	if err := s.prepareAgainst(ctx); err != nil {
		return nil, nil, err
	}
	if s.issuer, err = local.OpenIssuer(s.dir); err != nil {
		return nil, nil, err
	}
	keys := httptest.NewServer(s.issuer)
	closers = append(closers, keys.Close)
	s.keys = keys.URL
	for i := range users {
		token, err := s.issuer.Token(fmt.Sprint("user ", i), time.Now())
		if err != nil {
			return nil, nil, err
		}
		s.tokens = append(s.tokens, token)
	}
	return s, closeAll, nil
}

// prepareAgainst prepares a database for the other build.
func (s *stage) prepareAgainst(ctx context.Context) error {
	if against == "" {
		return nil
	}
	owner, err := pgx.Connect(ctx, s.postgres.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if _, err := owner.Exec(ctx, "create database before"); err != nil {
		return err
	}
	if err := local.PrepareProject(ctx, s.postgres, "before", supabase.Project); err != nil {
		return err
	}
	migrate := exec.CommandContext(ctx, against, "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+s.postgres.OwnerURL("before"))
	if output, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("%s migrate: %w\n%s", against, err, output)
	}
	return nil
}

// program is one of the programs, running.
type program struct {
	process   *rig.Process
	url       string
	proxy     *rig.Proxy // to the database; nil where it talks to it directly
	reference bool       // it takes one transaction a request
}

func (p program) close() {
	if p.process != nil {
		p.process.Stop()
	}
	if p.proxy != nil {
		p.proxy.Close()
	}
}

var (
	floorAt     = regexp.MustCompile(`floor at (\S+)`)
	referenceAt = regexp.MustCompile(`(Server is running)`)
)

// start runs one of the programs.
func (s *stage) start(ctx context.Context, which int, delay time.Duration) (p program, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	binary, database := s.binary, s.loginURL
	switch {
	case which == limitIndex:
		database = s.postgres.OwnerURL("postgres") + fmt.Sprintf("&pool_max_conns=%d", poolSize)
	case which == floorIndex && reference != "":
		return s.startReference(ctx)
	case which == floorIndex && against != "":
		binary, database = against, strings.Replace(database, "/postgres?", "/before?", 1)
	}
	if delay > 0 {
		u, err := url.Parse(database)
		if err != nil {
			return p, err
		}
		if p.proxy, err = rig.OpenProxy(u.Host, rig.ProxyOptions{RoundTrip: delay}); err != nil {
			return p, err
		}
		if database, err = p.proxy.URL(database); err != nil {
			return p, err
		}
	}
	output := filepath.Join(s.dir, names[which]+".log")
	if which == posternIndex || which == floorIndex && against != "" {
		p.process, p.url, err = rig.Serve(ctx, output, binary, database, s.keys, s.policies)
		return p, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, err
	}
	environment := []string{floorEnv + "=" + s.keys + "/dev/jwks.json"}
	if which == limitIndex {
		environment = append(environment, limitEnv+"=1")
	}
	p.process, err = rig.StartProcess(output, append(environment, "DATABASE_URL="+database), self)
	if err != nil {
		return p, err
	}
	address, err := p.process.Await(ctx, floorAt)
	p.url = "http://" + address
	return p, err
}

// measure prints all cells of one delay.
func (s *stage) measure(ctx context.Context, out io.Writer, e effort, delay time.Duration, peaks *[3]int64) error {
	var programs [3]program
	for i := range programs {
		p, err := s.start(ctx, i, delay)
		if err != nil {
			return fmt.Errorf("starting %s: %w", names[i], err)
		}
		defer p.close()
		programs[i] = p
		if _, err := load(ctx, p, s.tokens, connections[len(connections)-1], shape{1, 1}, warmUp); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
	}
	for _, n := range connections {
		for _, shape := range shapes {
			c := cell{delay: delay, connections: n, shape: shape}
			for round := range e.rounds {
				for turn := range programs {
					i := (round + turn) % len(programs)
					if err := s.slice(ctx, programs[i], &c, i, e.slice); err != nil {
						return fmt.Errorf("%s at %d connections, %v: %w", names[i], n, shape, err)
					}
				}
			}
			c.print(out)
		}
	}
	for i, p := range programs {
		peaks[i] = max(peaks[i], peakMemory(p.process.PID()))
	}
	return nil
}

// slice loads a program for a while and adds what it did to the cell.
func (s *stage) slice(ctx context.Context, p program, c *cell, which int, d time.Duration) error {
	m := &c.programs[which]
	cpu, trips := cpuTime(p.process.PID()), int64(0)
	if p.proxy != nil {
		trips = p.proxy.RoundTrips()
	}
	got, err := load(ctx, p, s.tokens, c.connections, c.shape, d)
	if err == nil && got.requests == 0 {
		err = errors.New("no request was answered in time")
	}
	if err != nil {
		return err
	}
	m.slices = append(m.slices, got)
	m.cpu += cpuTime(p.process.PID()) - cpu
	if p.proxy != nil {
		m.roundTrips += p.proxy.RoundTrips() - trips
	}
	return nil
}
