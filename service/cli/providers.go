package cli

import (
	"errors"
	"fmt"

	"postern/neon"
	"postern/service"
	"postern/service/identity"
	"postern/service/local"
	"postern/supabase"
)

// userRoles are the database roles that users write as, whichever the provider.
var userRoles = supabase.Roles

// projectOf is the provider's project for a throwaway database: that of a flag, or else
// of the configuration.
func projectOf(cfg service.Config, flag string) (local.Project, error) {
	switch {
	case flag == supabase.Project.Name:
		return supabase.Project, nil
	case flag == neon.Project.Name:
		return neon.Project, nil
	case flag != "":
		return local.Project{}, fmt.Errorf("--provider=%q is neither supabase nor neon", flag)
	case cfg.NeonAuthURL != "" && cfg.SupabaseURL == "":
		return neon.Project, nil
	}
	return supabase.Project, nil
}

// issuers turns the configuration into the parties whose tokens are accepted.
func issuers(cfg service.Config) ([]identity.Issuer, error) {
	var (
		list     []identity.Issuer
		problems []error
	)
	add := func(i identity.Issuer, err error) {
		i.Anonymous = cfg.AnonymousUsers == "allow"
		if err == nil {
			err = i.Validate()
		}
		if err != nil {
			problems = append(problems, err)
			return
		}
		list = append(list, i)
	}
	if cfg.SupabaseURL != "" {
		i, err := supabase.Issuer(cfg.SupabaseURL)
		if cfg.SupabaseJWTSecret != "" {
			i.Secret = []byte(cfg.SupabaseJWTSecret)
		}
		if err == nil && cfg.SupabasePublishableKey != "" {
			i.Introspect = supabase.Introspect(i.Issuer, cfg.SupabasePublishableKey)
		}
		i.CheckSessions = cfg.SupabaseSessions == "check"
		add(i, err)
	}
	if cfg.NeonAuthURL != "" {
		add(neon.Issuer(cfg.NeonAuthURL))
	}
	if cfg.Issuer != "" {
		add(identity.Issuer{
			Issuer: cfg.Issuer, KeySetURL: cfg.KeySetURL, Audience: cfg.Audience,
			Algorithms: identity.AsymmetricAlgorithms,
			Roles:      userRoles, Role: userRoles[0],
		}, nil)
	}
	return list, errors.Join(problems...)
}
