package policies

import "postern/service/limits"

// Limits lists the bounds of this package that are constants.
func Limits() []limits.Limit {
	return []limits.Limit{
		{Name: "estimated steps of an expression", Value: limits.Count(maxCost), Reason: "A loop within a loop over a large transaction is beyond it. It belongs to the policies, which are to be valid on any machine"},
		{Name: "steps of an expression", Value: limits.Count(maxSteps), Reason: "Half a second of a core"},
		{Name: "steps of a transaction's expressions", Value: limits.Count(maxTransactionSteps) + ", and " + limits.Count(stepsPerOperation) + " for each operation", Reason: "Two seconds of a core, and what grows with the transaction"},
	}
}
