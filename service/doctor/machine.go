package doctor

import (
	"context"
	"fmt"

	"postern/service/limits"
)

// checkMemory compares the memory limit with the machine's memory, and with what one
// transaction and all bodies at once may take.
func checkMemory(_ context.Context, e *examination) error {
	if e.Memory == 0 {
		e.note("set GOMEMLIMIT, such as GOMEMLIMIT=230MiB on a machine with 256 MB", "the process has no memory limit, so request bodies are bounded without regard to the machine's memory")
		return nil
	}
	if e.Available > 0 && e.Memory > e.Available {
		e.fail("unset GOMEMLIMIT: it is then 90 % of the memory. Or give the machine more", "GOMEMLIMIT is %s, and this container (cgroup) or machine has %s: under load the kernel ends the process", limits.Bytes(e.Memory), limits.Bytes(e.Available))
	}
	fits := fmt.Sprintf("POSTERN_BODY_LIMIT=%d, or give the machine more memory", limits.Machine{Memory: e.Memory}.Body())
	switch transaction := limits.Transaction(e.BodyLimit); {
	case transaction > e.Memory:
		e.fail(fits, "one transaction of %s, the longest body, may take %s, and the process may take %s", limits.Bytes(e.BodyLimit), limits.Bytes(transaction), limits.Bytes(e.Memory))
	case e.BodyLimit > e.BodyBudget:
		e.warn(fits, "one body may have %d bytes, and %d bytes of memory allow %d bytes of bodies at once: a second upload waits, and a large one, which may take %s, may exhaust the memory", e.BodyLimit, e.Memory, e.BodyBudget, limits.Bytes(transaction))
	}
	return nil
}
