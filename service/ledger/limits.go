package ledger

import "postern/service/limits"

// Limits lists the bounds of this package.
func Limits() []limits.Limit {
	return []limits.Limit{
		{
			Name: "rejected writes of one user", Value: limits.Count(MaxRecords) + ", " + limits.Bytes(MaxRecordBytes),
			Reason: "They take the database's disk: an eighth of the 500 MB of a free database",
		},
	}
}
