// Package policies is the language of an application's rules: which tables its
// clients may write, what is set and checked on the way, and what happens if two
// writes conflict. Rules are written in YAML files in one folder, with expressions in
// CEL (https://cel.dev). A table that no file names is closed to clients.
//
// A Source is a folder that was read. Compiled against the catalogue it becomes a
// Set: every name in it exists in the database, and every expression has a type. A
// Set decides from what it receives. The package sends nothing to a database: stored
// rows, and the results of lookups, come from its callers.
package policies
