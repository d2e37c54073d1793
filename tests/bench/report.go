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
	compared    programs
	delay       time.Duration
	connections int
	shape       shape
	measured    [allPrograms]measured
}

// measured is what one program did in a cell. Each figure is the median over the slices.
type measured struct {
	slices     []slice
	cpu        time.Duration
	postgres   time.Duration // CPU time of Postgres meanwhile
	roundTrips int64         // 0 if no proxy counted them
	parsed     int64         // statements that Postgres parsed; 0 if no proxy counted them
}

func (m measured) requests() (n int) {
	for _, s := range m.slices {
		n += s.requests
	}
	return n
}

func (m measured) perSecond() float64 {
	return m.median(slice.perSecond)
}

// milliseconds is the latency that a share q of the requests stays below.
func (m measured) milliseconds(q float64) float64 {
	return m.median(func(s slice) float64 { return float64(s.quantile(q)) / float64(time.Millisecond) })
}

func (m measured) median(of func(slice) float64) float64 {
	var values []float64
	for _, s := range m.slices {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// throughput is Postern's share of another program's requests a second: the median
// over the pairs of slices that ran one after the other, the least and the greatest.
func (c cell) throughput(other which) (median, least, greatest float64) {
	ratios := make([]float64, len(c.measured[postern].slices))
	for i := range ratios {
		ratios[i] = c.measured[postern].slices[i].perSecond() / c.measured[other].slices[i].perSecond()
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]
}

func (p programs) printHeader(w io.Writer) {
	fmt.Fprintf(w, "| added delay | connections | transactions × operations | req/s: %s |", p.names())
	for _, other := range p[1:] {
		fmt.Fprintf(w, " **÷ %v** (least–greatest) |", other)
	}
	fmt.Fprintf(w, " p50 ÷ %[1]v | p99 ÷ %[1]v | p50, ms | p99, ms | CPU, µs/req | Postgres' CPU, µs/req | round trips/req | parsed/req |\n", p[1])
	fmt.Fprintln(w, strings.Repeat("|--:", 11+len(p))+"|")
}

func (c cell) print(w io.Writer) {
	// each joins a figure of each program.
	each := func(figure func(measured) string) string {
		var figures []string
		for _, i := range c.compared {
			figures = append(figures, figure(c.measured[i]))
		}
		return strings.Join(figures, ", ")
	}
	fmt.Fprintf(w, "| %v | %d | %v | %s |", c.delay, c.connections, c.shape, each(func(m measured) string { return fmt.Sprintf("%.0f", m.perSecond()) }))
	for _, other := range c.compared[1:] {
		median, least, greatest := c.throughput(other)
		fmt.Fprintf(w, " **%.2f** (%.2f–%.2f) |", median, least, greatest)
	}
	p, other := c.measured[postern], c.measured[c.compared[1]]
	fmt.Fprintf(w, " %.2f | %.2f | %.2f | %.2f |", p.milliseconds(0.5)/other.milliseconds(0.5), p.milliseconds(0.99)/other.milliseconds(0.99), p.milliseconds(0.5), p.milliseconds(0.99))
	counted := func(count func(measured) int64) string {
		return each(func(m measured) string {
			if m.roundTrips == 0 {
				return "–"
			}
			return fmt.Sprintf("%.2f", float64(count(m))/float64(m.requests()))
		})
	}
	fmt.Fprintf(w, " %s | %s | %s | %s |\n", each(func(m measured) string { return microseconds(m.cpu, m.requests()) }),
		each(func(m measured) string { return microseconds(m.postgres, m.requests()) }),
		counted(func(m measured) int64 { return m.roundTrips }), counted(func(m measured) int64 { return m.parsed }))
}

// microseconds is a share of a CPU time, or a question mark if the system does not tell it.
func microseconds(cpu time.Duration, shares int) string {
	if cpu == 0 {
		return "?"
	}
	return strconv.FormatInt((cpu / time.Duration(shares)).Microseconds(), 10)
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
