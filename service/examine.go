package service

import (
	"context"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postern/policies"
	"postern/service/catalog"
	"postern/service/doctor"
	"postern/service/identity"
	"postern/service/limits"
)

// Examination returns what `postern doctor` examines. db and live may be nil.
func (c Config) Examination(db *pgxpool.Pool, issuers []identity.Issuer, live *policies.Live) doctor.Setup {
	machine := limits.This()
	memory := machine.Memory
	if machine.Assumed {
		memory = 0
	}
	minter, err := c.minter()
	if err != nil {
		minter = nil // Validate says so
	}
	available, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		available = 0
	}
	return doctor.Setup{
		DB: db, TLS: c.sslMode(), Issuers: issuers, Roles: rolesOf(issuers), Policies: live,
		PowerSyncURL: c.PowerSyncURL, PowerSyncAudience: c.PowerSyncAudience, Minter: minter,
		BodyLimit: int64(c.BodyLimit), BodyBudget: machine.Bodies(0), Memory: memory, Available: int64(min(available, math.MaxInt64)),
		Transport: http.DefaultTransport, Now: time.Now,
	}
}

// examine logs what the cheap checks find, once, on a database that is awake because its
// catalogue has just been read.
func (s *Service) examine(snapshot *catalog.Snapshot) {
	if s.examined {
		return
	}
	s.examined = true
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	findings := doctor.AtStart(ctx, s.cfg.Examination(s.db, s.issuers, s.policies), snapshot)
	for _, f := range findings {
		attributes := []any{"check", f.Check, "cause", f.Cause, "remedy", f.Remedy}
		switch f.Severity {
		case doctor.Error:
			s.logger.Error("the setup has a problem; `postern doctor` checks more", attributes...)
		case doctor.Warning:
			s.logger.Warn("the setup may have a problem; `postern doctor` checks more", attributes...)
		case doctor.Note:
			s.logger.Debug("the setup could be better", attributes...)
		}
	}
	s.logger.Debug("examined the setup", "findings", len(findings))
}

// sslMode is the sslmode of DATABASE_URL; prefer is the default of Postgres' clients.
func (c Config) sslMode() string {
	config, err := pgxpool.ParseConfig(c.DatabaseURL)
	if err != nil || config.ConnConfig.TLSConfig == nil {
		return "disable"
	}
	unencrypted := func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil }
	switch tls := config.ConnConfig.TLSConfig; {
	case !tls.InsecureSkipVerify:
		return "verify-full"
	case tls.VerifyPeerCertificate != nil:
		return "verify-ca"
	case slices.ContainsFunc(config.ConnConfig.Fallbacks, unencrypted):
		return "prefer"
	}
	return "require"
}
