// Package apply puts a user's transactions into Postgres.
//
// # One round trip
//
// A client's transaction becomes a plan: statements whose identifiers come from
// the catalogue and whose values are parameters. The plans of a request are sent
// as one pipeline without BEGIN, which Postgres runs as one implicit transaction
// and answers in one round trip:
//
//	1  the bounds of time, the user's claims, their role's own settings
//	2  the receipts                   as the login role; a second arrival fails here
//	3  the rejected writes            those that the policies have turned down; held ones
//	                                  whose device has moved on are closed
//	4  the user's role, and PostgREST's pre-request function
//	5  each transaction's operations  with deferrable constraints deferred,
//	                                  and checked at its end
//
// Operations are not merged into statements of several rows: in such a statement
// triggers and the subqueries of row-level security do not see the rows before,
// so that a policy which counts would count wrong. Operations alike are parsed
// once and bound for each, which gains more and changes nothing.
//
// What a policy asks of the stored row stands in the statement where it can: who
// owns it, what has changed meanwhile, which of two writes is the newer. Where no
// row is touched, the same statement finds out which condition did not hold.
//
// # Two round trips
//
// Rules that need the stored row, or a lookup, are asked after the operation was
// made: the database transaction is an open one, the rows are read before and
// after each operation in the same pipeline, and once all rules agree it is
// committed, in a second round trip. So rules see what was really there and what
// really will be, with the effects of earlier operations, defaults and triggers.
// Where several rows are needed they are locked first, in the order of their
// keys, so that no two requests lock them crosswise.
//
// Rules in Go run before the operations of their transaction, in an open database
// transaction too, with as many round trips as they make.
//
// # Replays
//
// What the team applies after all goes the same way, with the closing of its
// record in the place of the receipts and rejected writes.
//
// # When a step fails
//
// The first step that fails names the transaction and the operation, and
// everything is rolled back. Those before it are sent again, together with its
// rejection, and then those after it, so that each has the outcome it would have
// had alone and in order. An error with an SQLSTATE therefore means that nothing
// was written. After any other error nobody knows: it is tried again, here and
// then by the client, and the receipt tells.
//
// # Outcomes
//
// classify turns what Postgres said into one of the design's outcomes, in one
// place. A transaction is fatal only where the error is known to be the write's
// own fault, and its result is given only when the commit that holds the
// rejected write has been answered.
//
// # Trust
//
// The login role has no rights on the application's tables. Operations run as
// the role the identity carries, which the verifier took from an allow-list. On
// tables with row-level security or with conditions on the stored row, UPDATE and
// DELETE that touch no row ask postern.explain_no_row, a function of the schema's owner,
// why: the row is hidden, or not there, or has been changed by another writer.
package apply
