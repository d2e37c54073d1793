package policies

import (
	"math"
	"time"

	"postern/service/upload"
)

// Rate bounds the operations of each user: at most this many at once, refilled
// evenly over a duration. A RateLimiter keeps what each user has left.
type Rate struct {
	most  int
	per   time.Duration
	bytes *Rate // bounds the bytes of the operations in the same way; nil if any number may come
}

func (c *compiler) rate(r *rateRule, at place) *Rate {
	per, err := parseDuration(r.Per)
	if err != nil || per <= 0 {
		c.add(at.in("per").problem("%q is not a duration: write one like 30s, 1m, 1h or 3d", r.Per))
	}
	if r.Most < 1 {
		c.add(at.in("most").problem("write a whole number of operations, from 1 to %d", math.MaxInt32))
	}
	rate := &Rate{most: int(r.Most), per: per}
	if r.Bytes != nil {
		if *r.Bytes < 1 {
			c.add(at.in("bytes").problem("write a whole number of bytes, from 1 to %d", math.MaxInt32))
		}
		rate.bytes = &Rate{most: int(*r.Bytes), per: per}
	}
	return rate
}

// rates returns the rates that bound a transaction, with the operations or bytes that
// count against each.
func (s *Set) rates(operations []upload.Operation) map[*Rate]int {
	counts := map[*Rate]int{}
	count := func(rate *Rate, op upload.Operation) {
		if rate == nil {
			return
		}
		counts[rate]++
		if rate.bytes != nil {
			counts[rate.bytes] += size(op)
		}
	}
	for _, op := range operations {
		count(s.rate, op)
		table := s.tables[op.Table]
		if table == nil {
			table = s.rest
		}
		if table != nil {
			count(table.Rate, op)
		}
	}
	return counts
}

// size is the number of bytes of what an operation says.
func size(op upload.Operation) int {
	bytes := len(op.Table) + len(op.ID) + len(op.Metadata)
	for _, members := range [][]upload.Member{op.Data, op.Previous} {
		for _, m := range members {
			bytes += len(m.Name) + len(m.Value)
		}
	}
	return bytes
}
