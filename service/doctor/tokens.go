package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postern/service/identity"
)

func checkKeySets(ctx context.Context, e *examination) error {
	for _, i := range e.Issuers {
		report, err := i.Inspect(ctx, e.Transport)
		if err != nil {
			e.fail("curl -i "+orDiscovery(i), "the key set of %s cannot be fetched: %v", i.Issuer, err)
			continue
		}
		for _, key := range report.LeftOut {
			e.warn("remove the key at the issuer, or replace it with an ES256 one", "a key of %s is not used: %s", i.Issuer, key)
		}
		checkAlgorithms(e, i, report)
		if skew := report.Skew.Abs(); skew > identity.Leeway {
			e.fail("timedatectl set-ntp true", "the clocks of this machine and of %s differ by %s, more than the allowed %s", i.Issuer, skew, identity.Leeway)
		}
	}
	return nil
}

func checkAlgorithms(e *examination, i identity.Issuer, report identity.KeySetReport) {
	legacy := i.Secret != nil || i.Introspect != nil
	if len(report.Keys) == 0 {
		if !legacy {
			e.fail(orSentence(i.Hints.SigningKey, "configure the issuer to sign with an ES256 key"), "%s publishes no usable key, so no token can be verified", i.Issuer)
		}
		return
	}
	if slices.ContainsFunc(report.Keys, func(k identity.KeyReport) bool {
		return k.Algorithm == "" || slices.Contains(i.Algorithms, k.Algorithm)
	}) {
		return
	}
	e.fail(orSentence(i.Hints.SigningKey, "configure the issuer to sign with one of these"), "%s signs with %s, and Postern accepts %v from it", i.Issuer, report.Keys[0].Algorithm, i.Algorithms)
}

func orDiscovery(i identity.Issuer) string {
	if i.KeySetURL != "" {
		return i.KeySetURL
	}
	return strings.TrimSuffix(i.Issuer, "/") + "/.well-known/openid-configuration"
}

func orSentence(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// checkAudiences compares the audiences of the issuers' tokens with those of the PowerSync
// Service. With a token, checkToken compares that one's.
func checkAudiences(_ context.Context, e *examination) error {
	if e.PowerSyncURL == "" || len(e.PowerSyncAudience) == 0 || e.Minter != nil || e.Token != "" {
		return nil
	}
	for _, i := range e.Issuers {
		if i.Secret == nil && !slices.ContainsFunc(i.Audience, func(a string) bool { return slices.Contains(e.PowerSyncAudience, a) }) {
			e.warn("postern doctor --token <a user's token>, which says whether the PowerSync Service accepts it; or postern token keygen",
				"the tokens of %s have the audience %q, and POWERSYNC_AUDIENCE is %q", i.Issuer, i.Audience, e.PowerSyncAudience)
		}
	}
	return nil
}

// checkToken verifies the token as a request's, and tries it in the database and at the
// PowerSync Service.
func checkToken(ctx context.Context, e *examination) error {
	if e.Token == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	verifier, err := identity.NewVerifier(ctx, e.Issuers, slog.New(slog.DiscardHandler), e.Now)
	if err != nil {
		return err
	}
	verifier.Await(ctx) // an issuer that does not answer is checkKeySets' finding
	who, err := verifier.Verify(ctx, e.Token)
	if err != nil {
		e.fail("compare the token's iss, aud, role and exp with the output of `postern config`", "Postern refuses the token: %v", err)
		return nil
	}
	if mismatch := verifier.PowerSyncMismatch(who, e.PowerSyncAudience, e.Minter == nil); e.PowerSyncURL != "" && mismatch != "" && e.Minter == nil {
		e.fail("postern token keygen > key.json, and set POSTERN_SIGNING_KEY to it", "%s", mismatch)
	}
	if e.snapshot != nil {
		return trySubject(ctx, e, who)
	}
	return nil
}

// trySubject calls auth.uid() as the token's user, and rolls back.
func trySubject(ctx context.Context, e *examination, who identity.Identity) error {
	tx, err := e.DB.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var exists bool
	if err := tx.QueryRow(ctx, `select exists (`+authUID+`)`).Scan(&exists); err != nil || !exists {
		return err
	}
	claims, err := json.Marshal(map[string]string{"sub": who.Subject, "iss": who.Issuer, "role": who.Role})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `select set_config('request.jwt.claims', $1, true)`, string(claims))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `set local role `+pgx.Identifier{who.Role}.Sanitize()); err != nil {
		return nil //nolint:nilerr // it is checkRoles' finding
	}
	_, err = tx.Exec(ctx, `select auth.uid()`)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		e.fail("use auth.jwt() ->> 'sub' (text) in row-level security and in columns, or configure the issuer to use UUIDs", "auth.uid() fails for the token's sub: %s", pg.Message)
		return nil
	}
	return err
}

