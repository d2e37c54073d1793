package apply

import "postern/service/limits"

// Limits lists the bounds of this package.
func Limits() []limits.Limit {
	return []limits.Limit{
		{Name: "connections of one user", Value: "half of the pool", Reason: "So that no user keeps all others waiting"},
		{Name: "requests about rejected writes at once", Value: "1 of a user, a quarter of the pool in all", Reason: "An answer has up to 4 MiB, which are in memory until its client has read them. Others wait for their turn"},
		{Name: "time of a statement", Value: limits.Duration(statementTimeout), Reason: "A request of 25 s can still answer after it"},
		{Name: "wait for a lock", Value: limits.Duration(lockTimeout), Reason: "Whoever waits holds a connection. Then the device tries again"},
		{Name: "attempts in one request", Value: limits.Count(maxAttempts), Reason: "After clashes with others and lost connections, which are over in milliseconds; longer trouble is for the device to wait for"},
		{Name: "time until a transaction that fails by itself is rejected", Value: limits.Duration(giveUpAfter), Reason: "Longer than most repairs of a database, and short enough for a device that can upload nothing else"},
		{Name: "named statements of a connection", Value: limits.Count(maxStatements), Reason: "They take the database's memory: 40 to 60 kB each if the table has row-level security"},
		{Name: "failures that are remembered", Value: limits.Count(maxRemembered), Reason: "Some 200 bytes each. A device whose failure is forgotten waits a second, and no longer up to a minute"},
	}
}
