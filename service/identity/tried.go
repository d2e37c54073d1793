package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// OfClaims is the user whom a token with these claims, a JSON object, would name. Nothing
// is verified: it is for those who try out what a user may do. Without a role claim, the
// role is the first of roles, which are those of users.
func OfClaims(claims jsontext.Value, roles []string) (who Identity, err error) {
	all := map[string]jsontext.Value{}
	if err := json.Unmarshal(claims, &all); err != nil {
		return who, fmt.Errorf("the claims are no JSON object: %w", err)
	}
	for name, into := range map[string]*string{"sub": &who.Subject, "role": &who.Role, "iss": &who.Issuer, "session_id": &who.SessionID} {
		if value, ok := all[name]; ok {
			if err := json.Unmarshal(value, into); err != nil {
				return who, fmt.Errorf("claim %s is no text", name)
			}
		}
	}
	if who.Subject == "" {
		return who, errors.New("the claims have no sub, so they name no user")
	}
	if who.Role == "" {
		who.Role = roles[0]
	}
	if !slices.Contains(roles, who.Role) {
		return who, fmt.Errorf("users do not write as role %q", who.Role)
	}
	who.Claims, err = json.Marshal(all, json.Deterministic(true))
	return who, err
}