// checkPowerSync asks the PowerSync Service whether it is there, and whether it accepts
// the token and a minted one.
func checkPowerSync(ctx context.Context, e *examination) error {
	if e.PowerSyncURL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	base := strings.TrimRight(e.PowerSyncURL, "/")
	status, _, err := ask(ctx, e, http.MethodGet, base+"/probes/liveness", "", "")
	switch {
	case err != nil:
		e.fail("curl -i "+base+"/probes/liveness", "the PowerSync Service cannot be reached: %v", withoutAddress(err))
		return nil
	case status != http.StatusOK:
		e.warn("copy POWERSYNC_URL from the PowerSync dashboard", "POWERSYNC_URL answers with status %d, as a PowerSync Service would not", status)
	}
	if err := tryMinted(ctx, e, base); err != nil || e.Token == "" {
		return err
	}
	refusal, err := tryStream(ctx, e, base, e.Token)
	switch {
	case err != nil || refusal == "":
		return err
	case e.Minter != nil:
		e.note("use the token of GET /api/credentials", "the PowerSync Service refuses the token; Postern mints another one for it")
	default:
		e.fail("compare Client Auth in the PowerSync dashboard (jwks_uri, audience) with the issuer's", "the PowerSync Service refuses the token: %s", refusal)
	}
	return nil
}

// tryMinted tries a token that Postern mints for a user who does not exist. It lives as
// short as a minted token can.
func tryMinted(ctx context.Context, e *examination, base string) error {
	if e.Minter == nil {
		return nil
	}
	now := e.Now()
	nobody := identity.Identity{Issuer: "postern-doctor", Subject: "postern-doctor", Claims: []byte(`{}`), ExpiresAt: now.Add(identity.MinTokenLifetime)}
	token, _, err := e.Minter.Mint(nobody, now)
	if err != nil {
		return err
	}
	refusal, err := tryStream(ctx, e, base, token)
	if err == nil && refusal != "" {
		e.fail(fmt.Sprintf(`give the PowerSync Service Postern's key set (powersync.yaml, or Client Auth in its dashboard), and wait until it fetches the set:
client_auth:
  jwks_uri: https://<your Postern>/.well-known/jwks.json
  audience: ["%s"]`, strings.Join(e.Minter.Audience(), `", "`)),
			"the PowerSync Service refuses the tokens that Postern mints with POSTERN_SIGNING_KEY, so users whose own token it does not accept do not sync: %s", refusal)
	}
	return err
}

// tryStream begins to sync with a token. The refusal is empty if the PowerSync Service
// accepts it.
func tryStream(ctx context.Context, e *examination, base, token string) (refusal string, err error) {
	status, body, err := ask(ctx, e, http.MethodPost, base+"/sync/stream", token, `{"buckets":[],"include_checksum":true,"raw_data":true,"client_id":"postern-doctor"}`)
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Sprintf("status %d %s", status, body), err
	}
	return "", err
}

// ask makes a request. It returns the beginning of the body of a failure.
func ask(ctx context.Context, e *examination, method, url, token, body string) (status int, begins string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: e.Transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return response.StatusCode, "", nil // a stream does not end
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, 300))
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer: %w", err)
	}
	return response.StatusCode, strings.TrimSpace(string(content)), nil
}
