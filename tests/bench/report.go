package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cell is one line of the report: the programs under the same load, in slices that
// took turns.
type cell struct {
	delay       time.Duration
	connections int
	shape       shape
	programs    [3]measured
}

// measured is what one program did in a cell.
type measured struct {
	slices     []slice
	cpu        time.Duration
	roundTrips int64 // 0 where no proxy counted them
}

func (m measured) requests() (n int) {
	for _, s := range m.slices {
		n += s.requests
	}
	return n
}

func (m measured) perSecond() float64 {
	var took time.Duration
	for _, s := range m.slices {
		took += s.took
	}
	return float64(m.requests()) / took.Seconds()
}

func (m measured) all() (joined slice) {
	for _, s := range m.slices {
		joined.latencies = append(joined.latencies, s.latencies...)
	}
	slices.Sort(joined.latencies)
	return joined
}

// throughput is Postern's share of another program's requests a second: the median
// over the pairs of slices that ran one after the other, the least and the greatest.
func (c cell) throughput(other int) (median, least, greatest float64) {
	ratios := make([]float64, len(c.programs[posternIndex].slices))
	for i := range ratios {
		ratios[i] = c.programs[posternIndex].slices[i].perSecond() / c.programs[other].slices[i].perSecond()
	}
	slices.Sort(ratios)
	middle := len(ratios) / 2
	median = ratios[middle]
	if len(ratios)%2 == 0 {
		median = (ratios[middle-1] + ratios[middle]) / 2
	}
	return median, ratios[0], ratios[len(ratios)-1]
}

func printHeader(w io.Writer) {
	floor := names[floorIndex]
	fmt.Fprintf(w, "| added delay | connections | transactions × operations | req/s: Postern, %[1]s, limit | **÷ %[1]s** (least–greatest) | **÷ limit** (least–greatest) | p50 ÷ %[1]s | p99 ÷ %[1]s | p50, ms | p99, ms | CPU, µs/req: Postern, %[1]s | round trips/req: Postern, %[1]s |\n", floor)
	fmt.Fprintln(w, "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
}

func (c cell) print(w io.Writer) {
	postern, floor, limit := c.programs[posternIndex], c.programs[floorIndex], c.programs[limitIndex]
	p, f := postern.all(), floor.all()
	share := func(other int) string {
		median, least, greatest := c.throughput(other)
		return fmt.Sprintf("**%.2f** (%.2f–%.2f)", median, least, greatest)
	}
	ratio := func(q float64) float64 { return float64(p.quantile(q)) / float64(f.quantile(q)) }
	milliseconds := func(q float64) float64 { return float64(p.quantile(q)) / float64(time.Millisecond) }
	cpu := func(m measured) string {
		if m.cpu == 0 {
			return "?"
		}
		return strconv.FormatInt((m.cpu / time.Duration(m.requests())).Microseconds(), 10)
	}
	trips := func(m measured) string {
		if m.roundTrips == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", float64(m.roundTrips)/float64(m.requests()))
	}
	fmt.Fprintf(w, "| %v | %d | %v | %.0f, %.0f, %.0f | %s | %s | %.2f | %.2f | %.2f | %.2f | %s, %s | %s, %s |\n",
		c.delay, c.connections, c.shape, postern.perSecond(), floor.perSecond(), limit.perSecond(), share(floorIndex), share(limitIndex),
		ratio(0.5), ratio(0.99), milliseconds(0.5), milliseconds(0.99), cpu(postern), cpu(floor), trips(postern), trips(floor))
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most resident memory a process has had, in bytes; 0 where
// the system does not tell (it is Linux's).
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	match := peakLine.FindSubmatch(status)
	if match == nil {
		return 0
	}
	kilobytes, _ := strconv.ParseInt(string(match[1]), 10, 64) // only digits
	return kilobytes << 10
}

// cpuTime is what a process has spent so far, in steps of 10 ms; 0 where the
// system does not tell.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The fields after the program's name, which is in brackets: proc(5).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system, tick = 11, 12, 10 * time.Millisecond
	var ticks int64
	for _, i := range []int{user, system} {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * tick
}
