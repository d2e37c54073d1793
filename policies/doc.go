// Package policies holds the rules of an application: which tables its clients
// may write, what is set and checked on the way, and what happens where a write
// meets another one. Rules stand in YAML files in one folder, with expressions in
// CEL (https://cel.dev); what no file names is refused.
//
// A Source is a folder that was read; compiled against the catalogue it is a Set,
// in which every name exists and every expression has a type. A Set decides from
// what it is given; it never talks to the database itself.
package policies
