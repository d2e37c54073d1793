package service

import (
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"postern/service/identity"
)

// credentials returns the request's own token for the PowerSync Service, if the PowerSync
// Service can accept it.
func (s *Service) credentials(c *fiber.Ctx) error {
	who, token, err := s.forPowerSync(c)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{
		"endpoint":   s.powerSyncURL(),
		"token":      token,
		"expires_at": who.ExpiresAt.UTC().Format(time.RFC3339),
		"user_id":    who.Subject,
	})
}

// olderCredentials is credentials in the form of PowerSync's older demos.
func (s *Service) olderCredentials(c *fiber.Ctx) error {
	_, token, err := s.forPowerSync(c)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"token": token, "powersync_url": s.powerSyncURL()})
}

func (s *Service) forPowerSync(c *fiber.Ctx) (who identity.Identity, token string, err error) {
	c.Set(fiber.HeaderCacheControl, "no-store")
	ctx, cancel := requestContext()
	defer cancel()
	if who, token, err = s.authenticate(ctx, c); err != nil {
		return who, "", err
	}
	if !time.Now().Before(who.ExpiresAt) { // accepted within the leeway, and of no use to another server
		return who, "", &identity.Refusal{Kind: identity.Expired, Issuer: who.Issuer, KeyID: who.KeyID}
	}
	if s.cfg.PowerSyncURL == "" {
		return who, "", fiber.NewError(fiber.StatusNotImplemented, "the server has no POWERSYNC_URL: set it to the URL of your PowerSync instance")
	}
	if mismatch := identity.PowerSyncMismatch(who, s.cfg.PowerSyncAudience, s.verifier.Hints(who.Issuer)); mismatch != "" {
		return who, "", fiber.NewError(fiber.StatusUnprocessableEntity, mismatch)
	}
	return who, token, nil
}

// powerSyncURL is POWERSYNC_URL without a slash at the end, which the JavaScript SDK
// refuses.
func (s *Service) powerSyncURL() string { return strings.TrimRight(s.cfg.PowerSyncURL, "/") }
