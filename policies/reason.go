package policies

import (
	"errors"
	"regexp"
)

// evalError is the error of an expression that CEL could not evaluate. CEL's message may
// quote the value that was at fault.
type evalError struct {
	text string // of the expression
	err  error
}

func (e *evalError) Error() string { return e.text + ": " + e.err.Error() }

func (e *evalError) Unwrap() error { return e.err }

// celReasons are the parts of CEL's messages that quote no value.
var celReasons = regexp.MustCompile(`no such (overload|key|attribute|field)|out of range|division by zero|modulus by zero|overflow|type conversion error|error parsing regexp|regex program size|invalid RFC 3339 timestamp|invalid UTF-8|is not JSON|cannot hold|NaN values cannot be ordered`)

// Reason is the error without values of rows, for the log. Error has all of it, for the
// author of the rule.
func (e *RuleError) Reason() string {
	var failed *evalError
	if !errors.As(e.Err, &failed) {
		return e.Err.Error()
	}
	if reason := celReasons.FindString(failed.err.Error()); reason != "" {
		return failed.text + ": " + reason
	}
	return failed.text + ": it cannot be evaluated"
}
