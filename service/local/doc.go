// Package local runs what a project has in the cloud on this machine: a Postgres
// with a provider's roles and functions, and an issuer of tokens. It also prepares a
// database for a PowerSync Service, and writes the Service's configuration. Dev mode,
// tests and commands that need a throwaway database use it. The running service does
// not.
package local
