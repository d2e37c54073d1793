package doctor

import "context"

// checkMemory compares the longest body with what may be in memory at once.
func checkMemory(_ context.Context, e *examination) error {
	switch {
	case e.Memory == 0:
		e.note("set GOMEMLIMIT, such as GOMEMLIMIT=230MiB on a machine with 256 MB", "the process has no memory limit, so request bodies are bounded without regard to the machine's memory")
	case e.BodyLimit > e.BodyBudget:
		e.warn("lower POSTERN_BODY_LIMIT, or give the machine more memory", "one body may have %d bytes, and %d bytes of memory allow %d bytes of bodies at once: a second upload waits, and a large one may exhaust the memory", e.BodyLimit, e.Memory, e.BodyBudget)
	}
	return nil
}
