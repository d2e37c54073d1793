// Package doctor finds what is wrong around Postern: in the database, at the issuers of
// tokens, at the PowerSync Service, in the policies and on the machine.
//
// Each check is a function in the list below, and adds findings. A finding has a cause
// and a remedy, which is a command, SQL or a setting. Checks only read. Where the
// service itself decides something, a check asks the same function.
package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/identity"
)

// Severity says what a finding does to users.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // writes fail, or security is at risk
	Warning Severity = "warning" // it may fail later, or for some users
	Note    Severity = "note"    // it works, and could be better
)

// Finding is one thing that is wrong.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Cause    string   `json:"cause"`
	Remedy   string   `json:"remedy"`
}

// Setup is what is examined.
type Setup struct {
	DB       *pgxpool.Pool // as the service connects; nil if its URL is wrong
	TLS      string        // sslmode of its URL
	Issuers  []identity.Issuer
	Roles    []string       // the database roles that users write as
	Policies *policies.Live // nil if they cannot be loaded

	PowerSyncURL      string // empty if there is none
	PowerSyncAudience []string
	Minter            *identity.Minter // of tokens for users whose own the PowerSync Service refuses; nil if there is none
	Token             string           // of a user, to try; may be empty

	BodyLimit  int64 // bytes
	BodyBudget int64 // bytes of bodies that may be in memory at once
	Memory     int64 // the process's limit in bytes; 0 if there is none
	Available  int64 // bytes of the cgroup or the machine; 0 if unknown

	Transport http.RoundTripper
	Now       func() time.Time
}

// examination is a running one.
type examination struct {
	Setup
	check    string // the running one
	snapshot *catalog.Snapshot
	findings []Finding
}

// need is what a check cannot do without. If it is missing, another check has said why.
type need int

const (
	nothing need = iota
	database
	tables // of the catalogue
)

var checks = []struct {
	name    string
	needs   need
	atStart bool // cheap enough for the start of the service
	run     func(context.Context, *examination) error
}{
	{"database", nothing, false, connect},
	{"connection", database, true, checkConnection},
	{"server", database, true, checkServer},
	{"login-role", database, true, checkLoginRole},
	{"roles", database, true, checkRoles},
	{"schema-version", database, true, checkVersion},
	{"schema-postern", database, true, checkSchema},
	{"policies", tables, false, checkPolicies},
	{"lookups", tables, false, checkLookups},
	{"grants", tables, false, checkGrants},
	{"row-level-security", tables, true, checkRowSecurity},
	{"subjects", tables, true, checkSubjects},
	{"replication", tables, true, checkReplication},
	{"key-sets", nothing, false, checkKeySets},
	{"audiences", nothing, true, checkAudiences},
	{"token", nothing, false, checkToken},
	{"powersync", nothing, false, checkPowerSync},
	{"memory", nothing, true, checkMemory},
}

// Examine runs all checks. The result is in the order of the list.
func Examine(ctx context.Context, s Setup) []Finding {
	e := &examination{Setup: s}
	for _, c := range checks {
		e.run(ctx, c.name, c.needs, c.run)
	}
	return e.findings
}

// AtStart runs the cheap checks, on a database whose catalogue has just been read.
func AtStart(ctx context.Context, s Setup, snapshot *catalog.Snapshot) []Finding {
	e := &examination{Setup: s, snapshot: snapshot}
	for _, c := range checks {
		if c.atStart {
			e.run(ctx, c.name, c.needs, c.run)
		}
	}
	return e.findings
}

func (e *examination) run(ctx context.Context, name string, needs need, check func(context.Context, *examination) error) {
	if needs >= database && e.snapshot == nil {
		return
	}
	e.check = name
	if err := check(ctx, e); err != nil {
		e.warn("run `postern doctor` again; if the cause stays, look it up in the server's log", "this check could not be made: %v", err)
	}
}

func (e *examination) add(severity Severity, remedy, format string, args ...any) {
	e.findings = append(e.findings, Finding{e.check, severity, fmt.Sprintf(format, args...), remedy})
}

func (e *examination) fail(remedy, format string, args ...any) { e.add(Error, remedy, format, args...) }
func (e *examination) warn(remedy, format string, args ...any) {
	e.add(Warning, remedy, format, args...)
}
func (e *examination) note(remedy, format string, args ...any) { e.add(Note, remedy, format, args...) }

// Text is the findings for people.
func Text(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s (%s): %s\n", f.Severity, f.Check, indent(f.Cause))
		fmt.Fprintf(&b, "  remedy: %s\n", indent(f.Remedy))
	}
	return b.String()
}

func indent(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") }

// Count returns how many findings have a severity.
func Count(findings []Finding, severity Severity) (n int) {
	for _, f := range findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}
