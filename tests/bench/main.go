// Bench compares Postern with a floor, the least that any program must do that
// answers the same requests, and with a limit, which only writes: see floor.go. From
// the module's root:
//
//	go run ./tests/bench          every cell, some 13 minutes
//	go run ./tests/bench -quick   shorter and noisier, in about a minute
//	go run ./tests/bench -direct  only the cells without added delay, some 4 minutes
//	go run ./tests/bench -against ./before
//	                              another build of Postern in the floor's place, with a
//	                              database of its own that its own migrate has prepared
//	go run ./tests/bench -reference ./powersync-nodejs-backend-todolist-demo
//	                              PowerSync's reference server, too, without added delay:
//	                              see reference.go
//	go run ./tests/bench -pooler  PgBouncer, the installed one, between Postgres and each
//	                              program but the limit
//	go run ./tests/bench -growth  how the cost grows with one thing at a time, some 10
//	                              minutes and 4 GB of disk: see growth.go. With
//	                              -series REGEXP only the tables whose name matches
//	go run ./tests/bench -receipts
//	                              what it costs to delete old receipts, some 3 minutes and
//	                              5 GB of disk: see receipts.go
//
// It prints a Markdown table: for each delay added to the database's round trip,
// number of connections and shape of request, the throughput of Postern divided
// by that of each other program, and the ratios of latencies to the first of them; CPU
// time of the program and of Postgres, database round trips and statements that Postgres
// parses, by request; and then the peak memory of each.
//
// The programs are processes of their own, on the same throwaway Postgres (which
// does not wait for its disk, so that the programs weigh more than in production),
// with the same demo tables under row-level security and the same pool of 32
// connections. Postern is `postern serve` as it is built, logging each request to a
// file. Their slices of load take turns, each program leading in turn, so
// that what else the machine does hits all. Each figure is the median over five slices;
// a ratio is the median over pairs of neighbouring slices. CPU times, round trips and
// parsed statements are means; they hardly depend on what else the machine does. Load, programs and Postgres share the machine: numbers of
// requests a second mean little, ratios much.
//
// Without added delay the programs talk to Postgres directly. With it they do so
// through rig.Proxy, which also counts round trips and parsed statements.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"postern/tests/rig"
)

var shapes = []shape{{1, 1}, {1, 10}, {1, 100}, {50, 1}}

// effort is what is measured, and how long: rounds of one slice for each program. Rounds
// are odd, because medians are the slice in the middle.
type effort struct {
	rounds      int
	slice       time.Duration
	delays      []time.Duration
	connections []int
	most        int // a series of growth ends here
}

var (
	full = effort{
		rounds: 5, slice: time.Second, connections: []int{1, 8, 32}, most: 10_000_000,
		delays: []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond},
	}
	quick = effort{
		rounds: 3, slice: 150 * time.Millisecond, connections: []int{1, 8, 32}, most: 100_000,
		delays: []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond},
	}
)

func main() {
	rig.KeepPostgres()
	beFloor()
	isQuick := flag.Bool("quick", false, "shorter and noisier, in about a minute")
	direct := flag.Bool("direct", false, "only without added delay")
	flag.StringVar(&before, "against", "", "another build of Postern, in the floor's place")
	flag.StringVar(&reference, "reference", "", "the folder of PowerSync's reference server; only without added delay")
	flag.BoolVar(&pooled, "pooler", false, "PgBouncer before Postgres; only without added delay")
	grows := flag.Bool("growth", false, "how the cost grows with one thing at a time")
	series := flag.String("series", "", "the tables of -growth whose name this regular expression matches")
	receipts := flag.Bool("receipts", false, "what it costs to delete old receipts")
	flag.Parse()
	e := full
	if *isQuick {
		e = quick
	}
	if *direct || reference != "" || pooled {
		e.delays = e.delays[:1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *grows:
		err = growth(ctx, os.Stdout, e, *series)
	case *receipts:
		err = deleteReceipts(ctx, os.Stdout, e.most)
	default:
		err = bench(ctx, os.Stdout, e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// beFloor runs this process as the floor or the limit if it was started as such.
func beFloor() {
	if keySet := os.Getenv(floorEnv); keySet != "" {
		fmt.Fprintln(os.Stderr, runFloor(os.Getenv("DATABASE_URL"), keySet))
		os.Exit(1)
	}
}

func bench(ctx context.Context, out io.Writer, e effort) (err error) {
	s, closeStage, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer closeStage()
	programs := compared()
	fmt.Fprintf(out, "Postern beside %s, %s, %d CPUs, %s/%s, %d slices of %v each.\n\n",
		programs[1:].names(), time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, e.rounds, e.slice)
	programs.printHeader(out)
	var peaks [allPrograms]int64
	for _, delay := range e.delays {
		peak, err := s.measure(ctx, programs, e, delay, func(c cell) { c.print(out) })
		if err != nil {
			return fmt.Errorf("with %v added: %w", delay, err)
		}
		for i := range peaks {
			peaks[i] = max(peaks[i], peak[i])
		}
	}
	fmt.Fprintf(out, "\nPeak resident memory, all of the above, at up to %d connections:", slices.Max(e.connections))
	for _, i := range programs {
		fmt.Fprintf(out, " %v %.1f MiB", i, float64(peaks[i])/(1<<20))
	}
	fmt.Fprintln(out)
	return nil
}
