package identity

import (
	"fmt"

	"postern/service/limits"
)

// Limits lists the bounds of this package that are constants.
func Limits() []limits.Limit {
	return []limits.Limit{
		{Name: "a token", Value: limits.Bytes(maxTokenBytes), Reason: "It fits into the headers. Providers' tokens have 1 or 2 kB"},
		{Name: "a key set", Value: fmt.Sprintf("%s, %d keys", limits.Bytes(maxKeySetBytes), maxKeys), Reason: "Issuers have a few keys, of less than 1 kB each"},
		{Name: "age of a key set that cannot be fetched", Value: limits.Duration(maxKeyAge), Reason: "For so long, a revoked key works if the issuer cannot be asked"},
		{Name: "questions about sessions at once", Value: fmt.Sprintf("%d, and %d about unknown sessions", maxAsks, maxStrangers), Reason: "The issuer's machine bears them, not this one"},
		{Name: "answers about sessions", Value: limits.Count(maxRemembered), Reason: "So many questions can hardly be asked in the 30 s that an answer holds. 150 bytes each"},
	}
}
