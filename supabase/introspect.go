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

// Introspect asks the Auth server of issuer, as Issuer names it, about a token:
// GET /auth/v1/user, the only place that sees that a user has signed out or was
// banned. It answers within 5 s. The publishable key (or the legacy anon key)
// only opens the API's door.
//
// A token is refused where Supabase Auth itself says so. The gateway before it
// has the same statuses for a wrong key or a blocked address, which say nothing
// about the token and are errors here.
//
// See https://supabase.com/docs/guides/auth/sessions.
func Introspect(issuer, publishableKey string) identity.Introspect {
	project := strings.TrimSuffix(issuer, authPath)
	return func(ctx context.Context, token string) (subject string, err error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		// A client of its own for each question: the library's cannot be shared
		// between users, and takes no context.
		client, err := supabase.NewClient(project, publishableKey, &supabase.ClientOptions{
			Headers: map[string]string{"Authorization": "Bearer " + token},
		})
		if err != nil {
			return "", fmt.Errorf("SUPABASE_PUBLISHABLE_KEY: %w", err)
		}
		question := &exchange{ctx: ctx}
		user, err := client.Auth.WithToken(token).WithClient(http.Client{
			Transport: question,
			// A redirect would take the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}).GetUser()
		switch {
		case question.status == 0:
			return "", err // which names the address, and no header
		case question.status == http.StatusUnauthorized, question.status == http.StatusForbidden:
			return "", question.refusal()
		case question.status != http.StatusOK:
			return "", fmt.Errorf("Supabase Auth answered with status %d", question.status)
		case err != nil || user.ID == uuid.Nil:
			return "", errors.New("Supabase Auth answered with something else than a user")
		case user.BannedUntil != nil && user.BannedUntil.After(time.Now()):
			return "", identity.ErrRefused
		}
		return user.ID.String(), nil
	}
}

// exchange is the one request of a client, bound to a context and in size. It
// keeps the answer, of which the library gives only a text.
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

// refusal tells Supabase Auth's no from the gateway's: only the former has msg.
func (e *exchange) refusal() error {
	var answer struct {
		Msg     string `json:"msg"`     // Supabase Auth
		Message string `json:"message"` // the gateway
	}
	if err := json.Unmarshal(e.body, &answer); err == nil && answer.Msg != "" {
		return identity.ErrRefused
	}
	if strings.Contains(strings.ToLower(answer.Message), "api key") {
		return errors.New("Supabase does not take the API key: copy SUPABASE_PUBLISHABLE_KEY again from the project's API Keys page")
	}
	return fmt.Errorf("Supabase's gateway answered with status %d", e.status)
}
