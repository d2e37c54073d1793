package policies

import (
	"math"
	"time"

	"postern/service/upload"
)

// Rate bounds the operations of each user: at most this many at once, refilled
// evenly over a duration. A RateLimiter keeps what each user has left.
type Rate struct {
	most int
	per  time.Duration
}

func (c *compiler) rate(r *rateRule, at place) *Rate {
	per, err := time.ParseDuration(r.Per)
	if err != nil || per <= 0 {
		c.add(at.in("per").problem("%q is not a duration: write one like 30s, 1m or 1h", r.Per))
	}
	if r.Most < 1 {
		c.add(at.in("most").problem("write a whole number of operations, from 1 to %d", math.MaxInt32))
	}
	return &Rate{most: int(r.Most), per: per}
}

// rates returns the rates that bound a transaction, with the operations that count
// against each.
func (s *Set) rates(operations []upload.Operation) map[*Rate]int {
	counts := map[*Rate]int{}
	if s.rate != nil {
		counts[s.rate] = len(operations)
	}
	for _, op := range operations {
		table := s.tables[op.Table]
		if table == nil {
			table = s.rest
		}
		if table != nil && table.Rate != nil {
			counts[table.Rate]++
		}
	}
	return counts
}
