// Package limits has the bounds that follow from the machine's memory. Each is one rule
// with its reason. Bounds that are constants stand in the packages that keep them, and
// are listed there as Limits too.
//
// No bound follows from the cores. Go uses as many as the cgroup allows, and requests
// that wait take memory only.
package limits

import (
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Limit is a bound for the reference and for postern config.
type Limit struct {
	Name, Value, Reason string
	Setting             string // its key, if it is the default of a setting
}

// Machine is what a process may use.
type Machine struct {
	Memory  int64 // bytes
	Assumed bool  // nothing limits the process's memory
}

const (
	assumed     = 4 << 30
	requestSize = 14 << 10 // of the bodies' memory; measured, a small request that waits takes 8 times as much
	weight      = 400      // bytes of the bodies' memory that an operation takes, if its table has rules
	longestBody = 32 << 20
	most        = 20_000 // operations
)

// This returns the machine that the process runs on, by its memory limit. GOMEMLIMIT sets
// that, or else the command, to 90 % of the cgroup's or the system's memory.
func This() Machine {
	if memory := debug.SetMemoryLimit(-1); memory != math.MaxInt64 {
		return Machine{Memory: memory}
	}
	return Machine{Memory: assumed, Assumed: true}
}

// WithMemory returns a machine or container of so much memory, in bytes.
func WithMemory(total int64) Machine { return Machine{Memory: total / 10 * 9} }

func (m Machine) String() string {
	if m.Assumed {
		return Bytes(m.Memory) + " of memory, which is assumed"
	}
	return Bytes(m.Memory) + " of memory"
}

// Bodies is how many bytes of request bodies may be in memory at once, if one may have
// the length longest. A request may need 8 times its body, and half of the memory is for
// requests.
func (m Machine) Bodies(longest int) int64 { return max(m.Memory/16, int64(longest)) }

// Transaction is how many bytes of memory one transaction may take, if its body has so
// many: its share of the body, and one portion of its operations, however many it has.
func Transaction(body int64) int64 { return 8*body + 3<<19 }

// Request is how many bytes of Bodies a request takes at least.
func (Machine) Request() int64 { return requestSize }

// Body is the default length of the longest body in bytes: half of Bodies, in whole MiB.
func (m Machine) Body() int {
	const whole = 1 << 20
	return int(min((m.Bodies(0)/2+whole-1)/whole*whole, longestBody))
}

// Operations is how many operations one request may have by default.
func (m Machine) Operations() int { return min(m.Body()/weight, most) }

// Connections is how many connections of clients may be open at once.
func (m Machine) Connections() int { return int(m.Memory / (64 << 10)) }

// Tokens is how many bytes the tokens may take whose signature was verified.
func (m Machine) Tokens() int { return int(m.Memory / 64) }

// RatedUsers is how many users each rate of the policies remembers.
func (m Machine) RatedUsers() int { return int(m.Memory / (24 << 10)) }

// Limits lists the bounds that follow from the memory, if a body may have the length
// longest.
func (m Machine) Limits(longest int) []Limit {
	return []Limit{
		{Name: "bodies in memory", Value: Bytes(m.Bodies(longest)), Reason: "A sixteenth, or one of the longest: a request may need 8 times its body, and half of the memory is for requests. Beyond it, uploads are answered with 503 and Retry-After"},
		{Name: "requests at once", Value: Count(m.Bodies(longest) / m.Request()), Reason: fmt.Sprintf("Each counts as %s of the bodies, however small it is: while it waits for the database, it takes some 110 kB", Bytes(m.Request()))},
		{Name: "longest body", Setting: "POSTERN_BODY_LIMIT", Value: Bytes(int64(m.Body())), Reason: fmt.Sprintf("Half of the bodies in memory, rounded up to whole MiB; at most %s, half of the room of a user's rejected writes", Bytes(longestBody))},
		{Name: "operations of a request", Setting: "POSTERN_MAX_OPERATIONS", Value: Count(int64(m.Operations())), Reason: fmt.Sprintf("One for each %d bytes of the longest body, which is what an operation with rules counts as; at most %s, which can be written within the 25 s of a request", weight, Count(most))},
		{Name: "connections of clients", Value: Count(int64(m.Connections())), Reason: "One for each 64 KiB: one that is idle takes 22 kB, one with a request 110 kB. A connection beyond it is answered with 503"},
		{Name: "tokens that are remembered", Value: Bytes(int64(m.Tokens())), Reason: "A sixty-fourth, about 2 kB a token: to verify one again costs 0.1 ms of a core"},
		{Name: "users that a rate remembers", Value: Count(int64(m.RatedUsers())), Reason: "One for each 24 KiB, so that a rate takes less than a hundredth. Who is forgotten has the whole allowance again"},
	}
}

// Bytes is a number of bytes for people.
func Bytes(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return strconv.FormatFloat(math.Round(float64(n)/float64(unit.size)*10)/10, 'f', -1, 64) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// Count is a number for people, such as 20,000.
func Count(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", Count(n/1000), n%1000)
}

// Duration is a time for people, such as 30m.
func Duration(d time.Duration) string {
	return strings.NewReplacer("m0s", "m", "h0m0s", "h").Replace(d.String())
}
