package supabase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/supabase-community/supabase-go"

	"postern/service/identity"
)

const (
	askTimeout     = 5 * time.Second
	maxAnswerBytes = 1 << 20
)

// Introspect asks Supabase Auth about a token, by GET /auth/v1/user. No other check
// sees that a user has signed out or was banned. issuer is the one that Issuer
// returns. The publishable key, or the legacy anon key, gives access to the API and
// no rights beyond that. A question takes at most 5 s.
//
// The result is identity.ErrRefused if Supabase Auth itself refuses the token. The
// gateway in front of it uses the same statuses for a wrong key or a blocked
// address; they say nothing about the token, so they are other errors.
//
// See https://supabase.com/docs/guides/auth/sessions.
func Introspect(issuer, publishableKey string) identity.Introspect {
	project := strings.TrimSuffix(issuer, authPath)
	return func(ctx context.Context, token string) (subject string, err error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		// Each question has its own client, because the library's client cannot be
		// shared between users and takes no context.
		client, err := supabase.NewClient(project, publishableKey, &supabase.ClientOptions{
			Headers: map[string]string{"Authorization": "Bearer " + token},
		})
		if err != nil {
			return "", fmt.Errorf("SUPABASE_PUBLISHABLE_KEY: %w", err)
		}
		question := &exchange{ctx: ctx}
		user, err := client.Auth.WithToken(token).WithClient(http.Client{
			Transport: question,
			// A redirect would send the token to another address.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}).GetUser()
		switch {
		case question.status == 0:
			return "", err // it names the address, and no header
		case question.status == http.StatusUnauthorized, question.status == http.StatusForbidden:
			return "", question.refusal()
		case question.status != http.StatusOK:
			return "", fmt.Errorf("Supabase Auth answered with status %d", question.status)
		case err != nil || user.ID == uuid.Nil:
			return "", errors.New("Supabase Auth answered with something other than a user")
		case user.BannedUntil != nil && user.BannedUntil.After(time.Now()):
			return "", identity.ErrRefused
		}
		return user.ID.String(), nil
	}
}

// exchange is the one request of a client, with a context and a limit on the size of
// the answer. It keeps the answer, because the library returns only an error text.
type exchange struct {
	ctx    context.Context
	status int // 0 until there is an answer
	body   []byte
}

func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r.WithContext(e.ctx))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return nil, err
	}
	e.status, e.body = response.StatusCode, body
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// refusal tells Supabase Auth's answer from the gateway's: only the first has msg.
func (e *exchange) refusal() error {
	var answer struct {
		Msg     string `json:"msg"`     // Supabase Auth
		Message string `json:"message"` // the gateway
	}
	if err := json.Unmarshal(e.body, &answer); err == nil && answer.Msg != "" {
		return identity.ErrRefused
	}
	if strings.Contains(strings.ToLower(answer.Message), "api key") {
		return errors.New("Supabase does not accept the API key: copy SUPABASE_PUBLISHABLE_KEY again from the project's API Keys page")
	}
	return fmt.Errorf("Supabase's gateway answered with status %d", e.status)
}
