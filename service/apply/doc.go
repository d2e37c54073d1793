// Package apply puts the transactions of a user into Postgres, and gives each one its
// outcome. What a statement says is decided in package plan.
//
// # One request
//
// A request (request.go) is who sends transactions, and the policies and tables by
// which they are planned. It is prepared once. If a transaction names a table or
// column that the catalogue lacks, the catalogue is read again, and the transactions
// are planned again.
//
// The loop (loop.go) then sends the pending transactions as one batch. The outcome of
// a batch selects the next step from one table, loop.after:
//
//	answer        committed: the batch has its results
//	readReceipts  some have a receipt: answer those, send the others
//	sendAlone     it is unknown which transaction failed, or they deadlock with others:
//	              send each by itself
//	sendEarlier   send those before the failed one first
//	rejectFailed  send the failed one again with its rejection, which is stored
//	retryFailed   the client has to send the failed one again
//
// So each transaction gets the outcome that it would have alone and in order.
//
// # The way of an attempt
//
// An attempt (attempt.go) collects steps, which are statements and what they belong to
// (steps.go). When it needs an answer, it sends the steps that it has in one round trip,
// and collects on. In the order in which it happens:
//
//	run                 the prologue; a connection; BEGIN, unless one round trip is enough
//	write               all that the transactions write:
//	  addLocks            locks, for all of them together
//	  addTransaction      each transaction, portion by portion; then what rules over the
//	                      whole transaction read
//	    complete            what comes before an operation that waits for rows is sent, and
//	                        the operation gets its statement (sets.go)
//	    addOperation        an operation, with what its rules read before and after it
//	  expectTables        the check that the tables are those of the catalogue
//	send                one round trip: rules are evaluated while their rows arrive, and
//	                    completed operations are proven
//	run                 COMMIT, in the last round trip
//
// If nothing waits for an answer, write sends nothing, and COMMIT ends the only round trip.
// A failed attempt is over. The next one is a new value, and differs in its manner.
//
// # One round trip
//
// Most batches are one pipeline (pipeline.go). It has no BEGIN: Postgres runs a pipeline as
// one implicit transaction. The steps, of which the first four are the prologue
// (prologue.go):
//
//	1  time limits, the user's claims, the settings of the user's role
//	2  the receipts, as the login role; a second arrival of a transaction fails here
//	3  the rejected writes, and the closing of held ones whose device went on
//	4  the user's role, and PostgREST's pre-request function
//	5  the operations of each transaction, with deferrable constraints deferred;
//	   the constraints are checked at its end
//
// A value whose text depends on the column's type, such as a boolean or a time, carries the
// type in the statement, which Postgres refuses if the column has another by now. Some
// operations would still do something else, without an error, if the catalogue was
// outdated: they leave out a generated column, count a row as missing because nobody
// hides rows, or send a value of a composite type. After them, and after all if the
// catalogue is over a minute old, one more step fails if their tables have changed since
// it was read (outdated.go). Then it is read again, and the batch planned again.
//
// The answers arrive together, when Postgres has run all steps, so they do not tell which
// step was slow. While a round trip of a traced request takes longer than 100 ms, another
// connection asks Postgres what the backend runs (watcher.go). The text that Postgres
// reports is that of a step, so the trace has the step's operation and table.
//
// # Named statements
//
// On a direct connection Postgres parses each statement once, and keeps its plan
// (statements.go). The pipeline that needs a statement first gives it a name, after the
// switch to the user's role. So the text of a statement is the same for the same work:
// whatever belongs to one user or one request is a parameter. Through a pooler, whose
// connections are not ours, statements have no name. Then a statement that equals the
// one before it is parsed once. Postgres makes one plan of it for all values, because
// planning takes longer than running. If the application's own queries are among the
// statements, Postgres decides, because their values may matter. The receipts have another
// statement then, which is shorter to plan.
//
// Postgres plans a named statement again if its tables or policies change, and it checks
// grants and row-level security as the role that runs it. The types of its parameters
// stay. So a failure that another type could cause counts only if the statement fails
// in the same way when it is parsed anew, in the next attempt of the same request.
//
// # Two round trips
//
// A rule may need the stored row or a lookup. Then the attempt begins a database
// transaction. Its pipeline reads what the rules need before and after each operation.
// The rules are evaluated on the answers, and COMMIT is the second round trip. So rules
// see the row as it really was and as it really will be, with the effects of earlier
// operations, defaults and triggers.
//
// What the policy sets may need the stored row or a lookup, too (sets.go). Then the first
// round trip reads them, and the statement is made of the answers. The second one sends the
// operations and COMMIT. It is a third one if rules need rows as well, or if several
// operations were made of answers at once: then it is checked before COMMIT that no
// operation has changed what a later one was made of. If one has, the attempt is repeated
// with a round trip for each such operation.
//
// A rule over a whole transaction has its lookups after the transaction's last operation,
// in the same pipeline. Transactions that concern the same order, say, wait for each other
// at a lock that comes right before these lookups.
//
// If several operations need rows, the rows are locked first, in the order of their
// keys, so that two requests do not deadlock. If Postgres rejects that statement, each
// operation locks its own row in the next attempt. This shows which operation caused it.
//
// Rules in Go (code.go) run before the operations of their transaction. They make
// round trips of their own.
//
// Rules in mode observe (observe.go) are evaluated like the others, and reject nothing.
// They lock no rows. If a query of theirs fails, the batch is sent again without it. What
// they would have rejected counts once their transaction is answered with success.
//
// # Portions
//
// A statement takes several times the memory of its operation. So the statements of a
// request are in memory at once only up to a portion: 2,000 operations, or 200 with rules
// or guards. The transactions that do not fit into it are planned again, portion by portion,
// in a database transaction with a round trip for each portion, and COMMIT is the last one.
// The locks still come first, for all operations together. The rules of an operation are
// evaluated as soon as its rows are read, so that the rows of one operation are in memory.
// If Postgres rejects a later operation, its error is the outcome, whatever a rule has said
// before: where a portion ends changes no outcome.
//
// # Waiting for locks
//
// Locks cost nothing until two requests want the same one. If a lock is not free within
// 200 ms, or in a deadlock, the attempt is repeated in another way (contention.go):
//
//   - For the next ten minutes, requests that touch several rows of the batch's tables
//     lock these first, in the order of their keys, in the same round trip. So they wait
//     in line, and not for each other.
//   - If they deadlock all the same, a trigger or a foreign key locks what no statement
//     names. Then requests in these tables run one at a time, behind one advisory lock.
//     One that has waited 5 s for it goes on without.
//   - The request waits for a lock for up to 5 s. At most a quarter of the pool's
//     connections wait so long, and half of these for one user. Who comes later waits
//     for a turn without a connection, in the order of arrival.
//
// So one locked row does not take all connections. A user gets at most half of the pool
// (share.go).
//
// # Transactions that no client sends
//
// A Single (single.go) is one transaction that the team replays or tries out. In place
// of the receipts it has statements of its caller, such as closing the record that is
// replayed. A rehearsal (rehearsal.go) does the same within a database transaction that
// the caller rolls back, and reports what each operation did to its row. There is no
// other code that predicts an outcome.
//
// # Failures
//
// The first step that fails ends the pipeline, and everything is rolled back. The step
// knows its transaction and operation. After an error with an SQLSTATE, nothing was
// written. After a lost connection it is unknown whether the commit took effect. Then
// the batch is sent again, and the receipts tell.
//
// A PL/pgSQL function that a connection has run keeps the types that columns had then. If
// it fails because of that, the connection's plans are discarded and the batch is sent
// again in one round trip. Otherwise the connection would fail until it is closed.
//
// Clashes and lost connections are tried again here, up to three times. A database that
// wakes up gets ten seconds. After that the client retries, and waits longer each time
// (failures.go).
//
// # Giving up
//
// No queue is frozen for ever by its own first transaction (giveup.go). Schema postern
// counts its failures, for all instances. After five failures with the same cause in 30
// minutes it is rejected: RULE_FAILED if a rule or its lookup cannot be evaluated,
// TIME_LIMIT_EXCEEDED if it does not fit into its time, or else UNCLASSIFIED_ERROR. The
// record has the reason. If the cause may be the server's, which is so for an error
// within a trigger, and for the time of fewer than 1000 operations, others must have
// written to the same tables meanwhile.
//
// Trouble of the server is not counted: connections, resources, locks, missing grants,
// SQLSTATE class 42, errors of row-level security policies, and errors of rules in Go.
//
// A transaction that did not fit into its request's time is sent alone the next time. If
// it has a receipt, it then gets two minutes, one transaction at a time: its client no
// longer waits, and receives the answer when it sends it again. Nobody else suffers: it
// takes one connection, and those who want the same rows retry.
//
// # Outcomes
//
// classify (outcome.go) is the one place where an error becomes an outcome. rejectionOf
// (rejection.go) gives a rejection its code, and complete (words.go) its message: a
// sentence for the device's user, in the client's names. What the application's own code
// raises keeps its words. A transaction is rejected only if the error is known to be
// caused by the write itself. An unknown error is retryable. The client receives a
// rejection only after the commit that stores the rejected write.
//
// A client of an older wire format (upload.Batch.StatusOnly) can neither keep a
// transaction for its app nor send the rest of a request. So nothing is left to its app,
// and a rejection never ends its request.
//
// # Trust
//
// The login role has no rights of its own on the application's tables. The operations
// run as the identity's role, which is one of its issuer's list. Receipts and rejected
// writes are written as the login role, before the switch to the user's role. The
// functions of schema postern that look at hidden rows work for the login role alone.
package apply
