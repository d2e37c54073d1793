package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"postern/service/identity"
)

const keySetPath = "/.well-known/jwks.json"

// keySetAge is how long the key set of minted tokens may be cached. The PowerSync Service
// fetches it every 5 minutes.
const keySetAge = "public, max-age=300"

// forPowerSync is what a device needs to connect to the PowerSync Service.
type forPowerSync struct {
	who     identity.Identity
	token   string
	expires time.Time
	minted  bool // the token is Postern's own
}

// credentials returns a token for the PowerSync Service: the request's own if the
// PowerSync Service can accept it, or else a minted one if there is a signing key.
func (s *Service) credentials(c *fiber.Ctx) error {
	f, err := s.tokenForPowerSync(c)
	if err != nil {
		return err
	}
	answer := fiber.Map{
		"endpoint":   s.cfg.powerSyncURL(),
		"token":      f.token,
		"expires_at": f.expires.UTC().Format(time.RFC3339),
		"user_id":    f.who.Subject,
	}
	if f.minted {
		answer["minted"] = true
	}
	return c.JSON(answer)
}

// olderCredentials is credentials in the form of PowerSync's older demos: powersync_url is
// what those for Node.js read, and the last two what that for Flutter reads. All values are
// strings, because that for .NET reads nothing else.
func (s *Service) olderCredentials(c *fiber.Ctx) error {
	f, err := s.tokenForPowerSync(c)
	if err != nil {
		return err
	}
	url := s.cfg.powerSyncURL()
	return c.JSON(fiber.Map{"token": f.token, "powersync_url": url, "powerSyncUrl": url, "userId": f.who.Subject})
}

func (s *Service) tokenForPowerSync(c *fiber.Ctx) (f forPowerSync, err error) {
	c.Set(fiber.HeaderCacheControl, "no-store")
	ctx, cancel := requestContext()
	defer cancel()
	if f.who, f.token, err = s.authenticate(ctx, c); err != nil {
		return f, err
	}
	if !time.Now().Before(f.who.ExpiresAt) { // accepted within the leeway, and of no use to another server
		return f, &identity.Refusal{Kind: identity.Expired, Issuer: f.who.Issuer, KeyID: f.who.KeyID}
	}
	if s.cfg.PowerSyncURL == "" {
		return f, fiber.NewError(fiber.StatusNotImplemented, "the server has no POWERSYNC_URL: set it to the URL of your PowerSync instance")
	}
	// A team that has made a signing key need not share the issuer's secret any more.
	mismatch := s.verifier.PowerSyncMismatch(f.who, s.cfg.PowerSyncAudience, s.minter == nil)
	switch {
	case mismatch == "":
		f.expires = f.who.ExpiresAt
	case s.minter == nil:
		return f, fiber.NewError(fiber.StatusUnprocessableEntity, mismatch+". Or let Postern sign tokens for the PowerSync Service: `postern token keygen` says how")
	default:
		f.minted = true
		f.token, f.expires, err = s.minter.Mint(f.who, time.Now())
		requestLogger(c).Debug("minted a token for the PowerSync Service", "subject", f.who.Subject, "reason", mismatch)
	}
	return f, err
}

// keySet answers with the keys of minted tokens. Its route exists only if there are some.
func (s *Service) keySet(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, keySetAge)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(s.minter.KeySet())
}

// logTokens logs which tokens the PowerSync Service gets.
func (s *Service) logTokens(issuers []identity.Issuer) {
	withSecret := slices.ContainsFunc(issuers, func(i identity.Issuer) bool { return i.Secret != nil })
	switch {
	case s.minter != nil:
		s.logger.Info("tokens are minted for users whose own token the PowerSync Service does not accept; its client_auth needs the key set and the audience",
			"key_set", keySetPath, "audience", s.cfg.mintedAudience(), "lifetime", s.cfg.TokenLifetime, "claims", s.cfg.TokenClaims, "kids", s.minter.KeyIDs())
	case withSecret && s.cfg.PowerSyncURL != "":
		s.logger.Info("HS256 tokens are forwarded to the PowerSync Service, which needs the project's secret as its client_auth.supabase_jwt_secret")
	}
}

// powerSyncURL is POWERSYNC_URL without a slash at the end, which the JavaScript SDK
// refuses.
func (c Config) powerSyncURL() string { return strings.TrimRight(c.PowerSyncURL, "/") }

// mintedAudience is the aud claim of minted tokens. PowerSync Cloud accepts the instance's
// own URL without being configured.
func (c Config) mintedAudience() []string {
	if len(c.PowerSyncAudience) > 0 {
		return c.PowerSyncAudience
	}
	return []string{c.powerSyncURL()}
}

// minter returns what signs tokens for the PowerSync Service, or nil if there is no
// signing key. Its error has all problems. None quotes a key.
func (c Config) minter() (*identity.Minter, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.SigningKey == "" {
		if c.SecondKey != "" || len(c.TokenClaims) > 0 {
			problem("POSTERN_SECOND_KEY and POSTERN_TOKEN_CLAIMS have no effect without POSTERN_SIGNING_KEY: set it to the key that `postern token keygen` prints")
		}
		return nil, errors.Join(problems...)
	}
	minting := identity.Minting{Audience: c.mintedAudience(), Claims: c.TokenClaims}
	for _, key := range []struct{ name, text string }{{"POSTERN_SIGNING_KEY", c.SigningKey}, {"POSTERN_SECOND_KEY", c.SecondKey}} {
		if key.text == "" {
			continue
		}
		parsed, err := identity.ParseSigningKey(key.text)
		if err != nil {
			problem("%s %w: set it to a P-256 key in PEM or as a JWK, such as `postern token keygen` prints", key.name, err)
		}
		minting.Keys = append(minting.Keys, parsed)
	}
	if len(problems) == 0 && !minting.Keys[0].CanSign() {
		problem("POSTERN_SIGNING_KEY has the public half of a key: set it to the private one")
	}
	if len(problems) == 0 && len(minting.Keys) == 2 && minting.Keys[0].ID == minting.Keys[1].ID {
		problem("POSTERN_SIGNING_KEY and POSTERN_SECOND_KEY have the same kid: leave POSTERN_SECOND_KEY out, or set it to another key")
	}
	if c.PowerSyncURL == "" {
		problem("POSTERN_SIGNING_KEY has no effect without POWERSYNC_URL: set it to your instance's URL")
	}
	var err error
	if minting.Lifetime, err = time.ParseDuration(c.TokenLifetime); err != nil || minting.Lifetime < identity.MinTokenLifetime || minting.Lifetime > identity.MaxTokenLifetime {
		problem("POSTERN_TOKEN_LIFETIME=%q is not a duration from 1m to 24h: write 15m or 1h", c.TokenLifetime)
	}
	for _, name := range c.TokenClaims {
		if name == "" || slices.Contains(identity.ReservedClaims, name) {
			problem("POSTERN_TOKEN_CLAIMS: %q is not a claim that can be copied: write names such as email or app_metadata; sub is always there", name)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return identity.NewMinter(minting)
}
