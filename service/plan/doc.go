// Package plan turns a transaction, the identity of its user, the policies and the
// catalogue into statements. It is pure: it sends nothing, it reads no clock, and
// the same input gives the same plan.
//
// # The steps
//
// A transaction becomes a write for each operation (draft.go), in the order that
// foreign keys need (order.go). A write knows its table, its columns and its values
// in Postgres' text form. Rules that need only what was sent are evaluated here; the
// others become Checks: the queries that read what they need, and the evaluation of
// the answers (checks.go, lookup.go). If what the policy sets needs the stored row or a
// lookup, the rest of these steps waits for it (sets.go). Each write then becomes one statement
// (statement.go), in which identifiers come from the catalogue and values are
// parameters.
//
// Rules over the whole transaction that look at rows as they will be have queries of their
// own, before all statements and after them (each.go), and are evaluated on the answers
// (whole.go).
//
// The statement of a write depends on its policy, its kind and its columns alone, unless
// the policy has a conflict strategy, a history or rules that need rows. Such a statement
// is rendered once, and remembered for one policy set and one catalogue (shapes.go).
//
// # Portions
//
// The statements of a long request take too much memory. If there is no room for those of a
// transaction, an Order keeps none of them. It plans the operations again, portion by
// portion, when they are locked and when they are sent (portions.go). So the first time
// only finds what rejects the transaction, its tables and its order.
//
// # Guards
//
// What a policy demands of the stored row is a condition in the statement wherever
// SQL can express it: the owner, immutable columns, the conflict strategy. If a
// guard fails, the statement touches no row, and asks postern.explain_no_row why in
// the same round trip.
//
// # Orders
//
// A client's database has no foreign keys, so a device may insert a child before its
// parent. If the client's order cannot work, the plan has two orders: that of the
// foreign keys, and the client's own as the fallback. It is found with hashes of the
// keys' values (order.go).
//
// Operations are not merged into multi-row statements: triggers and row-level
// security would not see the rows that were written before.
package plan
