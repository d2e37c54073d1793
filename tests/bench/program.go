package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"postern/tests/rig"
)

// which is one of the programs.
type which int

const (
	postern which = iota
	floorProgram
	limitProgram
	beforeProgram    // another build of Postern
	referenceProgram // PowerSync's reference server
	allPrograms
)

func (w which) String() string {
	return [...]string{"Postern", "floor", "limit", "before", "reference server"}[w]
}

// programs are those that are compared, Postern first.
type programs []which

// names are those of the programs.
func (p programs) names() string {
	names := make([]string, len(p))
	for i, which := range p {
		names[i] = which.String()
	}
	return strings.Join(names, ", ")
}

var (
	before    string // the binary of the other build of Postern, if it is compared
	reference string // the folder of PowerSync's reference server, if it is compared
	pooled    bool   // PgBouncer is between Postgres and each program but the limit
)

// compared are the programs of this run.
func compared() programs {
	switch {
	case before != "":
		return programs{postern, beforeProgram, limitProgram}
	case pooled: // which keeps none of the floor's statements
		return programs{postern, limitProgram}
	case reference != "":
		return programs{postern, floorProgram, limitProgram, referenceProgram}
	}
	return programs{postern, floorProgram, limitProgram}
}

// program is one of the programs, running.
type program struct {
	process   *rig.Process
	url       string
	proxy     *rig.Proxy // to the database; nil if the program talks to it directly
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
func (s *stage) start(ctx context.Context, which which, delay time.Duration) (p program, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	binary, database := s.binary, s.loginURL
	switch which {
	case limitProgram:
		database = s.postgres.OwnerURL("postgres") + fmt.Sprintf("&pool_max_conns=%d", poolSize)
	case beforeProgram:
		binary, database = before, strings.Replace(database, "/postgres?", "/before?", 1)
	case referenceProgram:
		return s.startReference(ctx)
	}
	if s.pooler != nil && which != limitProgram {
		database = s.pooler.Through(database)
	}
	if delay > 0 {
		u, err := url.Parse(database)
		if err != nil {
			return p, err
		}
		if p.proxy, err = rig.OpenProxy(u.Host, rig.ProxyOptions{RoundTrip: delay, CountParsed: true}); err != nil {
			return p, err
		}
		if database, err = p.proxy.URL(database); err != nil {
			return p, err
		}
	}
	output := filepath.Join(s.dir, which.String()+".log")
	if which == postern || which == beforeProgram {
		p.process, p.url, err = rig.Serve(ctx, output, binary, database, s.keys, s.policies)
		return p, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, err
	}
	environment := []string{floorEnv + "=" + s.keys + "/dev/jwks.json"}
	if which == limitProgram {
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

// measure reports all cells of one delay, and returns the peak memory of each program.
func (s *stage) measure(ctx context.Context, compared programs, e effort, delay time.Duration, report func(cell)) (peaks [allPrograms]int64, err error) {
	var running [allPrograms]program
	for _, i := range compared {
		if running[i], err = s.start(ctx, i, delay); err != nil {
			return peaks, fmt.Errorf("starting %v: %w", i, err)
		}
		defer running[i].close()
		for _, shape := range shapes {
			if _, err := load(ctx, running[i], s.tokens, slices.Max(e.connections), shape, warmUp); err != nil {
				return peaks, fmt.Errorf("%v: %w", i, err)
			}
		}
	}
	for _, n := range e.connections {
		for _, shape := range shapes {
			c := cell{compared: compared, delay: delay, connections: n, shape: shape}
			for round := range e.rounds {
				for turn := range compared {
					i := compared[(round+turn)%len(compared)]
					if err := s.slice(ctx, running[i], &c, i, e.slice); err != nil {
						return peaks, fmt.Errorf("%v at %d connections, %v: %w", i, n, shape, err)
					}
				}
			}
			report(c)
		}
	}
	for _, i := range compared {
		peaks[i] = peakMemory(running[i].process.PID())
	}
	return peaks, nil
}

// slice loads a program for a while and adds what it did to the cell.
func (s *stage) slice(ctx context.Context, p program, c *cell, which which, d time.Duration) error {
	before, err := s.spent(ctx, p)
	if err != nil {
		return err
	}
	got, err := load(ctx, p, s.tokens, c.connections, c.shape, d)
	if err == nil && got.requests == 0 {
		err = errors.New("no request was answered in time")
	}
	if err != nil {
		return err
	}
	after, err := s.spent(ctx, p)
	m := &c.measured[which]
	m.slices = append(m.slices, got)
	m.cpu += after.cpu - before.cpu
	for pid, cpu := range after.backends {
		m.postgres += cpu - before.backends[pid]
	}
	m.roundTrips += after.roundTrips - before.roundTrips
	m.parsed += after.parsed - before.parsed
	return err
}

// spending is what a program, and Postgres for all programs, have spent so far.
type spending struct {
	cpu                time.Duration
	backends           map[int]time.Duration // CPU times of the processes of Postgres; one that ends takes its own with it
	roundTrips, parsed int64
}

func (s *stage) spent(ctx context.Context, p program) (all spending, err error) {
	all = spending{cpu: cpuTime(p.process.PID()), backends: map[int]time.Duration{}}
	if p.proxy != nil {
		all.roundTrips, all.parsed = p.proxy.RoundTrips(), p.proxy.Parsed()
	}
	err = s.asOwner(ctx, func(owner *pgx.Conn) error {
		rows, err := owner.Query(ctx, `select pid from pg_stat_activity where pid <> pg_backend_pid()`)
		if err != nil {
			return err
		}
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		for _, pid := range pids {
			all.backends[pid] = cpuTime(pid)
		}
		return err
	})
	return all, err
}
