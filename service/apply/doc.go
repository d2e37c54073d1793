// Package apply puts a user's transactions into Postgres.
//
// # One transaction
//
// A client's transaction becomes a plan: statements whose identifiers come from
// the catalogue and whose values are parameters. The plan is sent as one batch
// without BEGIN, which Postgres runs as one implicit transaction and answers in
// one round trip:
//
//	1  insert the receipt        as the login role; a second arrival fails here
//	2  take the user's role and claims, set the timeouts
//	3  the operations, in order
//	4  set constraints all immediate, so that no error is left for the commit
//
// The first statement that fails names the operation, and everything is rolled
// back. An error with an SQLSTATE therefore means that nothing was written. Any
// other error after sending means that nobody knows; the client sends the
// transaction again, and the receipt tells.
//
// # Outcomes
//
// classify turns what Postgres said into one of the design's outcomes, in one
// place. A transaction is fatal only where the error is known to be the write's
// own fault, and only after the rejected write has been stored.
//
// # Trust
//
// The login role has no rights on the application's tables. Statements run as
// the role the identity carries, which the verifier took from an allow-list.
// UPDATE and DELETE that touch no row ask postern.untouched, a function of the
// schema's owner, whether row-level security hid the row.
package apply
